//! What is asked of a batch: pause, resume, cancel, new attempts. From any replica.

use uuid::Uuid;

use super::{BatchKey, results::Place};
use crate::{
    audit::{Action, Personal},
    batch::State,
    job::{self, Actor, JobId, Priority},
    store::{Store, StoreError, audit::Note, count},
    telemetry::{metrics, metrics::timed},
};

/// Jobs given new attempts, or cancelled, by one statement.
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

impl Store {
    /// Brings the batch from one of the states `from` to `to`, which is to say that it is paused or cancelled, and says `status` of it.
    /// False when it is in none of them.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless.
    pub async fn move_batch(
        &self,
        key: BatchKey,
        from: &[State],
        to: State,
        status: &str,
        (actor, reason): (&Actor, &str),
    ) -> Result<bool, StoreError> {
        let _timed = timed("move_batch");
        let from: Vec<i16> = from.iter().map(|state| state.number()).collect();
        let action = if to == State::Paused { Action::BatchPaused } else { Action::BatchCancelled };
        let note = Note::by(actor, key.lane, Personal::because(reason, ""));
        let moved = sqlx::query_scalar!(
            r#"
            with b as (
                select lane, number, state, state_reason, environment_id, batch_id from batch
                where lane = $1 and number = $2 and state = any($5) for update
            ), moved as (
                update batch set state = $3, state_reason = $4, paused_by_itself = false, revision = revision + 1
                from b where batch.lane = b.lane and batch.number = b.number
            ), noted as (
                insert into audit (lane, event_id, environment_id, trace_id, action, caller, policy, batch_id,
                                   personal_digest, personal)
                select lane, $6, environment_id, $7, $8, $9, $10, batch_id, $11, $12 from b
                -- The same call again changes nothing.
                where state <> $3 or state_reason <> $4
            )
            select 1 as "one!" from b
            "#,
            key.lane.number(),
            key.number.number(),
            to.number(),
            status,
            &from,
            note.event_id,
            note.trace_id,
            action.number(),
            note.caller,
            note.policy,
            note.digest,
            note.personal,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(moved.is_some())
    }

    /// Takes a pause back, the canary's and the failure ratio's too. False when it is not paused.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless.
    pub async fn resume_batch(&self, key: BatchKey, actor: &Actor, reason: &str) -> Result<bool, StoreError> {
        let _timed = timed("resume_batch");
        let note = Note::by(actor, key.lane, Personal::because(reason, ""));
        // What its canary has left is none any more once all of it has a result.
        let resumed = sqlx::query!(
            r#"
            with delta as (
                select coalesce(sum(succeeded + failed + cancelled + expired), 0)::bigint as finished,
                       coalesce(sum(failed), 0)::bigint as failed
                from batch_delta where lane = $1 and number = $2
            ), resumed as (
                update batch b
                set state = case when b.start_when_sealed and not b.sealed then 1 else 2 end, state_reason = '',
                    paused_by_itself = false, revision = b.revision + 1,
                    canary_passed = b.canary_passed or (
                        b.canary_count > 0 and (b.sealed or b.jobs >= b.canary_count) and b.jobs > 0 and not exists (
                            select from ready
                            where ready.environment_id = b.environment_id and ready.flow = b.number and ready.lane = b.lane
                        )
                    ),
                    finished_before = b.succeeded + b.failed + b.cancelled + b.expired + delta.finished,
                    failed_before = b.failed + delta.failed
                from delta
                where b.lane = $1 and b.number = $2 and b.state = 3
                returning b.lane, b.environment_id, b.batch_id
            )
            insert into audit (lane, event_id, environment_id, trace_id, action, caller, policy, batch_id, personal_digest,
                               personal)
            select lane, $3, environment_id, $4, $5, $6, $7, batch_id, $8, $9 from resumed
            "#,
            key.lane.number(),
            key.number.number(),
            note.event_id,
            note.trace_id,
            Action::BatchResumed.number(),
            note.caller,
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&self.pool)
        .await?;
        Ok(resumed.rows_affected() == 1)
    }

    /// Ends jobs of the batch that wait, from `after` on in the order they would be sent; those at PingOne end with their
    /// attempt. Says which ended, and where to go on; nothing: it was the last step.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless.
    pub async fn cancel_step(
        &self,
        key: BatchKey,
        environment: crate::device::EnvironmentId,
        flow: i64,
        after: (time::OffsetDateTime, JobId),
    ) -> Result<(Vec<JobId>, Option<(time::OffsetDateTime, JobId)>), StoreError> {
        let _timed = timed("cancel_step");
        let mut transaction = self.pool.begin().await?;
        let waiting = sqlx::query!(
            r#"
            select job_id, due_at, lease_until < now() as "waits!" from ready
            where environment_id = $1 and lane = $2 and flow = $3 and (due_at, job_id) > ($4, $5)
            order by due_at, job_id limit $6
            for update skip locked
            "#,
            environment.as_uuid(),
            key.lane.number(),
            flow,
            after.0,
            after.1.as_uuid(),
            AT_ONCE,
        )
        .fetch_all(&mut *transaction)
        .await?;
        let next = waiting.last().map(|row| (row.due_at, JobId::from(row.job_id)));
        let lanes = |ids: &[Uuid]| ids.iter().map(|_| key.lane.number()).collect::<Vec<i16>>();
        let (ended, running): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|row| row.waits);
        let ended: Vec<Uuid> = ended.into_iter().map(|row| row.job_id).collect();
        let running: Vec<Uuid> = running.into_iter().map(|row| row.job_id).collect();
        if !running.is_empty() {
            sqlx::query!(
                r#"
                update ready set cancel_requested = true
                from unnest($1::smallint[], $2::uuid[]) as t (lane, job_id)
                where ready.lane = t.lane and ready.job_id = t.job_id
                "#,
                &lanes(&running),
                &running,
            )
            .execute(&mut *transaction)
            .await?;
        }
        if !ended.is_empty() {
            sqlx::query!(
                r#"
                with gone as (
                    delete from ready using unnest($1::smallint[], $2::uuid[]) as t (lane, job_id)
                    where ready.lane = t.lane and ready.job_id = t.job_id
                    returning ready.lane, ready.job_id, environment_id, run, attempt, spared
                ), noted as (
                    insert into audit (lane, event_id, environment_id, job_id, run, attempts, action, outcome, caller)
                    select lane, audit_event_id($5, job_id), environment_id, job_id, run, attempt - spared, 6, 5,
                           'pingone-unblock'
                    from gone
                ), counted as (
                    insert into batch_delta (lane, number, delta_id, cancelled)
                    select $3, $4, $5, count(*) from gone
                )
                insert into outcome (lane, job_id, run, state, attempt, spared)
                select lane, job_id, run, 5, attempt, spared from gone
                "#,
                &lanes(&ended),
                &ended,
                key.lane.number(),
                key.number.number(),
                Uuid::now_v7(),
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        metrics().jobs.finished(Priority::Bulk, job::State::Cancelled, None, ended.len());
        Ok((ended.into_iter().map(JobId::from).collect(), next))
    }

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

    /// Gives those of the rows from `from` on new attempts whose jobs failed or expired. Says how many, and where to go on; nothing:
    /// it was the last step.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless.
    pub async fn retry_step(
        &self,
        key: BatchKey,
        from: Place,
        wish: &RetryWish<'_>,
    ) -> Result<(u32, Option<Place>), StoreError> {
        let _timed = timed("retry_step");
        let page = sqlx::query!(
            r#"
            select target_offset, sub, job_id as "job_id?", duplicate from batch_target
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
        let jobs: Vec<Uuid> =
            page.into_iter().filter(|row| !row.duplicate).filter_map(|row| row.job_id).collect();
        if jobs.is_empty() {
            return Ok((0, next));
        }
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
            returning 1 as "one!"
            "#,
            key.lane.number(),
            key.number.number(),
            &jobs,
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
        .fetch_all(&self.pool)
        .await?;
        Ok((u32::try_from(begun.len()).unwrap_or(u32::MAX), next))
    }
}
