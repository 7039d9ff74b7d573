//! Recording attempts that PingOne confirmed, and claims that were never used. Every write is fenced by the `ready` row: whoever
//! finds it as it was claimed decides. Attempts that failed are in `fail`.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Claim, Store, StoreError, column, keys, micros, packed::pack, stored_count, stored_status};
use crate::device::{DeviceRef, Snapshot};

/// An attempt that PingOne confirmed.
#[derive(Debug, Clone)]
pub struct Succeeded {
    /// What was claimed for it.
    pub claim: Claim,
    /// What was unblocked.
    pub device: DeviceRef,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// PingOne's status.
    pub http_status: u16,
    /// The `Correlation-Id` of the answer.
    pub correlation_id: Option<String>,
    /// The device, as PingOne described it.
    pub snapshot: Snapshot,
}

/// A claim that was never used: nothing was sent.
#[derive(Debug, Clone, Copy)]
pub struct Unsent {
    /// What was claimed.
    pub claim: Claim,
}

impl Store {
    /// Ends the jobs of confirmed attempts. Those that had been superseded change nothing; their answers are recorded as late.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or all of it did and the answer was lost; the same call again is harmless.
    pub async fn complete_succeeded(&self, group: &[Succeeded]) -> Result<(), StoreError> {
        let (lanes, ids) = keys(group, |entry| entry.claim.id);
        sqlx::query!(
            r#"
            with given as (
                select * from unnest(
                    $1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[], $6::bigint[], $7::smallint[],
                    $8::text[], $9::bytea[], $10::timestamptz[]
                ) as t (lane, job_id, run, attempt, started_at, duration_us, http_status, correlation_id, device, device_at)
            ), held as (
                select ready.lane, ready.job_id from ready join given using (lane, job_id)
                where ready.run = given.run and ready.attempt = given.attempt
                order by ready.lane, ready.job_id
                for update of ready
            ), gone as (
                delete from ready using held, given
                where ready.lane = held.lane and ready.job_id = held.job_id
                  and given.lane = held.lane and given.job_id = held.job_id
                  and ready.run = given.run and ready.attempt = given.attempt
                returning ready.lane, ready.job_id, ready.run, ready.spared
            ), ended as (
                insert into outcome (lane, job_id, run, state, attempt, spared, started_at, duration_us, http_status,
                                     correlation_id, device, device_at)
                select lane, job_id, run, 3, given.attempt, gone.spared, given.started_at, given.duration_us,
                       given.http_status, given.correlation_id, given.device, given.device_at
                from gone join given using (lane, job_id, run)
            )
            insert into attempt (lane, job_id, run, number, late, started_at, duration_us, http_status, correlation_id)
            select lane, job_id, run, given.attempt, true, given.started_at, given.duration_us, given.http_status,
                   given.correlation_id
            from given
            where not exists (select from gone where gone.lane = given.lane and gone.job_id = given.job_id)
              -- The same call again, after its first answer was lost, finds its own outcome.
              and not exists (
                  select from outcome o
                  where o.lane = given.lane and o.job_id = given.job_id and o.run = given.run
                    and o.state = 3 and o.attempt = given.attempt
              )
            on conflict do nothing
            "#,
            &lanes,
            &ids,
            &column(group, |entry| stored_count(entry.claim.run)),
            &column(group, |entry| stored_count(entry.claim.attempt)),
            &column(group, |entry| entry.started_at),
            &column(group, |entry| micros(entry.duration)),
            &column(group, |entry| stored_status(Some(entry.http_status)).unwrap_or_default()),
            &column(group, |entry| entry.correlation_id.clone()) as &[Option<String>],
            &column(group, |entry| pack(&entry.device, entry.snapshot.raw())),
            &column(group, |entry| entry.snapshot.at()),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Gives claims back that were never used. They cost the job nothing.
    ///
    /// # Errors
    /// [`StoreError`]: then the claims lapse by themselves.
    pub async fn release(&self, group: &[Unsent]) -> Result<(), StoreError> {
        let (lanes, ids) = keys(group, |entry| entry.claim.id);
        sqlx::query!(
            r#"
            update ready set lease_until = '-infinity', spared = spared + 1
            from unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[]) as t (lane, job_id, run, attempt)
            where ready.lane = t.lane and ready.job_id = t.job_id and ready.run = t.run and ready.attempt = t.attempt
              and ready.lease_until > '-infinity'
            "#,
            &lanes,
            &ids,
            &column(group, |entry| stored_count(entry.claim.run)),
            &column(group, |entry| stored_count(entry.claim.attempt)),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
