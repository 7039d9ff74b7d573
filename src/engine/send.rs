//! One attempt: wait for its place, send once, hand the result on.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::Instrument as _;

use super::{Core, complete::Finished};
use crate::{
    device::{DeviceRef, EnvironmentId},
    job::{Failure, JobId, RetryHint},
    store::{Claim, Failed, LEASE, Succeeded, Unsent},
    telemetry,
};

/// A place at PingOne: when the request may start, and the permits it needs. Held until its result is saved.
#[derive(Debug)]
pub(super) struct Place {
    core: Arc<Core>,
    environment: EnvironmentId,
    pub(super) at: Instant,
    used: bool,
    _in_process: OwnedSemaphorePermit,
    /// Given back before the desk is looked at again.
    in_environment: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// The next place of `environment`, if there is one by `until`.
    pub(super) fn take(core: &Arc<Core>, environment: EnvironmentId, until: Instant) -> Option<Self> {
        let now = Instant::now();
        let limits = core.routes.find(environment)?.limits;
        let in_process = Arc::clone(&core.permits).try_acquire_owned().ok()?;
        let mut desks = core.desks();
        let desk = desks.entry(environment).or_insert_with(|| super::gate::Desk::new(limits, now));
        let in_environment = Arc::clone(&desk.slots).try_acquire_owned().ok()?;
        let at = desk.gate.take(now, until)?;
        Some(Self {
            core: Arc::clone(core),
            environment,
            at,
            used: false,
            _in_process: in_process,
            in_environment: Some(in_environment),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.in_environment.take());
        let mut desks = self.core.desks();
        let Some(desk) = desks.get_mut(&self.environment) else { return };
        if !self.used {
            desk.gate.give_back(self.at);
        }
        if desk.backlog {
            self.core.wake.notify_one();
        }
    }
}

/// That a job is in hand: it is not claimed again while this lives.
#[derive(Debug)]
pub(super) struct InHand {
    core: Arc<Core>,
    job: JobId,
}

impl InHand {
    /// Nothing when the job is in hand already.
    pub(super) fn new(core: &Arc<Core>, job: JobId) -> Option<Self> {
        core.busy().insert(job).then(|| Self { core: Arc::clone(core), job })
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.core.busy().remove(&self.job);
    }
}

/// A claimed job on its way to PingOne.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) claim: Claim,
    pub(super) device: DeviceRef,
    pub(super) trace_parent: Option<String>,
    pub(super) in_hand: InHand,
    pub(super) place: Place,
    /// When the claim was asked for: its lease and the job's time count from before it was granted.
    pub(super) asked_at: Instant,
}

/// Sends in a task of its own.
pub(super) fn spawn(core: &Arc<Core>, attempt: Attempt) {
    let core = Arc::clone(core);
    // Its own trace, linked to the call that asked: a hundred thousand jobs make no monster trace.
    let span = tracing::info_span!(
        target: telemetry::SPANS, parent: None, "attempt", job.id = %attempt.claim.id, attempt = attempt.claim.attempt, otel.kind = "consumer"
    );
    if let Some(trace_parent) = &attempt.trace_parent {
        telemetry::link_to(&span, trace_parent);
    }
    let sending = async move {
        let finished = run(&core, attempt).await;
        // Only fails when the engine is gone: then the lease lapses and another replica settles it.
        let _ = core.results.send(finished);
    };
    tokio::spawn(sending.instrument(span));
}

async fn run(core: &Core, mut attempt: Attempt) -> Finished {
    let unsent =
        |attempt: Attempt| Finished::Unsent(Unsent { claim: attempt.claim }, attempt.place, attempt.in_hand);
    tokio::select! {
        biased;
        () = core.stopping.cancelled() => return unsent(attempt),
        () = tokio::time::sleep_until(attempt.place.at) => {}
    }
    let environment = attempt.device.environment;
    let Some(route) = core.routes.find(environment) else { return unsent(attempt) };
    let now = Instant::now();
    // It must have ended when the lease does, and may not begin after the job's time. A hold may have come in between.
    let latest = attempt.asked_at + LEASE - route.client.attempt_deadline() - Duration::from_secs(1);
    let expired = now >= attempt.asked_at + attempt.claim.expires_in;
    let held = core.desks().get(&environment).is_some_and(|desk| desk.gate.is_held(now));
    if now > latest || expired || held {
        return unsent(attempt);
    }
    attempt.place.used = true;

    let started_at = OffsetDateTime::now_utc();
    let answer =
        route.client.unblock(&attempt.device, attempt.claim.id, attempt.trace_parent.as_deref()).await;
    let duration = now.elapsed();
    let claim = attempt.claim;
    match answer.outcome {
        Ok(snapshot) => {
            credential_accepted(core, environment).await;
            tracing::info!(
                job.id = %claim.id, environment.id = %environment, attempt = claim.attempt,
                duration_ms = duration.as_millis(), "unblocked"
            );
            let succeeded = Succeeded {
                claim,
                device: attempt.device,
                started_at,
                duration,
                http_status: answer.http_status.unwrap_or_default(),
                correlation_id: answer.correlation_id,
                snapshot,
            };
            Finished::Succeeded(succeeded, attempt.place, attempt.in_hand)
        }
        Err(failure) => {
            let hold = learn(core, environment, &failure).await;
            tracing::warn!(
                job.id = %claim.id, environment.id = %environment, attempt = claim.attempt,
                reason = %failure.reason, duration_ms = duration.as_millis(), "{}", failure.message
            );
            let failed = Failed { claim, environment, started_at, duration, failure, hold };
            Finished::Failed(failed, attempt.place, attempt.in_hand)
        }
    }
}

/// What a failure means for the environment: how long everything in it waits now.
async fn learn(core: &Core, environment: EnvironmentId, failure: &Failure) -> Option<Duration> {
    let now = Instant::now();
    let learned = |learn: &dyn Fn(&mut super::gate::Gate) -> Duration| {
        core.desks().get_mut(&environment).map(|desk| learn(&mut desk.gate))
    };
    match failure.hint {
        // A lane given away meanwhile leaves no gate: its new owner learns from what is stored.
        RetryHint::Hold(asked) => learned(&|gate| gate.rate_limited(now, asked)).or(asked),
        RetryHint::Credential => learned(&|gate| gate.credential_refused(now)),
        RetryHint::Never | RetryHint::Backoff | RetryHint::BackoffFew | RetryHint::After(_) => {
            match failure.http_status {
                // PingOne answered, so it took the credential.
                Some(_) => credential_accepted(core, environment).await,
                None => {
                    if let Some(desk) = core.desks().get_mut(&environment) {
                        desk.gate.end_probe();
                    }
                }
            }
            None
        }
    }
}

async fn credential_accepted(core: &Core, environment: EnvironmentId) {
    let refused_before =
        core.desks().get_mut(&environment).is_some_and(|desk| desk.gate.credential_accepted());
    if !refused_before {
        return;
    }
    tracing::info!(environment.id = %environment, "PingOne takes the credential again");
    if let Err(error) = core.store.credential_accepted(environment).await {
        tracing::warn!(%error, "that the credential is taken again was not stored");
    }
    core.wake.notify_one();
}
