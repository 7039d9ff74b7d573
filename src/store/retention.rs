//! Forgetting jobs that ended long ago, with all that hangs on them. In small steps that nobody waits for.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, column, micros};
use crate::{device::Lane, telemetry::metrics::timed};

/// A slice of a lane's jobs, in the order of their ids, which is that of their age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldJobs {
    lane: Lane,
    ids: Vec<Uuid>,
}

impl OldJobs {
    /// Where the next slice begins: after this; nothing where there was no job.
    #[must_use]
    pub fn last(&self) -> Option<Uuid> {
        self.ids.last().copied()
    }
}

impl Store {
    /// Every job recorded more than `keep` ago has an id below this.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_retention_floor(&self, keep: Duration) -> Result<Uuid, StoreError> {
        let _timed = timed("find_retention_floor");
        let before = sqlx::query_scalar!(
            r#"select now() - $1::bigint * interval '1 microsecond' as "before!""#,
            micros(keep)
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(first_id_of(before))
    }

    /// The next jobs of `lane`, at most `limit`, above `after` and below `floor`. Only their ids bound the search: whether one
    /// is due to go says [`Store::forget_jobs`].
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_old_jobs(
        &self,
        lane: Lane,
        after: Uuid,
        floor: Uuid,
        limit: u32,
    ) -> Result<OldJobs, StoreError> {
        let _timed = timed("find_old_jobs");
        let ids = sqlx::query_scalar!(
            "select job_id from job where lane = $1 and job_id > $2 and job_id < $3 order by job_id limit $4",
            lane.number(),
            after,
            floor,
            i64::from(limit),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(OldJobs { lane, ids })
    }

    /// Forgets those of `jobs` whose last run ended more than `keep` ago, with their attempts, outcomes, redrives,
    /// cancellations and request ids. What is unfinished, or ended later, stays. Says how many went.
    ///
    /// # Errors
    /// [`StoreError`]: then none went, or all did and the answer was lost.
    pub async fn forget_jobs(&self, jobs: &OldJobs, keep: Duration) -> Result<u64, StoreError> {
        let _timed = timed("forget_jobs");
        let mut transaction = self.pool.begin().await?;
        // A redrive locks its job too. One that holds the lock is not waited for: its job stays. One that comes later waits,
        // and then finds no job. The statement below sees all that was committed before the locks were had, so it can miss
        // no redrive: neither a run is lost, nor is a row in `ready` left without its job.
        let due = sqlx::query_scalar!(
            r#"
            select j.job_id from unnest($1::smallint[], $2::uuid[]) as k (lane, job_id)
            join job j on j.lane = k.lane and j.job_id = k.job_id
            -- Not as "not exists": that may be planned as one look at all of a lane.
            where (select r.run from ready r where r.lane = j.lane and r.job_id = j.job_id) is null
              and (
                  select max(o.completed_at) from outcome o where o.lane = j.lane and o.job_id = j.job_id
              ) < now() - $3::bigint * interval '1 microsecond'
              -- A batch goes first, with its rows: they name their jobs.
              and (select b.number from batch b where b.lane = j.lane and b.number = j.flow - j.flow % 2) is null
            order by j.job_id
            for update of j skip locked
            "#,
            &column(&jobs.ids, |_| jobs.lane.number()),
            &jobs.ids,
            micros(keep),
        )
        .fetch_all(&mut *transaction)
        .await?;
        if due.is_empty() {
            return Ok(0);
        }
        let gone = sqlx::query_scalar!(
            r#"
            with due as (
                select o.lane, o.job_id from unnest($1::smallint[], $2::uuid[]) as k (lane, job_id)
                join outcome o on o.lane = k.lane and o.job_id = k.job_id
                where (select r.run from ready r where r.lane = o.lane and r.job_id = o.job_id) is null
                group by o.lane, o.job_id
                having max(o.completed_at) < now() - $3::bigint * interval '1 microsecond'
            ), no_attempts as (
                delete from attempt using due where attempt.lane = due.lane and attempt.job_id = due.job_id
            ), no_redrives as (
                delete from redrive using due where redrive.lane = due.lane and redrive.job_id = due.job_id
            ), no_cancellations as (
                delete from cancellation using due
                where cancellation.lane = due.lane and cancellation.job_id = due.job_id
            ), no_outcomes as (
                delete from outcome using due where outcome.lane = due.lane and outcome.job_id = due.job_id
            ), gone as (
                delete from job using due where job.lane = due.lane and job.job_id = due.job_id
                returning job.job_id
            )
            select count(*) as "gone!" from gone
            "#,
            &column(&due, |_| jobs.lane.number()),
            &due,
            micros(keep),
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(u64::try_from(gone).unwrap_or_default())
    }
}

/// The lowest version 7 UUID of that millisecond.
fn first_id_of(instant: OffsetDateTime) -> Uuid {
    let millis = u64::try_from(instant.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;

    #[test]
    fn ids_made_before_an_instant_are_below_its_first() {
        let id = JobId::new(Lane::from_stored(0)).as_uuid();
        let now = OffsetDateTime::now_utc();
        assert!(id < first_id_of(now + Duration::from_millis(2)));
        assert!(id > first_id_of(now - Duration::from_secs(1)));
    }
}
