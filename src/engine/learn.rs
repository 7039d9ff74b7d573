//! What an answer of PingOne means: for its job, and for all others of the environment. Learned in memory at once, stored as it goes.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Core,
    complete::{Finished, Outcome},
    gate::{Reopened, Started},
    lookup,
    send::{Asked, Attempt, return_unsent},
};
use crate::{
    device::EnvironmentId,
    job::{Failure, Priority, Reason, RetryHint},
    redact::Redacted,
    store::{Failed, ReadFirst, Succeeded},
    telemetry::metrics::{Cause, metrics},
};

/// What an answer means for the job, and for its environment.
pub(super) fn conclude(
    core: &Arc<Core>,
    attempt: Attempt,
    asked: Asked,
    first: Option<ReadFirst>,
) -> Finished {
    let Asked { answer, started_at, duration, started, read } = asked;
    let (claim, device) = (attempt.claim, attempt.job.device);
    let environment = device.environment;
    count(&attempt, read, answer.outcome.as_ref().err());
    match answer.outcome {
        Ok(snapshot) => {
            if read {
                shown(core, environment)
            } else {
                answered(core, environment)
            }
            let (http_status, correlation_id) = (answer.http_status, answer.correlation_id);
            if let Some(failure) =
                lookup::nothing_to_unblock(&attempt.job, &snapshot, http_status, correlation_id.clone())
            {
                tracing::info!(job.id = %claim.id, environment.id = %environment, "{}", failure.message);
                let failed = Failed {
                    claim,
                    device,
                    started_at,
                    duration,
                    read,
                    probe: false,
                    failure,
                    hold: None,
                    learned_rate: None,
                };
                return Finished { result: Outcome::Failed(failed), first, attempt };
            }
            tracing::info!(
                job.id = %claim.id, environment.id = %environment, attempt = claim.attempt, read,
                duration_ms = millis(duration), "{}", if device.is_every() { "listed" } else { "unblocked" }
            );
            let succeeded = Succeeded {
                claim,
                device,
                started_at,
                duration,
                http_status: http_status.unwrap_or_default(),
                correlation_id,
                snapshot,
                read,
            };
            Finished { result: Outcome::Succeeded(succeeded), first, attempt }
        }
        Err(mut failure) => {
            let learned = learn(core, &attempt, &mut failure, started);
            tracing::warn!(
                job.id = %claim.id, environment.id = %environment, attempt = claim.attempt, read,
                reason = %failure.reason, duration_ms = millis(duration), "{}", failure.message
            );
            let failed = Failed {
                claim,
                device,
                started_at,
                duration,
                read,
                probe: started.probe,
                failure,
                hold: learned.hold,
                learned_rate: learned.rate,
            };
            Finished { result: Outcome::Failed(failed), first, attempt }
        }
    }
}

/// As a number in a log: of 128 bits it would be a text.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A request of an attempt was answered, or failed.
pub(super) fn count(attempt: &Attempt, read: bool, failure: Option<&Failure>) {
    let device = attempt.job.device;
    let request = match (device.is_every(), read) {
        (true, _) => "list",
        (false, true) => "read",
        (false, false) => "unblock",
    };
    let priority = Priority::of_flow(attempt.job.flow);
    metrics().jobs.attempted(device.environment, priority, request, failure.map(|failure| failure.reason));
}

#[derive(Default)]
struct Lesson {
    hold: Option<Duration>,
    rate: Option<f64>,
}

/// What a failure means for the environment: how long everything in it waits now.
fn learn(core: &Arc<Core>, attempt: &Attempt, failure: &mut Failure, started: Started) -> Lesson {
    let device = attempt.job.device;
    let now = Instant::now();
    let ours = core.lanes.owns(device.environment.lane(), now);
    let mut board = core.board();
    // A lane that is another's meanwhile: its owner learns from what is stored, and meets by itself what was met here. A replica
    // that was frozen finds all its requests unanswered, which says nothing of PingOne.
    let Some(desk) = board.get_mut(device.environment).filter(|_| ours) else {
        let hold = match failure.hint {
            RetryHint::Hold(asked) => asked,
            _ => None,
        };
        return Lesson { hold, rate: None };
    };
    if failure.reason == Reason::Forbidden && desk.gate.forbidden(device.user) {
        failure.reason = Reason::CredentialRefused;
        failure.hint = RetryHint::Credential;
        failure.message = std::mem::take(&mut failure.message)
            .and("; so it was for 20 users in a row, so it is the credential");
    }
    match failure.hint {
        RetryHint::Hold(asked) => {
            let limited = desk.gate.rate_limited(now, started, asked);
            metrics().upstream.throttled(limited.wait);
            let group = desk.group.clone();
            let staged = desk.give_up();
            drop(board);
            return_unsent(core, staged);
            if let Some(group) = group {
                core.licences.hold(core, &group, limited.wait, started);
            }
            Lesson { hold: Some(limited.wait), rate: limited.rate }
        }
        RetryHint::Credential => {
            if !desk.gate.stands(now).credential_refused {
                metrics().upstream.turned(Cause::CredentialRefused, true);
            }
            let wait = desk.gate.credential_refused(now);
            let staged = desk.give_up();
            drop(board);
            return_unsent(core, staged);
            Lesson { hold: Some(wait), rate: None }
        }
        RetryHint::Never | RetryHint::Backoff | RetryHint::BackoffFew | RetryHint::After(_) => {
            let failed = matches!(failure.reason, Reason::Unavailable | Reason::Timeout);
            if !failed {
                drop(board);
                match failure.reason {
                    // It says nothing of the credential: the next users may be forbidden as well.
                    Reason::Forbidden => reached(core, device.environment),
                    // PingOne answered, so it took the credential.
                    _ => answered(core, device.environment),
                }
            } else if let Some(wait) = desk.gate.failed(now, started) {
                let staged = desk.give_up();
                drop(board);
                return_unsent(core, staged);
                circuit_opened(core, device.environment, failure.message.clone(), wait, started.probe);
            }
            Lesson::default()
        }
    }
}

/// PingOne answered and took the credential.
pub(super) fn answered(core: &Arc<Core>, environment: EnvironmentId) {
    let reopened = core.board().get_mut(environment).map(|desk| desk.gate.answered(Instant::now()));
    reopen(core, environment, reopened);
}

/// PingOne answered a read and took the credential for it.
pub(super) fn shown(core: &Arc<Core>, environment: EnvironmentId) {
    let reopened = core.board().get_mut(environment).map(|desk| desk.gate.read(Instant::now()));
    reopen(core, environment, reopened);
}

fn reopen(core: &Arc<Core>, environment: EnvironmentId, reopened: Option<Reopened>) {
    let Some(reopened) = reopened.filter(|reopened| reopened.credential || reopened.circuit) else { return };
    if reopened.credential {
        metrics().upstream.turned(Cause::CredentialRefused, false);
        tracing::info!(environment.id = %environment, "PingOne takes the credential again");
    }
    core.wake.notify_one();
    let core = Arc::clone(core);
    tokio::spawn(async move {
        let stored = match (reopened.credential, reopened.circuit) {
            (true, _) => core.store.credential_accepted(environment).await,
            (false, _) => Ok(()),
        };
        if let Err(error) = stored {
            tracing::warn!(%error, "that the credential is taken again was not stored");
        }
        if reopened.circuit {
            circuit_closed(&core, environment).await;
        }
    });
}

/// PingOne answered, which says nothing of the credential.
pub(super) fn reached(core: &Arc<Core>, environment: EnvironmentId) {
    let turn = core.board().get_mut(environment).map(|desk| desk.gate.reached(Instant::now()));
    if turn == Some(super::breaker::Turn::Closed) {
        core.wake.notify_one();
        let core = Arc::clone(core);
        tokio::spawn(async move { circuit_closed(&core, environment).await });
    }
}

fn circuit_opened(core: &Arc<Core>, environment: EnvironmentId, why: Redacted, wait: Duration, probed: bool) {
    tracing::warn!(
        environment.id = %environment, retry_in_s = wait.as_secs(),
        "PingOne fails: one job at a time finds out whether it still does"
    );
    if !probed {
        metrics().upstream.turned(Cause::CircuitOpen, true);
    }
    let core = Arc::clone(core);
    tokio::spawn(async move {
        if let Err(error) = core.store.breaker_opened(environment, why.as_str(), wait).await {
            tracing::warn!(%error, "that PingOne fails was not stored");
        }
    });
}

async fn circuit_closed(core: &Core, environment: EnvironmentId) {
    metrics().upstream.turned(Cause::CircuitOpen, false);
    tracing::info!(environment.id = %environment, "PingOne answers again");
    if let Err(error) = core.store.breaker_closed(environment).await {
        tracing::warn!(%error, "that PingOne answers again was not stored");
    }
}
