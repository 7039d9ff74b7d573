//! Jobs that ended long ago go, with all that hangs on them; nothing else does.

use std::time::Duration;

use pingone_unblock::{
    device::EnvironmentId,
    job::{Actor, JobId},
    proto::v1::{self, job::State},
    simulator::{Fault, RetryAfter},
    store::{Redrive, Redriven},
};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        database::Database,
        service::{
            ENVIRONMENT, Service, Variant, World, eventually, request, request_without_wait, some_device,
            wire,
        },
    },
    unblock::reason,
};

pub(crate) const KEEP: Duration = Duration::from_secs(3600);
pub(crate) const TABLES: [&str; 6] = ["job", "ready", "outcome", "attempt", "redrive", "cancellation"];

/// The id as if it had been made so much earlier.
pub(crate) fn earlier(id: JobId, by: Duration) -> Result<JobId> {
    let mut bytes = *id.as_uuid().as_bytes();
    let millis = bytes[..6].iter().fold(0_u64, |millis, byte| millis << 8 | u64::from(*byte));
    let earlier = (millis - u64::try_from(by.as_millis())?).to_be_bytes();
    bytes[..6].copy_from_slice(&earlier[2..]);
    Ok(Uuid::from_bytes(bytes).into())
}

/// Makes a job two hours older; its end, too, unless it ended just now.
async fn age(pool: &PgPool, id: &str, its_end_too: bool) -> Result<String> {
    let id = JobId::parse(id)?;
    let older = earlier(id, 2 * KEEP)?;
    for table in TABLES {
        let change = format!("update {table} set job_id = $1 where job_id = $2");
        sqlx::query(AssertSqlSafe(change)).bind(older.as_uuid()).bind(id.as_uuid()).execute(pool).await?;
    }
    if its_end_too {
        sqlx::query("update outcome set completed_at = completed_at - interval '2 h' where job_id = $1")
            .bind(older.as_uuid())
            .execute(pool)
            .await?;
    }
    Ok(older.to_string())
}

/// How many rows each table has of a job.
async fn rows(pool: &PgPool, id: &str) -> Result<[i64; 6]> {
    let mut found = [0; 6];
    for (found, table) in found.iter_mut().zip(TABLES) {
        let count = format!("select count(*) from {table} where job_id = $1");
        *found = sqlx::query_scalar(AssertSqlSafe(count)).bind(Uuid::try_parse(id)?).fetch_one(pool).await?;
    }
    Ok(found)
}

async fn submit(world: &World, faults: Vec<Fault>, request_id: &str) -> Result<v1::Job> {
    let device = some_device()?;
    world.simulator().fault(device.device, faults);
    let asked =
        v1::UnblockRequest { request_id: request_id.to_owned(), ..request_without_wait(wire(&device)) };
    Ok(world.service.unblock(asked).await?.job.ok_or("no job")?)
}

async fn ended(world: &World, faults: Vec<Fault>, state: State) -> Result<String> {
    let job = submit(world, faults, "").await?;
    Ok(world.service.job_in(&job.job_id, &[state]).await?.job_id)
}

async fn redrive(world: &World, id: &str) -> Result<()> {
    let asked = v1::RetryJobRequest { job_id: id.to_owned(), ..v1::RetryJobRequest::default() };
    world.service.jobs.clone().retry_job(asked).await?;
    Ok(())
}

fn waits() -> Fault {
    Fault::retry_after(503, RetryAfter::Seconds(600))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_long_ago_goes_whole_and_everything_else_stays() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let device = some_device()?;
    let repeated = v1::UnblockRequest { request_id: "case-1".to_owned(), ..request(wire(&device)) };
    let succeeded = world.service.unblock(repeated.clone()).await?.job.ok_or("no job")?.job_id;
    let failed_twice = ended(&world, vec![Fault::status(404), Fault::status(404)], State::Failed).await?;
    redrive(&world, &failed_twice).await?;
    eventually("its second run ends", async || {
        let job = world.service.job(&failed_twice).await?;
        Ok((job.run, job.state()) == (2, State::Failed))
    })
    .await?;
    let cancelled = submit(&world, vec![waits()], "").await?.job_id;
    eventually("it waits for its second attempt", async || {
        Ok(world.service.job(&cancelled).await?.error.is_some())
    })
    .await?;
    let cancel = v1::CancelJobRequest { job_id: cancelled.clone(), reason: String::new() };
    world.service.jobs.clone().cancel_job(cancel).await?;

    let young = ended(&world, vec![], State::Succeeded).await?;
    let ended_late = ended(&world, vec![], State::Succeeded).await?;
    let unfinished = submit(&world, vec![waits()], "").await?.job_id;
    let redriven = ended(&world, vec![Fault::status(404), waits()], State::Failed).await?;
    redrive(&world, &redriven).await?;
    eventually("both wait", async || {
        let (first, second) = (world.service.job(&unfinished).await?, world.service.job(&redriven).await?);
        Ok(first.error.is_some() && second.run == 2 && second.error.is_some())
    })
    .await?;

    world.service.stop().await?;
    let mut due = Vec::new();
    for id in [&succeeded, &failed_twice, &cancelled] {
        due.push(age(&pool, id, true).await?);
    }
    assert_eq!(rows(&pool, &due[1]).await?, [1, 0, 2, 3, 1, 0]);
    assert_eq!(rows(&pool, &due[2]).await?, [1, 0, 1, 1, 0, 1]);
    let stay = [
        young,
        age(&pool, &ended_late, false).await?,
        age(&pool, &unfinished, true).await?,
        age(&pool, &redriven, true).await?,
    ];
    let mut before = Vec::new();
    for id in &stay {
        before.push(rows(&pool, id).await?);
    }

    let variant = Variant { retention: KEEP, ..Variant::default() };
    let service = Service::start(world.database.url(), &world.pingone, variant).await?;
    for id in &due {
        eventually("it is forgotten", async || Ok(rows(&pool, id).await? == [0; 6])).await?;
    }
    for (id, before) in stay.iter().zip(before) {
        assert_eq!(rows(&pool, id).await?, before);
        service.job(id).await?;
    }
    let asked = v1::GetJobRequest { job_id: due[0].clone() };
    let gone = service.jobs.clone().get_job(asked).await.err().ok_or("it is still there")?;
    assert_eq!(reason(&gone), "JOB_NOT_FOUND");

    let again = service.unblock(repeated).await?;
    assert!(!again.replayed, "its request id is free again");
    assert_ne!(again.job.ok_or("no job")?.job_id, due[0]);
    service.stop().await
}

/// A job that failed two hours ago, as the service would have recorded it.
async fn old_job(pool: &PgPool, environment: EnvironmentId) -> Result<JobId> {
    let id = earlier(JobId::new(environment.lane()), 2 * KEEP)?;
    let job = "insert into job (lane, job_id, environment_id, user_id, device_id, caller, reason, ticket, on_behalf_of,
                                priority, created_at, expires_at)
               values ($1, $2, $3, $2, $2, 'someone', '', '', '', 1, now() - interval '2 h', now() - interval '1 h')";
    sqlx::query(job)
        .bind(id.lane().number())
        .bind(id.as_uuid())
        .bind(environment.as_uuid())
        .execute(pool)
        .await?;
    let outcome = "insert into outcome (lane, job_id, run, state, attempt, spared, completed_at)
                   values ($1, $2, 1, 4, 1, 0, now() - interval '2 h')";
    sqlx::query(outcome).bind(id.lane().number()).bind(id.as_uuid()).execute(pool).await?;
    Ok(id)
}

#[tokio::test]
async fn a_lane_is_walked_in_small_steps_from_the_oldest_on() -> Result<()> {
    let database = Database::create().await?;
    let (store, pool) = (database.store()?, database.pool().await?);
    let environment = EnvironmentId::parse(ENVIRONMENT)?;
    for _ in 0..5 {
        old_job(&pool, environment).await?;
    }
    let floor = store.find_retention_floor(KEEP).await?;
    let (mut after, mut steps) = (Uuid::nil(), Vec::new());
    loop {
        let jobs = store.find_old_jobs(environment.lane(), after, floor, 2).await?;
        let Some(last) = jobs.last() else { break };
        steps.push(store.forget_jobs(&jobs, KEEP).await?);
        after = last;
    }
    assert_eq!(steps, [2, 2, 1]);
    let left: i64 = sqlx::query_scalar("select count(*) from job").fetch_one(&pool).await?;
    assert_eq!(left, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_and_the_end_of_its_job_exclude_each_other() -> Result<()> {
    let database = Database::create().await?;
    let (store, pool) = (database.store()?, database.pool().await?);
    let environment = EnvironmentId::parse(ENVIRONMENT)?;
    let mut seen = [0, 0];
    // Of three rounds one is a race, and each of the two goes first in one: so all is seen on any machine.
    for round in 0..30 {
        let mut ids = Vec::new();
        for _ in 0..8 {
            ids.push(old_job(&pool, environment).await?);
        }
        let floor = store.find_retention_floor(KEEP).await?;
        let jobs = store.find_old_jobs(environment.lane(), Uuid::nil(), floor, 500).await?;
        if round % 3 == 0 {
            store.forget_jobs(&jobs, KEEP).await?;
        }
        let redrives: Vec<_> = ids
            .iter()
            .map(|id| {
                let wish = Redrive {
                    id: *id,
                    expected_run: None,
                    time_to_live: KEEP,
                    actor: Actor::anonymous(),
                    reason: String::new(),
                    ticket: String::new(),
                };
                let store = store.clone();
                tokio::spawn(async move { store.redrive(&wish).await })
            })
            .collect();
        if round % 3 == 1 {
            while !redrives.iter().all(tokio::task::JoinHandle::is_finished) {
                tokio::task::yield_now().await;
            }
        }
        store.forget_jobs(&jobs, KEEP).await?;
        for (id, redrive) in ids.iter().zip(redrives) {
            let redriven = redrive.await??;
            let left = rows(&pool, &id.to_string()).await?;
            match redriven {
                Redriven::Begun => {
                    seen[0] += 1;
                    assert_eq!(left, [1, 1, 1, 0, 1, 0]);
                }
                Redriven::Unknown => {
                    seen[1] += 1;
                    assert_eq!(left, [0; 6]);
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "the two never met: {seen:?}");
    Ok(())
}
