//! Reading jobs and devices. A job's state is read off what exists: an outcome of its run is final, else its `ready` row says.

mod row;

use std::time::Duration;

use super::{Store, StoreError, StoredFailure, count, keys, packed::unpack};
use crate::{
    device::{DeviceRef, Snapshot},
    job::{Attempt, Job, JobId, Phase, Turn},
    telemetry::metrics::timed,
};

use row::Row;

/// The device as PingOne last described it to this service.
#[derive(Debug, Clone)]
pub struct DeviceView {
    /// The description.
    pub snapshot: Snapshot,
    /// The job whose answer it is.
    pub job: JobId,
}

/// How far a job has come, in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub id: JobId,
    /// See [`Job::revision`].
    pub revision: i64,
}

impl Store {
    /// The jobs of `ids` that exist, in no order.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_jobs(&self, ids: &[JobId]) -> Result<Vec<Job>, StoreError> {
        let _timed = timed("find_jobs");
        let (lanes, uuids) = keys(ids, |id| *id);
        let rows = sqlx::query_as!(
            Row,
            r#"
            select j.job_id, j.environment_id, j.user_id, j.device_id, j.caller, j.request_id, j.reason, j.ticket,
                   j.on_behalf_of, j.priority, j.created_at, j.expires_at,
                   r.run as "ready_run?", coalesce(r.attempt, o.attempt, 0) as "attempt!",
                   coalesce(r.spared, o.spared, 0) as "spared!",
                   coalesce(r.lease_until > now(), false) as "leased!",
                   case when r.lease_until > '-infinity' then r.lease_until end as lease_until,
                   coalesce(r.cancel_requested, false) as "cancel_requested!",
                   r.due_at as "due_at?",
                   case when r.run is not null
                        then greatest(r.due_at, e.hold_until, e.credential_retry_at, e.breaker_retry_at, l.hold_until)
                   end as next_attempt_at,
                   greatest(e.hold_until, l.hold_until) > now() as "held?", e.credential_error as "credential_error?",
                   e.breaker_since as "breaker_since?", e.breaker_error as "breaker_error?",
                   coalesce(g.paused_at, e.paused_at) as paused_at, coalesce(g.paused_by, e.paused_by) as paused_by,
                   coalesce(g.pause_reason, e.pause_reason) as pause_reason, r.flow as "flow?",
                   live.lane is not null as "worker!",
                   o.run as "outcome_run?", o.answered_by as "answered_by?", o.read as "outcome_read?", o.state as "outcome_state?", o.completed_at as "completed_at?",
                   o.started_at, o.duration_us, o.http_status as answer_status, o.correlation_id as answer_correlation_id,
                   o.device, o.device_at,
                   d.requested_at as "redriven_at?", d.expires_at as "redrive_expires_at?",
                   c.requested_at as "cancel_requested_at?",
                   a.recorded_at as "failed_at?", a.error_reason, a.error_message, a.http_status, a.pingone_code,
                   a.pingone_id, a.correlation_id, b.batch_id as "batch_id?", now() as "now!"
            from unnest($1::smallint[], $2::uuid[]) as k (lane, job_id)
            -- One by one: planned while the tables were empty, a join of them all once read every job of the lane.
            join lateral (select * from job where job.lane = k.lane and job.job_id = k.job_id limit 1) j on true
            left join lateral (
                select * from ready where ready.lane = k.lane and ready.job_id = k.job_id limit 1
            ) r on true
            cross join global_pause g
            left join lateral (
                select * from environment
                where environment.lane = k.lane and environment.environment_id = j.environment_id limit 1
            ) e on true
            left join lateral (
                select limit_group from environment_status s
                where s.lane = k.lane and s.environment_id = j.environment_id limit 1
            ) s on true
            left join lateral (select hold_until from limit_group where limit_group.name = s.limit_group limit 1) l on true
            left join lateral (
                select o.lane from (select lane, owner from lane where lane.lane = k.lane limit 1) o
                join replica p on p.replica_id = o.owner and p.lease_until > now()
            ) live on true
            left join lateral (
                select * from outcome where outcome.lane = k.lane and outcome.job_id = k.job_id order by run desc limit 1
            ) o on r.run is null
            left join lateral (
                select * from redrive where redrive.lane = k.lane and redrive.job_id = k.job_id order by run desc limit 1
            ) d on true
            left join lateral (
                select requested_at from cancellation c
                where c.lane = k.lane and c.job_id = k.job_id and c.run = coalesce(r.run, o.run) limit 1
            ) c on true
            left join lateral (
                select * from attempt
                where attempt.lane = k.lane and attempt.job_id = k.job_id and attempt.run = coalesce(r.run, o.run)
                  and not late and error_reason is not null
                order by number desc, read limit 1
            ) a on true
            left join lateral (
                select batch_id from batch where batch.lane = k.lane and batch.number = j.flow - j.flow % 2 limit 1
            ) b on true
            "#,
            &lanes,
            &uuids,
        )
        .fetch_all(&self.reading)
        .await?;
        let opener = self.opener(rows.iter().filter_map(|row| row.device.as_deref())).await?;
        rows.into_iter().map(|row| row.into_job(&opener)).collect()
    }

    /// One job.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let _timed = timed("find_job");
        Ok(self.find_jobs(&[id]).await?.pop())
    }

    /// Every failed or late request of a job, oldest first. The one that succeeded stands in [`Job::success`].
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_attempts(&self, id: JobId) -> Result<Vec<Attempt>, StoreError> {
        let _timed = timed("find_attempts");
        let rows = sqlx::query!(
            r#"
            select run, number, read, started_at, duration_us, error_reason, error_message, http_status, pingone_code,
                   pingone_id, correlation_id
            from attempt where lane = $1 and job_id = $2
            order by run, number, late, read desc
            "#,
            id.lane().number(),
            id.as_uuid(),
        )
        .fetch_all(&self.reading)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Attempt {
                run: count(row.run),
                number: count(row.number),
                read: row.read,
                started_at: row.started_at,
                duration: duration(row.duration_us),
                http_status: row.http_status.and_then(|status| u16::try_from(status).ok()),
                correlation_id: row.correlation_id.clone(),
                error: StoredFailure {
                    reason: row.error_reason,
                    message: row.error_message,
                    http_status: row.http_status,
                    pingone_code: row.pingone_code,
                    pingone_id: row.pingone_id,
                    correlation_id: row.correlation_id,
                }
                .into_failure(),
            })
            .collect())
    }

    /// How many jobs are to be sent before this one, up to `at_most`, and how many a second its environment sends.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_turn(&self, id: JobId, at_most: u32) -> Result<Option<Turn>, StoreError> {
        let _timed = timed("find_turn");
        let row = sqlx::query!(
            r#"
            select s.effective_rate as "rate?", least(s.current_rate, s.effective_rate) as "used?",
                   ahead.count + case when r.flow > 0 then coalesce(s.pending_interactive, 0) else 0 end as "ahead!"
            from ready r
            left join environment_status s on s.lane = r.lane and s.environment_id = r.environment_id
            cross join lateral (
                select count(*) as count from (
                    select from ready o
                    where o.lane = r.lane and o.environment_id = r.environment_id and o.flow = r.flow
                      and (o.due_at, o.job_id) < (r.due_at, r.job_id)
                    limit $3
                ) counted
            ) ahead
            where r.lane = $1 and r.job_id = $2
            "#,
            id.lane().number(),
            id.as_uuid(),
            i64::from(at_most),
        )
        .fetch_optional(&self.reading)
        .await?;
        Ok(row.map(|row| Turn {
            ahead: u64::try_from(row.ahead).unwrap_or_default(),
            rate: row.rate.or(row.used).filter(|rate| *rate > 0.0),
        }))
    }

    /// How far the jobs of `ids` have come.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_progress(&self, ids: &[JobId]) -> Result<Vec<Progress>, StoreError> {
        let _timed = timed("find_progress");
        let (lanes, uuids) = keys(ids, |id| *id);
        let rows = sqlx::query!(
            r#"
            select k.job_id as "job_id!", coalesce(r.run, o.run) as "run!", coalesce(r.attempt, 0) as "attempt!",
                   coalesce(r.lease_until > now(), false) as "leased!",
                   coalesce(r.cancel_requested, false) as "cancel_requested!", r.run is null as "ended!"
            from unnest($1::smallint[], $2::uuid[]) as k (lane, job_id)
            left join ready r on r.lane = k.lane and r.job_id = k.job_id
            left join lateral (
                select run from outcome where outcome.lane = k.lane and outcome.job_id = k.job_id order by run desc limit 1
            ) o on r.run is null
            where coalesce(r.run, o.run) is not null
            "#,
            &lanes,
            &uuids,
        )
        .fetch_all(&self.reading)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Progress {
                id: row.job_id.into(),
                revision: Phase {
                    run: count(row.run),
                    attempt: count(row.attempt),
                    leased: row.leased,
                    cancel_requested: row.cancel_requested,
                    ended: row.ended,
                }
                .revision(),
            })
            .collect())
    }

    /// The newest description of a device, if PingOne ever gave one.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_device(&self, device: &DeviceRef) -> Result<Option<DeviceView>, StoreError> {
        let _timed = timed("find_device");
        if device.is_every() {
            return Ok(None);
        }
        let row = sqlx::query!(
            r#"
            select o.job_id, coalesce(o.answered_by, o.job_id) as "asked_by!", o.device as "device!", o.device_at as "device_at!"
            from job j join outcome o on o.lane = j.lane and o.job_id = j.job_id
            where j.lane = $1 and j.environment_id = $2 and j.user_id = $3 and j.device_id = $4 and o.state = 3
            order by o.device_at desc limit 1
            "#,
            device.environment.lane().number(),
            device.environment.as_uuid(),
            device.user.as_uuid(),
            device.device.as_uuid(),
        )
        .fetch_optional(&self.reading)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let opener = self.opener(std::iter::once(row.device.as_slice())).await?;
        let raw = unpack(&opener, device, row.asked_by.into(), &row.device)?;
        Ok(Some(DeviceView { snapshot: Snapshot::new(raw, row.device_at), job: row.job_id.into() }))
    }
}

fn duration(us: i64) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or_default())
}
