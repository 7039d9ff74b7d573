//! Cancels and redrives: plain fenced writes, from any replica.

use std::time::Duration;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    LEASE, SEND_WINDOW, Store, StoreError,
    audit::Note,
    between, count, micros,
    quota::{Ask, ROUNDS, Uncounted, count_uses, overtaken},
    stored_count,
};
use crate::{
    audit::{Action, Personal},
    device::DeviceId,
    job::{Actor, Counted, JobId, OverQuota, Priority, State},
    telemetry::{metrics, metrics::timed},
};

/// What a cancel met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It waited: it is over now, or was cancelled before.
    Ended,
    /// It is claimed for an attempt: the job ends with that.
    EndsWithAttempt {
        /// After this long, a request that has not started yet never will.
        settled_in: Duration,
    },
    /// It had ended otherwise.
    TooLate(State),
    /// There is no such job.
    Unknown,
}

/// A wish for new attempts.
#[derive(Debug, Clone)]
pub struct Redrive {
    /// Of this job.
    pub id: JobId,
    /// The run it is thought to be in.
    pub expected_run: Option<u32>,
    /// How long the new run may wait.
    pub time_to_live: Duration,
    /// Who asks.
    pub actor: Actor,
    /// Why.
    pub reason: String,
    /// For which case.
    pub ticket: String,
}

/// What a redrive met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// It has a new run, begun now or by an earlier call with the same expected run.
    Begun,
    /// It is in another run than was expected.
    OtherRun(u32),
    /// It is not over, or not in a state that new attempts could mend.
    Unfit(Option<State>),
    /// There is no such job.
    Unknown,
    /// New attempts are an unblock, and it would exceed a bound.
    Refused(OverQuota),
}

/// What one try to redrive came to.
enum Tried {
    Done(Redriven),
    /// A bound was met: nothing changed.
    Breach(Counted),
}

/// The claim was asked for a little before Postgres granted it, and two clocks never run quite alike.
const CLOCKS_DIFFER: Duration = Duration::from_millis(50);

struct Ended {
    run: i32,
    state: i16,
}

impl Store {
    /// Ends a waiting job, or has it end with the attempt that runs.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless.
    pub async fn cancel(&self, id: JobId, actor: &Actor, reason: &str) -> Result<Cancelled, StoreError> {
        let _timed = timed("cancel");
        let (lane, uuid) = (id.lane().number(), id.as_uuid());
        let mut transaction = self.pool.begin().await?;
        let ready = sqlx::query!(
            r#"
            select environment_id, run, flow, lease_until > now() as "leased!", now() as "now!",
                   case when lease_until > now() then lease_until end as lease_until
            from ready where lane = $1 and job_id = $2 for update
            "#,
            lane,
            uuid,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(ready) = ready else {
            return Ok(match last_outcome(&mut transaction, id).await? {
                None => Cancelled::Unknown,
                Some((_, State::Cancelled)) => Cancelled::Ended,
                Some((_, state)) => Cancelled::TooLate(state),
            });
        };
        let personal = Personal::because(reason, "");
        let note = Note::by(actor, id.lane(), personal);
        sqlx::query!(
            r#"
            with asked as (
                insert into cancellation (lane, job_id, run, caller, reason) values ($1, $2, $3, $4, $5)
                on conflict do nothing
                returning lane, job_id, run, caller
            )
            insert into audit (lane, event_id, environment_id, job_id, trace_id, run, action, caller, policy, personal_digest,
                               personal)
            select lane, $6, $7, job_id, $8, run, $9, caller, $10, $11, $12 from asked
            "#,
            lane,
            uuid,
            ready.run,
            note.caller,
            reason,
            note.event_id,
            ready.environment_id,
            note.trace_id,
            Action::CancelAsked.number(),
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&mut *transaction)
        .await?;
        if ready.leased {
            sqlx::query!(
                "update ready set cancel_requested = true where lane = $1 and job_id = $2",
                lane,
                uuid
            )
            .execute(&mut *transaction)
            .await?;
        } else {
            sqlx::query!(
                r#"
                with gone as (
                    delete from ready where lane = $1 and job_id = $2
                    returning lane, job_id, environment_id, run, attempt, spared, flow
                ), noted as (
                    insert into audit (lane, event_id, environment_id, job_id, run, attempts, action, outcome, caller)
                    select lane, audit_event_id($3, job_id), environment_id, job_id, run, attempt - spared, 6, 5,
                           'pingone-unblock'
                    from gone
                ), counted as (
                    insert into batch_delta (lane, number, delta_id, cancelled)
                    select lane, flow - flow % 2, $3, 1 from gone where flow > 1
                )
                insert into outcome (lane, job_id, run, state, attempt, spared)
                select lane, job_id, run, 5, attempt, spared from gone
                "#,
                lane,
                uuid,
                Uuid::now_v7(),
            )
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        if !ready.leased {
            metrics().jobs.finished(Priority::of_flow(ready.flow), State::Cancelled, None, 1);
        }
        Ok(match ready.lease_until {
            Some(until) => Cancelled::EndsWithAttempt {
                settled_in: between(ready.now, until - LEASE + SEND_WINDOW + CLOCKS_DIFFER),
            },
            None => Cancelled::Ended,
        })
    }

    /// Begins a new run of a job that failed or expired.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless where it names the run.
    pub async fn redrive(&self, wish: &Redrive) -> Result<Redriven, StoreError> {
        let _timed = timed("redrive");
        for _ in 0..ROUNDS {
            let counted = match self.try_redrive(wish).await? {
                Tried::Done(redriven) => return Ok(redriven),
                Tried::Breach(counted) => counted,
            };
            // Not by the job's own id: that is recorded, its new run is not.
            let ask = Ask { job: JobId::new(wish.id.lane()), request_id: None, counted };
            if let Some(over) = self.find_unfit(&[ask]).await?.into_iter().flatten().next() {
                return Ok(Redriven::Refused(over));
            }
        }
        Err(overtaken())
    }

    async fn try_redrive(&self, wish: &Redrive) -> Result<Tried, StoreError> {
        let done = |redriven| Ok(Tried::Done(redriven));
        let (lane, uuid) = (wish.id.lane().number(), wish.id.as_uuid());
        let begun_before = |run: u32| wish.expected_run.is_some_and(|expected| run == expected + 1);
        let mut transaction = self.pool.begin().await?;
        // Held until the end, so that the job is not forgotten meanwhile: see `forget_jobs`.
        let there = sqlx::query!(
            "select environment_id, device_id, flow from job where lane = $1 and job_id = $2 for key share",
            lane,
            uuid
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(there) = there else { return done(Redriven::Unknown) };
        let running = sqlx::query_scalar!(
            "select run from ready where lane = $1 and job_id = $2 for update",
            lane,
            uuid
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(run) = running {
            return done(if begun_before(count(run)) { Redriven::Begun } else { Redriven::Unfit(None) });
        }
        let Some((run, state)) = last_outcome(&mut transaction, wish.id).await? else {
            return done(Redriven::Unknown);
        };
        if begun_before(run) {
            return done(Redriven::Begun);
        }
        if wish.expected_run.is_some_and(|expected| expected != run) {
            return done(Redriven::OtherRun(run));
        }
        if !matches!(state, State::Failed | State::Expired) {
            return done(Redriven::Unfit(Some(state)));
        }
        let personal = Personal::because(&wish.reason, &wish.ticket);
        let note = Note::by(&wish.actor, wish.id.lane(), personal);
        let begun = sqlx::query!(
            r#"
            with begun as (
                insert into redrive (lane, job_id, run, caller, reason, ticket, expires_at)
                values ($1, $2, $3, $4, $5, $6, now() + $7::bigint * interval '1 microsecond')
                on conflict do nothing
                returning lane, job_id, run, caller, requested_at, expires_at
            ), again as (
                select begun.*, job.environment_id, coalesce(job.flow, job.priority - 1) as flow
                from begun, job
                where job.lane = $1 and job.job_id = $2
            ), noted as (
                insert into audit (lane, event_id, environment_id, job_id, trace_id, run, action, caller, policy,
                                   personal_digest, personal)
                select lane, $8, environment_id, job_id, $9, run, $10, caller, $11, $12, $13 from again
            )
            insert into ready (lane, job_id, environment_id, flow, due_at, run, attempt, expires_at)
            select lane, job_id, environment_id, flow, requested_at, run, 0, expires_at from again
            "#,
            lane,
            uuid,
            stored_count(run + 1),
            note.caller,
            wish.reason,
            wish.ticket,
            micros(wish.time_to_live),
            note.event_id,
            note.trace_id,
            Action::Redriven.number(),
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&mut *transaction)
        .await?;
        if begun.rows_affected() == 1 {
            reopen_batch(&mut transaction, wish.id, state).await?;
            let device = Some(DeviceId::from(there.device_id)).filter(|device| *device != DeviceId::EVERY);
            let counted = Counted {
                caller: wish.actor.caller.clone(),
                environment: there.environment_id.into(),
                device,
                limits: wish.actor.limits,
            };
            // A list of devices that no batch asked for unblocks none of them.
            let counts = device.is_some() || there.flow.is_some();
            let group: &[Counted] = if counts { std::slice::from_ref(&counted) } else { &[] };
            match count_uses(&mut transaction, group).await {
                Ok(()) => {}
                Err(Uncounted::Breach) => return Ok(Tried::Breach(counted)),
                Err(Uncounted::Store(error)) => return Err(error),
            }
        }
        transaction.commit().await?;
        // No row: another call began the same run in between.
        let begun_here = begun.rows_affected() == 1;
        done(if begun_here || wish.expected_run.is_some() { Redriven::Begun } else { Redriven::Unfit(None) })
    }
}

/// A job of a batch that has a new run is one that failed or expired no more, and its batch goes on.
async fn reopen_batch(connection: &mut PgConnection, id: JobId, ended: State) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        with of as (
            select lane, flow - flow % 2 as number from job where lane = $1 and job_id = $2 and flow is not null
        ), counted as (
            insert into batch_delta (lane, number, delta_id, failed, expired)
            select lane, number, $3, case when $4::bool then -1 else 0 end, case when $4::bool then 0 else -1 end from of
        )
        update batch set state = case when state in (4, 5) then 2 else state end, completed_at = null,
                         state_reason = case when state in (4, 5) then '' else state_reason end,
                         -- What was cancelled takes no more rows.
                         sealed = sealed or state = 5, revision = revision + 1
        from of where batch.lane = of.lane and batch.number = of.number
        "#,
        id.lane().number(),
        id.as_uuid(),
        Uuid::now_v7(),
        ended == State::Failed,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn last_outcome(connection: &mut PgConnection, id: JobId) -> Result<Option<(u32, State)>, StoreError> {
    let ended = sqlx::query_as!(
        Ended,
        "select run, state from outcome where lane = $1 and job_id = $2 order by run desc limit 1",
        id.lane().number(),
        id.as_uuid(),
    )
    .fetch_optional(connection)
    .await?;
    ended
        .map(|ended| {
            State::from_number(ended.state)
                .map(|state| (count(ended.run), state))
                .ok_or_else(|| StoreError::Corrupt(format!("job {id} ended in state {}", ended.state)))
        })
        .transpose()
}
