//! The jobs of a user: found and locked, and deleted with all that hangs on them.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Erasure, batches::Named};
use crate::store::{StoreError, column};

/// Jobs deleted by one statement.
const AT_ONCE: usize = 500;

impl Erasure<'_> {
    pub(super) async fn unfinished(&self, connection: &mut PgConnection) -> Result<usize, StoreError> {
        let waiting = sqlx::query_scalar!(
            r#"
            select r.job_id from job j
            cross join lateral (select job_id from ready r where r.lane = j.lane and r.job_id = j.job_id limit 1) r
            where j.environment_id = $1 and j.user_id = $2
            "#,
            self.environment.as_uuid(),
            self.user.as_uuid(),
        )
        .fetch_all(connection)
        .await?;
        Ok(waiting.len())
    }

    /// All jobs of the user, locked until the end: whoever redrives one waits, and then finds none. And whether some of them are of
    /// a batch that is not among `batches`: its rows came meanwhile.
    pub(super) async fn lock_jobs(
        &self,
        connection: &mut PgConnection,
        batches: &[Named],
    ) -> Result<(Vec<Uuid>, bool), StoreError> {
        let rows = sqlx::query!(
            r#"
            select job_id, flow - flow % 2 as "number?" from job
            where environment_id = $1 and user_id = $2
            order by job_id for update
            "#,
            self.environment.as_uuid(),
            self.user.as_uuid(),
        )
        .fetch_all(&mut *connection)
        .await?;
        let known = |number: &i64| batches.iter().any(|batch| batch.number == *number);
        let numbers: BTreeSet<i64> = rows.iter().filter_map(|row| row.number).collect();
        let others: Vec<i64> = numbers.into_iter().filter(|number| !known(number)).collect();
        // Of one that retention has taken, nothing is left but jobs.
        let elsewhere = sqlx::query_scalar!(
            r#"
            select b.number from unnest($1::smallint[], $2::bigint[]) as k (lane, number)
            join batch b on b.lane = k.lane and b.number = k.number limit 1
            "#,
            &column(&others, |_| self.lane()),
            &others,
        )
        .fetch_optional(connection)
        .await?;
        Ok((rows.into_iter().map(|row| row.job_id).collect(), elsewhere.is_some()))
    }

    pub(super) async fn delete_jobs(
        &self,
        connection: &mut PgConnection,
        jobs: &[Uuid],
    ) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for jobs in jobs.chunks(AT_ONCE) {
            let gone = sqlx::query!(
                r#"
                with gone as (
                    delete from job using unnest($1::smallint[], $2::uuid[]) as k (lane, job_id)
                    where job.lane = k.lane and job.job_id = k.job_id
                    returning job.lane, job.job_id
                ), no_attempts as (
                    delete from attempt using gone where attempt.lane = gone.lane and attempt.job_id = gone.job_id
                ), no_redrives as (
                    delete from redrive using gone where redrive.lane = gone.lane and redrive.job_id = gone.job_id
                ), no_cancellations as (
                    delete from cancellation using gone
                    where cancellation.lane = gone.lane and cancellation.job_id = gone.job_id
                ), no_outcomes as (
                    delete from outcome using gone where outcome.lane = gone.lane and outcome.job_id = gone.job_id
                )
                select count(*) as "jobs!" from gone
                "#,
                &column(jobs, |_| self.lane()),
                jobs,
            )
            .fetch_one(&mut *connection)
            .await?;
            deleted += u64::try_from(gone.jobs).unwrap_or_default();
        }
        Ok(deleted)
    }
}
