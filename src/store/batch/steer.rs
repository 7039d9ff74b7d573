//! What is asked of a batch: pause, resume, cancel. From any replica.

use uuid::Uuid;

use super::BatchKey;
use crate::{
    audit::{Action, Personal},
    batch::State,
    device::EnvironmentId,
    job::{self, Actor, JobId, Priority},
    store::{Store, StoreError, audit::Note},
    telemetry::{metrics, metrics::timed},
};

/// Jobs cancelled by one statement.
const AT_ONCE: i64 = 500;

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
        environment: EnvironmentId,
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
}
