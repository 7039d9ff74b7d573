//! The service's database, as the benchmark fills and reads it.

use std::{
    str::FromStr as _,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use pingone_unblock::device::EnvironmentId;
use sqlx::{
    Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

const POLL: Duration = Duration::from_millis(50);

/// Connections to it.
pub(crate) struct Database {
    pool: PgPool,
    url: String,
}

/// How far the jobs have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Progress {
    pub(crate) jobs: i64,
    pub(crate) waiting: i64,
    pub(crate) succeeded: i64,
    pub(crate) otherwise: i64,
}

impl Database {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)?.application_name("benchmark");
        Ok(Self {
            pool: PgPoolOptions::new().max_connections(3).connect_with(options).await?,
            url: url.to_owned(),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// From now on nothing is sent.
    pub(crate) async fn pause(&self) -> Result<()> {
        let pause =
            "update global_pause set paused_at = now(), paused_by = 'benchmark', pause_reason = 'benchmark'";
        self.pool.execute(pause).await?;
        Ok(())
    }

    pub(crate) async fn resume(&self) -> Result<()> {
        let resume = "update global_pause set paused_at = null, paused_by = null, pause_reason = null";
        self.pool.execute(resume).await?;
        Ok(())
    }

    /// Queues so many bulk jobs of an environment, each of another device.
    pub(crate) async fn fill(&self, environment: Uuid, user: Uuid, jobs: u32) -> Result<()> {
        let lane = EnvironmentId::from(environment).lane().number();
        // As the first submit of an environment does: by this row its owner finds it.
        sqlx::query("insert into environment (lane, environment_id) values ($1, $2) on conflict do nothing")
            .bind(lane)
            .bind(environment)
            .execute(&self.pool)
            .await?;
        sqlx::query(
            r"
            with made as (
                insert into job (lane, job_id, environment_id, user_id, device_id, caller, request_id, reason, ticket,
                                 on_behalf_of, priority, created_at, expires_at)
                select $1,
                       -- A UUIDv7 whose last byte is the lane; the number keeps ids of one millisecond apart, in order.
                       (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '70008'
                        || lpad(to_hex(n), 13, '0') || lpad(to_hex($1::int), 2, '0'))::uuid,
                       $2, $3, gen_random_uuid(), 'anonymous', gen_random_uuid()::text, 'benchmark', '', '', 2, now(),
                       now() + interval '6 hours'
                from generate_series(1, $4::int) as n
                returning lane, job_id, environment_id, created_at, expires_at
            )
            insert into ready (lane, job_id, environment_id, flow, due_at, run, attempt, expires_at)
            select lane, job_id, environment_id, 1, created_at, 1, 0, expires_at from made
            ",
        )
        .bind(lane)
        .bind(environment)
        .bind(user)
        .bind(i32::try_from(jobs)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What filling leaves undone is done now, not while something is measured.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.pool.execute("analyze job").await?;
        self.pool.execute("analyze ready").await?;
        self.pool.execute("checkpoint").await?;
        Ok(())
    }

    pub(crate) async fn progress(&self) -> Result<Progress> {
        let progress = sqlx::query_as(
            r"
            select (select count(*) from job) as jobs,
                   (select count(*) from ready where lane >= 0) as waiting,
                   (select count(*) from outcome where state = 3) as succeeded,
                   (select count(*) from outcome where state <> 3) as otherwise
            ",
        );
        Ok(progress.fetch_one(&self.pool).await?)
    }

    /// Waits until no job waits.
    pub(crate) async fn drained(&self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        while sqlx::query_scalar("select exists (select from ready where lane >= 0)")
            .fetch_one(&self.pool)
            .await?
        {
            ensure!(
                begun.elapsed() < patience,
                "jobs still wait after {patience:?}: {:?}",
                self.progress().await?
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Seconds from the first outcome to the last.
    pub(crate) async fn outcome_seconds(&self) -> Result<f64> {
        let seconds = "select extract(epoch from max(completed_at) - min(completed_at))::float8 from outcome";
        Ok(sqlx::query_scalar(seconds).fetch_one(&self.pool).await?)
    }

    /// Where the log ends that is safe on disk.
    pub(crate) async fn wal_position(&self) -> Result<String> {
        Ok(sqlx::query_scalar("select pg_current_wal_flush_lsn()::text").fetch_one(&self.pool).await?)
    }
}
