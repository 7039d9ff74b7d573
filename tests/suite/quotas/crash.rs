//! Postgres is killed while calls come.

use pingone_unblock::{
    engine::SubmitError,
    job::{Bound, DeviceLimit, Limits, NewJob},
    store::Role,
};
use sqlx::PgPool;
use tokio::task::JoinSet;

use super::{IN_HOUR, JOBS, OF_DEVICES, actor, again, count, replica::Replica, some_job};
use crate::harness::{Result, cluster::OwnCluster, service::eventually};

const MOST: u32 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_postgres_loses_no_count() -> Result<()> {
    let mut cluster = OwnCluster::start().await?;
    let running = cluster.running().ok_or("it runs")?;
    let (url, pid) = (running.url("postgres"), running.pid());
    let (first, second) = (Replica::migrated(&url).await?, Replica::at(&url, Role::Api).await?);
    let pool = PgPool::connect(&url).await?;
    let per_device = Some(DeviceLimit { count: 3, within: super::DAY });
    let caller = actor("caller", Limits { per_hour: Some(MOST), per_device, ..Limits::default() });

    let mut calls = JoinSet::new();
    for worker in 0..16 {
        let submitter = [&first, &second][worker % 2].submitter.clone();
        let caller = caller.clone();
        calls.spawn(async move {
            // Until the bound is met, each however often it takes to know what became of it.
            loop {
                let job = some_job(&caller)?;
                loop {
                    match submitter.submit(again(&job)).await {
                        Ok(_) => break,
                        Err(SubmitError::Store(_)) => tokio::task::yield_now().await,
                        Err(SubmitError::OverQuota(over)) => {
                            assert_eq!(over.bound(), Bound::CallerHour);
                            return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(());
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        });
    }
    eventually("some are recorded", async || Ok(count(&pool, JOBS).await? > 20)).await?;
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).ok_or("no pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    cluster.restart().await?;
    for call in calls.join_all().await {
        call?;
    }
    let pool = PgPool::connect(&url).await?;
    assert_eq!(count(&pool, JOBS).await?, i64::from(MOST));
    assert_eq!(count(&pool, IN_HOUR).await?, i64::from(MOST));
    assert_eq!(count(&pool, OF_DEVICES).await?, i64::from(MOST));
    let late = NewJob { request_id: None, ..some_job(&caller)? };
    assert!(matches!(first.submitter.submit(late).await, Err(SubmitError::OverQuota(_))));
    Ok(())
}
