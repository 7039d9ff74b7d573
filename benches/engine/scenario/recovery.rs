//! One of two replicas is killed while it has jobs waiting and jobs in flight.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    goal::Goal,
    names,
    outcome::{Detail, Outcome},
    pingone::Behaviour,
    service::Limits,
    stage::{Bench, Stage},
};

const ENVIRONMENTS: u32 = 64;
/// Enough to last beyond the recovery: 4 in flight, half a second each.
const JOBS: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(120);

/// The jobs of the killed replica at that moment.
struct Orphans {
    killed_at: OffsetDateTime,
    lanes: Vec<i16>,
    in_flight: Vec<Uuid>,
}

/// Until its waiting jobs move elsewhere, and until those in flight are done.
pub(super) async fn killed(bench: &Bench) -> Result<Outcome> {
    let behaviour = Behaviour { latency: Duration::from_millis(500), ..Behaviour::default() };
    let mut stage = Stage::set(bench, behaviour, Limits::unlimited(4)).await?;
    let jobs = bench.full_or_quick(JOBS, 150);
    for number in 0..ENVIRONMENTS {
        stage.database.fill(names::environment(u64::from(number)), names::user(), jobs).await?;
    }
    stage.database.settle().await?;
    stage.enter().await?;
    stage.enter().await?;
    shared(stage.database.pool()).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let orphans = orphans(stage.database.pool()).await?;
    ensure!(!orphans.in_flight.is_empty(), "the replica to kill has nothing in flight");
    stage.replicas.remove(0).kill().await?;
    stage.database.drained(PATIENCE).await?;
    let waiting = until_waiting_move(stage.database.pool(), &orphans).await?;
    let in_flight = until_in_flight_done(stage.database.pool(), &orphans).await?;

    let total = u64::from(jobs) * u64::from(ENVIRONMENTS);
    let (progress, counts) = (stage.database.progress().await?, stage.pingone.counts().await?);
    ensure!(progress.succeeded as u64 == total, "jobs were lost: {progress:?}");
    let repeated = counts.posts - total;
    ensure!(repeated <= orphans.in_flight.len() as u64 * 2, "{repeated} POSTs were repeated: {counts:?}");
    stage.strike().await?;
    let detail = Detail::new("kill -9 of one of two", total, waiting.max(in_flight));
    Ok(Outcome::default()
        .with(Goal::RecoveryWaiting, waiting)
        .with(Goal::RecoveryInFlight, in_flight)
        .detailed(detail))
}

/// Waits until both replicas have lanes with jobs in flight.
async fn shared(pool: &PgPool) -> Result<()> {
    let begun = Instant::now();
    let owners = "
        select count(distinct owner) from lane
        where lane in (select lane from ready where lane >= 0 and lease_until > now())
    ";
    while sqlx::query_scalar::<_, i64>(owners).fetch_one(pool).await? < 2 {
        ensure!(begun.elapsed() < PATIENCE, "the replicas do not share the lanes");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// What the older replica has, which is killed right after.
async fn orphans(pool: &PgPool) -> Result<Orphans> {
    let mut transaction = pool.begin().await?;
    let owner: Uuid = sqlx::query_scalar("select replica_id from replica order by started_at limit 1")
        .fetch_one(&mut *transaction)
        .await?;
    let lanes = sqlx::query_scalar("select lane from lane where owner = $1")
        .bind(owner)
        .fetch_all(&mut *transaction)
        .await?;
    let in_flight =
        sqlx::query_scalar("select job_id from ready where lane = any($1) and lease_until > now()")
            .bind(&lanes)
            .fetch_all(&mut *transaction)
            .await?;
    let killed_at = sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut *transaction).await?;
    Ok(Orphans { killed_at, lanes, in_flight })
}

/// Seconds until each of its environments had a job done that was not in flight.
async fn until_waiting_move(pool: &PgPool, orphans: &Orphans) -> Result<f64> {
    let longest = "
        select max(seconds) from (
            select extract(epoch from min(outcome.completed_at) - $1)::float8 as seconds
            from outcome join job using (lane, job_id)
            where lane = any($2) and job_id <> all($3) and completed_at > $1 + interval '1 second'
            group by environment_id
        ) as each
    ";
    let seconds: Option<f64> = sqlx::query_scalar(longest)
        .bind(orphans.killed_at)
        .bind(&orphans.lanes)
        .bind(&orphans.in_flight)
        .fetch_one(pool)
        .await?;
    seconds.context("nothing was left to do when the replica was killed")
}

async fn until_in_flight_done(pool: &PgPool, orphans: &Orphans) -> Result<f64> {
    let longest = "
        select extract(epoch from max(completed_at) - $1)::float8 from outcome where lane = any($2) and job_id = any($3)
    ";
    let seconds: Option<f64> = sqlx::query_scalar(longest)
        .bind(orphans.killed_at)
        .bind(&orphans.lanes)
        .bind(&orphans.in_flight)
        .fetch_one(pool)
        .await?;
    seconds.context("no job in flight was done")
}
