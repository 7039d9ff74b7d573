//! New attempts for the rows of a batch that failed or expired: begun page by page, as far as there is room in the bounds.

use std::collections::HashSet;

use uuid::Uuid;

use super::{BatchKey, results::Place};
use crate::{
    audit::{Action, Personal},
    device::{DeviceId, EnvironmentId},
    job::{Actor, Counted, JobId, OverQuota},
    store::{
        Store, StoreError,
        audit::Note,
        column, count,
        quota::{Ask, ROUNDS, Uncounted, count_uses, overtaken},
    },
    telemetry::metrics::timed,
};

/// Jobs given new attempts by one statement.
const AT_ONCE: i64 = 500;

/// A wish for new attempts.
#[derive(Debug, Clone)]
pub struct RetryWish<'a> {
    /// Who asks.
    pub actor: &'a Actor,
    /// Why.
    pub reason: &'a str,
    /// For which case.
    pub ticket: &'a str,
}

/// What one step of giving new attempts did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retried {
    /// So many jobs have new attempts.
    pub begun: u32,
    /// So many were left as they are, since they would exceed a bound;
    pub left: u32,
    /// that of the first of them.
    pub over: Option<OverQuota>,
}

/// A job that may have new attempts, by its device; nothing where it looks up a user's.
type Mendable = (Uuid, Option<DeviceId>);

impl Store {
    /// Opens the batch for new attempts, with all of its time. False when it is cancelled or does not exist.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless.
    pub async fn begin_retry(&self, key: BatchKey, wish: &RetryWish<'_>) -> Result<bool, StoreError> {
        let _timed = timed("begin_retry");
        let note = Note::by(wish.actor, key.lane, Personal::because(wish.reason, wish.ticket));
        let begun = sqlx::query!(
            r#"
            with delta as (
                select coalesce(sum(succeeded + failed + cancelled + expired), 0)::bigint as finished,
                       coalesce(sum(failed), 0)::bigint as failed
                from batch_delta where lane = $1 and number = $2
            ), begun as (
                update batch b
                set state = case when b.state = 4 then 2 else b.state end, completed_at = null, revision = b.revision + 1,
                    expires_at = now() + b.time_to_live_us * interval '1 microsecond',
                    state_reason = case when b.state = 4 then '' else b.state_reason end,
                    finished_before = b.succeeded + b.failed + b.cancelled + b.expired + delta.finished,
                    failed_before = b.failed + delta.failed
                from delta
                where b.lane = $1 and b.number = $2 and b.state in (1, 2, 3, 4)
                returning b.lane, b.environment_id, b.batch_id
            )
            insert into audit (lane, event_id, environment_id, trace_id, action, caller, policy, batch_id, personal_digest,
                               personal)
            select lane, $3, environment_id, $4, $5, $6, $7, batch_id, $8, $9 from begun
            "#,
            key.lane.number(),
            key.number.number(),
            note.event_id,
            note.trace_id,
            Action::BatchRetried.number(),
            note.caller,
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&self.pool)
        .await?;
        Ok(begun.rows_affected() == 1)
    }

    /// Gives those of the rows from `from` on new attempts whose jobs failed or expired, as far as the bounds of who asks have room.
    /// Says how many, and where to go on; nothing: it was the last step.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless.
    pub async fn retry_step(
        &self,
        key: BatchKey,
        from: Place,
        wish: &RetryWish<'_>,
        environment: EnvironmentId,
    ) -> Result<(Retried, Option<Place>), StoreError> {
        let _timed = timed("retry_step");
        let page = sqlx::query!(
            r#"
            select target_offset, sub, job_id as "job_id?", device_id, duplicate from batch_target
            where lane = $1 and number = $2 and (target_offset, sub) >= ($3, $4)
            order by target_offset, sub limit $5
            "#,
            key.lane.number(),
            key.number.number(),
            i64::try_from(from.0).unwrap_or(i64::MAX),
            i32::try_from(from.1).unwrap_or(i32::MAX),
            AT_ONCE,
        )
        .fetch_all(&self.pool)
        .await?;
        let last = page.last().map(|row| (row.target_offset, row.sub));
        let next = last.map(|(offset, sub)| (u64::try_from(offset).unwrap_or_default(), count(sub) + 1));
        let jobs: Vec<Mendable> = page
            .into_iter()
            .filter(|row| !row.duplicate)
            .filter_map(|row| Some((row.job_id?, row.device_id.map(DeviceId::from))))
            .collect();
        if jobs.is_empty() {
            return Ok((Retried::default(), next));
        }
        let (mut fit, mut retried) = (jobs.clone(), Retried::default());
        for _ in 0..ROUNDS {
            match self.try_retry(key, &fit, wish, environment).await {
                Ok(begun) => return Ok((Retried { begun, ..retried }, next)),
                Err(Uncounted::Breach) => {}
                Err(Uncounted::Store(error)) => return Err(error),
            }
            fit = self.find_mendable(key, &jobs).await?;
            let asks = column(&fit, |(_, device)| Ask {
                // Not by the job's own id: that is recorded, its new run is not.
                job: JobId::new(key.lane),
                request_id: None,
                counted: counted(wish.actor, environment, *device),
            });
            let met = self.find_unfit(&asks).await?;
            let left = met.iter().flatten().count();
            retried.left = u32::try_from(left).unwrap_or(u32::MAX);
            retried.over = met.iter().flatten().next().copied();
            fit = fit.into_iter().zip(met).filter(|(_, over)| over.is_none()).map(|(job, _)| job).collect();
        }
        Err(overtaken())
    }

    /// Those of `jobs` that failed or expired, and have not been given new attempts.
    async fn find_mendable(&self, key: BatchKey, jobs: &[Mendable]) -> Result<Vec<Mendable>, StoreError> {
        let mendable = sqlx::query_scalar!(
            r#"
            select t.job_id as "job_id!" from unnest($2::uuid[]) as t (job_id)
            cross join lateral (
                select state from outcome
                where outcome.lane = $1 and outcome.job_id = t.job_id order by run desc limit 1
            ) o
            where o.state in (4, 6)
              and (select r.run from ready r where r.lane = $1 and r.job_id = t.job_id limit 1) is null
            "#,
            key.lane.number(),
            &column(jobs, |(job, _)| *job),
        )
        .fetch_all(&self.pool)
        .await?;
        let mendable: HashSet<Uuid> = mendable.into_iter().collect();
        Ok(jobs.iter().filter(|(job, _)| mendable.contains(job)).copied().collect())
    }

    /// Gives all of `jobs` that may have them new attempts and counts those, or none.
    async fn try_retry(
        &self,
        key: BatchKey,
        jobs: &[Mendable],
        wish: &RetryWish<'_>,
        environment: EnvironmentId,
    ) -> Result<u32, Uncounted> {
        let mut transaction = self.pool.begin().await?;
        let note = Note::by(wish.actor, key.lane, Personal::because(wish.reason, wish.ticket));
        let begun = sqlx::query_scalar!(
            r#"
            with b as (
                -- Locked, so that nobody finds it done or cancelled meanwhile.
                select lane, number, expires_at from batch
                where lane = $1 and number = $2 and state in (1, 2, 3, 4) for update
            ), fit as (
                select t.job_id, o.run, o.state, j.environment_id, j.flow
                from b cross join unnest($3::uuid[]) as t (job_id)
                cross join lateral (
                    select run, state from outcome
                    where outcome.lane = $1 and outcome.job_id = t.job_id order by run desc limit 1
                ) o
                cross join lateral (
                    -- Locked, so that it is not erased meanwhile.
                    select environment_id, flow from job where job.lane = $1 and job.job_id = t.job_id limit 1 for key share
                ) j
                where o.state in (4, 6)
                  and (select r.run from ready r where r.lane = $1 and r.job_id = t.job_id limit 1) is null
            ), begun as (
                insert into redrive (lane, job_id, run, caller, reason, ticket, expires_at)
                select b.lane, fit.job_id, fit.run + 1, $4, $5, $6, b.expires_at from fit, b
                on conflict do nothing
                returning lane, job_id, run, caller, requested_at, expires_at
            ), again as (
                select begun.*, fit.environment_id, fit.flow from begun join fit using (job_id)
            ), noted as (
                insert into audit (lane, event_id, environment_id, job_id, trace_id, run, action, caller, policy,
                                   personal_digest, personal)
                select lane, audit_event_id($7, job_id), environment_id, job_id, $8, run, $9, caller, $10, $11, $12 from again
            ), counted as (
                insert into batch_delta (lane, number, delta_id, failed, expired)
                select $1, $2, $7, -count(*) filter (where fit.state = 4), -count(*) filter (where fit.state = 6)
                from fit where fit.job_id in (select job_id from begun)
                having count(*) > 0
            ), opened as (
                -- What the last step began may have ended since, and the batch with it. And what is sent again is judged anew.
                update batch
                set state = case when batch.state = 4 then 2 else batch.state end, completed_at = null,
                    revision = revision + 1, finished_before = finished_before - anew.finished,
                    failed_before = failed_before - anew.failed
                from b, (
                    select count(*) as finished, count(*) filter (where fit.state = 4) as failed
                    from fit where fit.job_id in (select job_id from begun)
                ) anew
                where batch.lane = b.lane and batch.number = b.number and anew.finished > 0
            )
            insert into ready (lane, job_id, environment_id, flow, due_at, run, attempt, expires_at)
            select lane, job_id, environment_id, flow, requested_at, run, 0, expires_at from again
            returning job_id
            "#,
            key.lane.number(),
            key.number.number(),
            &column(jobs, |(job, _)| *job),
            note.caller,
            wish.reason,
            wish.ticket,
            note.event_id,
            note.trace_id,
            Action::Redriven.number(),
            note.policy,
            note.digest,
            note.personal,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let begun: HashSet<Uuid> = begun.into_iter().collect();
        let used = jobs.iter().filter(|(job, _)| begun.contains(job));
        let group: Vec<Counted> = used.map(|(_, device)| counted(wish.actor, environment, *device)).collect();
        count_uses(&mut transaction, &group).await?;
        transaction.commit().await?;
        Ok(u32::try_from(begun.len()).unwrap_or(u32::MAX))
    }
}

fn counted(actor: &Actor, environment: EnvironmentId, device: Option<DeviceId>) -> Counted {
    Counted { caller: actor.caller.clone(), environment, device, limits: actor.limits }
}
