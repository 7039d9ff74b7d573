//! Finding what is due, and taking it for one attempt.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Store, StoreError, between, column, count, keys, micros, stored_count};
use crate::{
    device::{DeviceId, DeviceRef, EnvironmentId, Lane, UserId},
    job::{JobId, Reason},
};

/// How long a claim holds: longer than an attempt can last, so that no second one overlaps it.
pub const LEASE: Duration = Duration::from_secs(20);

/// A job that is due and that nobody holds.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its id.
    pub id: JobId,
    /// What to unblock.
    pub device: DeviceRef,
    /// Its run.
    pub run: u32,
    /// Claims of that run so far.
    pub attempt: u32,
    /// When the last claim would have ended, had it not been given up: its owner died without a word.
    pub lapsed: Option<OffsetDateTime>,
    /// The W3C trace context of the call that made the job.
    pub trace_parent: Option<String>,
}

/// A job that is ours for one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run: u32,
    /// The number of this claim within the run: the fence of what is written about it.
    pub attempt: u32,
    /// How long until the job expires.
    pub expires_in: Duration,
}

impl Store {
    /// Up to `limit` due jobs of each environment, interactive ones first, then the longest due.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_heads(&self, environments: &[(EnvironmentId, u32)]) -> Result<Vec<Head>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select r.job_id, r.environment_id, r.run, r.attempt, j.user_id, j.device_id, j.trace_parent,
                   case when r.lease_until > '-infinity' then r.lease_until end as lapsed
            from unnest($1::smallint[], $2::uuid[], $3::int[]) as e (lane, environment_id, at_most)
            cross join lateral (
                select * from ready
                where ready.lane = e.lane and ready.environment_id = e.environment_id
                  and due_at <= now() and lease_until < now() and expires_at > now() and not cancel_requested
                order by flow, due_at, ready.job_id
                limit e.at_most
            ) r
            join job j on j.lane = r.lane and j.job_id = r.job_id
            order by r.lane, r.environment_id, r.flow, r.due_at, r.job_id
            "#,
            &column(environments, |(environment, _)| environment.lane().number()),
            &column(environments, |(environment, _)| environment.as_uuid()),
            &column(environments, |(_, limit)| stored_count(*limit)),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Head {
                id: row.job_id.into(),
                device: DeviceRef {
                    environment: row.environment_id.into(),
                    user: UserId::from(row.user_id),
                    device: DeviceId::from(row.device_id),
                },
                run: count(row.run),
                attempt: count(row.attempt),
                lapsed: row.lapsed,
                trace_parent: row.trace_parent,
            })
            .collect())
    }

    /// Takes those of `heads` that are still as they were seen. A claim that lapsed before is recorded as an attempt whose
    /// effect nobody knows.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing is claimed, or claims nobody uses will lapse.
    pub async fn claim(&self, heads: &[Head]) -> Result<Vec<Claim>, StoreError> {
        let (lanes, ids) = keys(heads, |head| head.id);
        let rows = sqlx::query!(
            r#"
            with seen as (
                select * from unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[])
                    as t (lane, job_id, run, attempt, lapsed)
            ), claimed as (
                update ready
                set attempt = ready.attempt + 1, lease_until = now() + $6::bigint * interval '1 microsecond'
                from seen
                where ready.lane = seen.lane and ready.job_id = seen.job_id
                  and ready.run = seen.run and ready.attempt = seen.attempt
                  and ready.lease_until < now() and ready.expires_at > now() and not ready.cancel_requested
                returning ready.lane, ready.job_id, ready.run, ready.attempt, ready.expires_at, seen.lapsed
            ), lost as (
                insert into attempt (lane, job_id, run, number, started_at, duration_us, error_reason, error_message)
                select lane, job_id, run, attempt - 1, lapsed - $6::bigint * interval '1 microsecond', $6::bigint,
                       $7::text, 'the replica that sent this stopped before it could save an answer; the effect is unknown'
                from claimed where lapsed is not null
                on conflict do nothing
            )
            select job_id as "job_id!", run as "run!", attempt as "attempt!",
                   expires_at as "expires_at!", now() as "now!"
            from claimed
            "#,
            &lanes,
            &ids,
            &column(heads, |head| stored_count(head.run)),
            &column(heads, |head| stored_count(head.attempt)),
            &column(heads, |head| head.lapsed) as &[Option<OffsetDateTime>],
            micros(LEASE),
            Reason::Timeout.name(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Claim {
                id: row.job_id.into(),
                run: count(row.run),
                attempt: count(row.attempt),
                expires_in: between(row.now, row.expires_at),
            })
            .collect())
    }

    /// Ends what waits in `lanes` and has no time left or a cancel upon it, at most `limit` jobs; says which.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing ended.
    pub async fn end_overdue(&self, lanes: &[Lane], limit: u32) -> Result<Vec<JobId>, StoreError> {
        let ended = sqlx::query_scalar!(
            r#"
            with overdue as (
                select lane, job_id from ready
                where lane = any($1) and lease_until < now() and (expires_at <= now() or cancel_requested)
                order by lane, job_id
                limit $2
                for update skip locked
            ), gone as (
                delete from ready using overdue
                where ready.lane = overdue.lane and ready.job_id = overdue.job_id
                returning ready.lane, ready.job_id, run, attempt, spared, lease_until, cancel_requested
            ), lost as (
                insert into attempt (lane, job_id, run, number, started_at, duration_us, error_reason, error_message)
                select lane, job_id, run, attempt, lease_until - $3::bigint * interval '1 microsecond', $3::bigint,
                       $4::text, 'the replica that sent this stopped before it could save an answer; the effect is unknown'
                from gone where lease_until > '-infinity'
                on conflict do nothing
            )
            insert into outcome (lane, job_id, run, state, attempt, spared)
            select lane, job_id, run, case when cancel_requested then 5 else 6 end, attempt, spared from gone
            returning job_id
            "#,
            &column(lanes, |lane| lane.number()),
            i64::from(limit),
            micros(LEASE),
            Reason::Timeout.name(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(ended.into_iter().map(JobId::from).collect())
    }
}
