//! Recording attempts that PingOne confirmed, and claims that were never used. Every write is fenced by the `ready` row: whoever
//! finds it as it was claimed decides. Attempts that failed are in `fail`.

use std::{collections::HashMap, time::Duration};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Claim, Store, StoreError, column, keys, micros, packed::pack, stored_count, stored_status};
use crate::{
    device::{DeviceRef, Snapshot},
    job::{Failure, JobId, Priority, State},
    telemetry::{metrics, metrics::timed},
};

/// An attempt that PingOne confirmed.
#[derive(Debug, Clone)]
pub struct Succeeded {
    /// What was claimed for it.
    pub claim: Claim,
    /// What was unblocked, or whose devices were listed.
    pub device: DeviceRef,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// PingOne's status.
    pub http_status: u16,
    /// The `Correlation-Id` of the answer.
    pub correlation_id: Option<String>,
    /// The device, or the list of devices, as PingOne described it.
    pub snapshot: Snapshot,
    /// Whether the device was only read: it was unblocked already, or one of those listed.
    pub read: bool,
}

/// A claim that was never used: nothing was sent.
#[derive(Debug, Clone, Copy)]
pub struct Unsent {
    /// What was claimed.
    pub claim: Claim,
}

/// A device read before its unblock was sent again, in the same attempt.
#[derive(Debug, Clone)]
pub struct ReadFirst {
    /// What was claimed for the attempt.
    pub claim: Claim,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// PingOne's status, where it answered.
    pub http_status: Option<u16>,
    /// The `Correlation-Id` of the answer.
    pub correlation_id: Option<String>,
    /// Why nothing was learned from it, where nothing was.
    pub failure: Option<Failure>,
}

impl Store {
    /// Ends the jobs of confirmed attempts; says when each ended. Those that had been superseded change nothing and are not
    /// among them; their answers are recorded as late.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or all of it did and the answer was lost; the same call again is harmless.
    pub async fn complete_succeeded(
        &self,
        group: &[Succeeded],
    ) -> Result<HashMap<JobId, OffsetDateTime>, StoreError> {
        let _timed = timed("complete_succeeded");
        let devices = self.packed(group).await?;
        let (lanes, ids) = keys(group, |entry| entry.claim.id);
        let ended = sqlx::query!(
            r#"
            with given as (
                select * from unnest(
                    $1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[], $6::bigint[], $7::smallint[],
                    $8::text[], $9::bytea[], $10::timestamptz[], $11::bool[]
                ) as t (lane, job_id, run, attempt, started_at, duration_us, http_status, correlation_id, device, device_at, read)
            ), gone as (
                delete from ready using given
                where ready.lane = given.lane and ready.job_id = given.job_id
                  and ready.run = given.run and ready.attempt = given.attempt
                returning given.*, ready.spared, ready.flow, ready.environment_id
            ), counted as (
                insert into batch_delta (lane, number, delta_id, succeeded)
                select lane, flow - flow % 2, $12, count(*) from gone where flow > 1 group by 1, 2
            ), noted as (
                insert into audit (lane, event_id, environment_id, job_id, run, attempts, action, outcome, http_status, caller,
                                   correlation_id)
                select lane, audit_event_id($12, job_id), environment_id, job_id, run, attempt - spared, 6, 3, http_status,
                       'pingone-unblock', correlation_id
                from gone
            ), ended as (
                insert into outcome (lane, job_id, run, state, attempt, spared, started_at, duration_us, http_status,
                                     correlation_id, device, device_at, read)
                select lane, job_id, run, 3, attempt, spared, started_at, duration_us, http_status, correlation_id,
                       device, device_at, read
                from gone
            )
            select job_id as "job_id!", now() as "now!" from gone
            "#,
            &lanes,
            &ids,
            &column(group, |entry| stored_count(entry.claim.run)),
            &column(group, |entry| stored_count(entry.claim.attempt)),
            &column(group, |entry| entry.started_at),
            &column(group, |entry| micros(entry.duration)),
            &column(group, |entry| stored_status(Some(entry.http_status)).unwrap_or_default()),
            &column(group, |entry| entry.correlation_id.clone()) as &[Option<String>],
            &devices,
            &column(group, |entry| entry.snapshot.at()),
            &column(group, |entry| entry.read),
            Uuid::now_v7(),
        )
        .fetch_all(&self.pool)
        .await?;
        let ended: HashMap<JobId, OffsetDateTime> =
            ended.into_iter().map(|row| (row.job_id.into(), row.now)).collect();
        if ended.len() < group.len() {
            let late: Vec<&Succeeded> =
                group.iter().filter(|entry| !ended.contains_key(&entry.claim.id)).collect();
            self.record_late_successes(&late).await?;
        }
        Ok(ended)
    }

    /// The answers of `group` for the store, in their order.
    pub(super) async fn packed(&self, group: &[Succeeded]) -> Result<Vec<Vec<u8>>, StoreError> {
        let sealer = self.sealer().await?;
        let packed = |entry: &Succeeded| pack(&sealer, &entry.device, entry.claim.id, entry.snapshot.raw());
        group.iter().map(packed).collect()
    }

    async fn record_late_successes(&self, late: &[&Succeeded]) -> Result<(), StoreError> {
        let (lanes, ids) = keys(late, |entry| entry.claim.id);
        sqlx::query!(
            r#"
            insert into attempt (lane, job_id, run, number, late, read, started_at, duration_us, http_status, correlation_id)
            select lane, job_id, run, attempt, true, read, started_at, duration_us, http_status, correlation_id
            from unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[], $6::bigint[], $7::smallint[],
                        $8::text[], $9::bool[])
                as given (lane, job_id, run, attempt, started_at, duration_us, http_status, correlation_id, read)
            -- The same call again, after its first answer was lost, finds its own outcome.
            where not exists (
                select from outcome o
                where o.lane = given.lane and o.job_id = given.job_id and o.run = given.run
                  and o.state = 3 and o.attempt = given.attempt
            )
            on conflict do nothing
            "#,
            &lanes,
            &ids,
            &column(late, |entry| stored_count(entry.claim.run)),
            &column(late, |entry| stored_count(entry.claim.attempt)),
            &column(late, |entry| entry.started_at),
            &column(late, |entry| micros(entry.duration)),
            &column(late, |entry| stored_status(Some(entry.http_status)).unwrap_or_default()),
            &column(late, |entry| entry.correlation_id.clone()) as &[Option<String>],
            &column(late, |entry| entry.read),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends bulk jobs that wait for the device of a confirmed attempt and were asked for before it began: its answer is theirs.
    /// Says which.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; they are sent as any other.
    pub async fn answer_others(&self, group: &[Succeeded]) -> Result<Vec<JobId>, StoreError> {
        let _timed = timed("answer_others");
        let devices = self.packed(group).await?;
        let (lanes, ids) = keys(group, |entry| entry.claim.id);
        let answered = sqlx::query_scalar!(
            r#"
            with given as (
                select * from unnest(
                    $1::smallint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::bigint[],
                    $8::smallint[], $9::text[], $10::bytea[], $11::timestamptz[], $12::bool[]
                ) as t (lane, job_id, environment_id, user_id, device_id, started_at, duration_us, http_status, correlation_id,
                        device, device_at, read)
            ), others as (
                select waiting.lane, waiting.job_id, given.job_id as answered_by, given.started_at, given.duration_us,
                       given.http_status, given.correlation_id, given.device, given.device_at, given.read
                from given
                -- One by one: planned while the tables were small, a join once read all of them.
                cross join lateral (
                    select job.lane, job.job_id, job.created_at from job
                    where job.lane = given.lane and job.environment_id = given.environment_id
                      and job.user_id = given.user_id and job.device_id = given.device_id
                    offset 0
                ) same
                cross join lateral (
                    select ready.lane, ready.job_id from ready
                    where ready.lane = same.lane and ready.job_id = same.job_id
                      and ready.flow > 0 and ready.lease_until < now() and not ready.cancel_requested
                      and ready.expires_at > given.started_at
                      and not exists (
                          select from redrive
                          where redrive.lane = ready.lane and redrive.job_id = ready.job_id and redrive.run = ready.run
                            and redrive.requested_at >= given.started_at
                      )
                    limit 1
                    for update skip locked
                ) waiting
                where same.created_at < given.started_at
            ), gone as (
                delete from ready using others
                where ready.lane = others.lane and ready.job_id = others.job_id
                returning others.*, ready.run, ready.attempt, ready.spared, ready.flow, ready.environment_id
            ), counted as (
                insert into batch_delta (lane, number, delta_id, succeeded)
                select lane, flow - flow % 2, $13, count(*) from gone where flow > 1 group by 1, 2
            ), noted as (
                insert into audit (lane, event_id, environment_id, job_id, run, attempts, action, outcome, http_status, caller,
                                   correlation_id)
                select lane, audit_event_id($13, job_id), environment_id, job_id, run, attempt - spared, 6, 3, http_status,
                       'pingone-unblock', correlation_id
                from gone
            )
            insert into outcome (lane, job_id, run, state, attempt, spared, started_at, duration_us, http_status,
                                 correlation_id, device, device_at, read, answered_by)
            select lane, job_id, run, 3, attempt, spared, started_at, duration_us, http_status, correlation_id, device,
                   device_at, read, answered_by
            from gone
            returning job_id
            "#,
            &lanes,
            &ids,
            &column(group, |entry| entry.device.environment.as_uuid()),
            &column(group, |entry| entry.device.user.as_uuid()),
            &column(group, |entry| entry.device.device.as_uuid()),
            &column(group, |entry| entry.started_at),
            &column(group, |entry| micros(entry.duration)),
            &column(group, |entry| stored_status(Some(entry.http_status)).unwrap_or_default()),
            &column(group, |entry| entry.correlation_id.clone()) as &[Option<String>],
            &devices,
            &column(group, |entry| entry.snapshot.at()),
            &column(group, |entry| entry.read),
            Uuid::now_v7(),
        )
        .fetch_all(&self.pool)
        .await?;
        metrics().jobs.finished(Priority::Bulk, State::Succeeded, None, answered.len());
        Ok(answered.into_iter().map(JobId::from).collect())
    }

    /// Records reads that came before a request in the same attempt.
    ///
    /// # Errors
    /// [`StoreError`]: then they are recorded or not; the same call again is harmless.
    pub async fn record_reads(&self, group: &[ReadFirst]) -> Result<(), StoreError> {
        let _timed = timed("record_reads");
        let (lanes, ids) = keys(group, |entry| entry.claim.id);
        let text =
            |of: fn(&Failure) -> Option<String>| column(group, |entry| entry.failure.as_ref().and_then(of));
        sqlx::query!(
            r#"
            insert into attempt (lane, job_id, run, number, read, started_at, duration_us, http_status, correlation_id,
                                 error_reason, error_message, pingone_code, pingone_id)
            select lane, job_id, run, attempt, true, started_at, duration_us, http_status, correlation_id, error_reason,
                   error_message, pingone_code, pingone_id
            from unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[], $6::bigint[], $7::smallint[],
                        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
                as t (lane, job_id, run, attempt, started_at, duration_us, http_status, correlation_id, error_reason,
                      error_message, pingone_code, pingone_id)
            on conflict do nothing
            "#,
            &lanes,
            &ids,
            &column(group, |entry| stored_count(entry.claim.run)),
            &column(group, |entry| stored_count(entry.claim.attempt)),
            &column(group, |entry| entry.started_at),
            &column(group, |entry| micros(entry.duration)),
            &column(group, |entry| stored_status(entry.http_status)) as &[Option<i16>],
            &column(group, |entry| entry.correlation_id.clone()) as &[Option<String>],
            &text(|failure| Some(failure.reason.name().to_owned())) as &[Option<String>],
            &text(|failure| Some(failure.message.as_str().to_owned())) as &[Option<String>],
            &text(|failure| failure.pingone_code.clone()) as &[Option<String>],
            &text(|failure| failure.pingone_id.clone()) as &[Option<String>],
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
        let _timed = timed("release");
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
