//! One attempt: staged until a token and a slot are its own, sent once, its result handed on.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::Instrument as _;

use super::{
    Core,
    complete::{Finished, Outcome},
    desk::{Due, Staged, priority_of},
    flow::Waiting,
    gate::{Reopened, Started},
    stale,
};
use crate::{
    device::{DeviceId, EnvironmentId, Lane, UserId},
    job::{Failure, JobId, Priority, Reason, RetryHint},
    pingone::Answer,
    store::{Claim, Failed, ReadFirst, Succeeded, Unsent},
    telemetry,
};

/// A claim is given back in no more than this when it could not be used and everything ends.
const GIVE_BACK_AT_MOST: Duration = Duration::from_secs(2);
/// Who waits longer for an access token takes a place within the limits anew.
const PLACE_KEPT: Duration = Duration::from_millis(10);

/// A claimed job on its way to PingOne. Everything it holds is held until its result is saved.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) claim: Claim,
    /// As it waits again if it is not sent.
    pub(super) job: Waiting,
    /// Later, its request may not start: whoever cancels relies on it.
    pub(super) start_by: Instant,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) in_hand: InHand,
}

/// That a job is in hand: it is not claimed again while this lives.
#[derive(Debug)]
pub(super) struct InHand {
    core: Arc<Core>,
    job: JobId,
    /// Bulk jobs for that device wait for its answer.
    answering: Option<(EnvironmentId, UserId, DeviceId)>,
}

impl InHand {
    /// Nothing when the job is in hand already.
    pub(super) fn new(core: &Arc<Core>, job: JobId) -> Option<Self> {
        core.busy().insert(job).then(|| Self { core: Arc::clone(core), job, answering: None })
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.core.busy().remove(&self.job);
        if let Some((environment, user, device)) = self.answering
            && let Some(desk) = self.core.board().get_mut(environment)
        {
            desk.answered((user, device));
        }
    }
}

/// One of the requests that may be at PingOne at once.
#[derive(Debug)]
struct Slot {
    core: Arc<Core>,
    environment: EnvironmentId,
    priority: Priority,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(desk) = self.core.board().get_mut(self.environment) {
            desk.release(self.priority, Instant::now());
        }
        kick(&self.core, self.environment);
    }
}

/// A claimed job waits to start from now on.
pub(super) fn stage(core: &Arc<Core>, mut attempt: Attempt) {
    let (environment, priority) = (attempt.job.device.environment, priority_of(attempt.job.flow));
    let target = (attempt.job.device.user, attempt.job.device.device);
    if priority == Priority::Interactive {
        attempt.in_hand.answering = Some((environment, target.0, target.1));
    }
    let mut board = core.board();
    let unsent = match board.get_mut(environment) {
        Some(desk) => desk.stage(Staged { start_by: attempt.start_by, target, attempt }, priority),
        // The lane was given away meanwhile. Nobody waits for its answer.
        None => {
            attempt.in_hand.answering = None;
            vec![attempt]
        }
    };
    drop(board);
    return_unsent(core, unsent);
}

/// Starts what may start in `environment` now, and sees to it that the rest is looked at in time.
pub(super) fn kick(core: &Arc<Core>, environment: EnvironmentId) {
    let now = Instant::now();
    let may_start = core.schedules(environment);
    let due = core.board().get_mut(environment).map(|desk| desk.due(now, may_start));
    let Some(Due { start, late, wake, hungry }) = due else { return };
    for (attempt, started, priority) in start {
        let slot = Slot { core: Arc::clone(core), environment, priority };
        spawn(core, attempt, started, slot);
    }
    return_unsent(core, late);
    if let Some(at) = wake {
        let core = Arc::clone(core);
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            kick(&core, environment);
        });
    }
    if hungry {
        core.wake.notify_one();
    }
}

/// Gives claims back that cannot be used.
pub(super) fn return_unsent(core: &Core, attempts: Vec<Attempt>) {
    for attempt in attempts {
        // Only fails when the engine is gone: then the lease lapses and another replica settles it.
        let _ = core.results.send(not_sent(attempt, None));
    }
}

/// Gives all claims back that have not been used in the lanes for which `gone` holds, and waits until that is saved.
pub(super) async fn give_up(core: &Arc<Core>, gone: impl Fn(Lane) -> bool) {
    let staged = core.board().give_up(gone);
    if staged.is_empty() {
        return;
    }
    let jobs: Vec<JobId> = staged.iter().map(|attempt| attempt.job.id).collect();
    return_unsent(core, staged);
    let saved = async {
        while jobs.iter().any(|job| core.busy().contains(job)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Otherwise the claims lapse by themselves.
    let _ = tokio::time::timeout(GIVE_BACK_AT_MOST, saved).await;
}

/// Sends in a task of its own.
fn spawn(core: &Arc<Core>, attempt: Attempt, started: Started, slot: Slot) {
    let core = Arc::clone(core);
    // Its own trace, linked to the call that asked: a hundred thousand jobs make no monster trace.
    let span = match telemetry::wants_span(attempt.job.trace_parent.is_some()) {
        true => tracing::info_span!(
            target: telemetry::SPANS, parent: None, "attempt", job.id = %attempt.claim.id, attempt = attempt.claim.attempt, otel.kind = "consumer"
        ),
        false => tracing::Span::none(),
    };
    if let Some(trace_parent) = &attempt.job.trace_parent {
        telemetry::link_to(&span, trace_parent);
    }
    let sending = async move {
        let finished = run(&core, attempt, started, slot).await;
        let _ = core.results.send(finished);
    };
    tokio::spawn(sending.instrument(span));
}

/// What was asked of PingOne, and what came of it.
pub(super) struct Asked {
    pub(super) answer: Answer,
    pub(super) started_at: OffsetDateTime,
    pub(super) duration: Duration,
    pub(super) started: Started,
    /// Whether the device was only read.
    pub(super) read: bool,
}

async fn run(core: &Arc<Core>, attempt: Attempt, mut started: Started, slot: Slot) -> Finished {
    let Some(route) = core.routes.find(attempt.job.device.environment) else {
        return unsent(core, attempt, started, slot);
    };
    let (began, started_at) = (Instant::now(), OffsetDateTime::now_utc());
    // Longer, perhaps, than anyone who cancels waits for an answer.
    if let Err(answer) = route.client.prepare().await {
        let asked = Asked { answer: *answer, started_at, duration: began.elapsed(), started, read: false };
        let finished = conclude(core, attempt, asked, None);
        drop(slot);
        return finished;
    }
    if began.elapsed() > PLACE_KEPT {
        // Those that waited together would leave together.
        let Some(place) = stale::next_place(core, &attempt).await else {
            return unsent(core, attempt, started, slot);
        };
        started = place;
    }
    let now = Instant::now();
    if now >= attempt.job.expires || now >= attempt.start_by {
        return unsent(core, attempt, started, slot);
    }
    let (asked, first) = if stale::is_stale(core, &attempt.job, now) {
        match Box::pin(stale::read_and_send(core, route, &attempt, started)).await {
            stale::Settled::By(asked, first) => (*asked, first),
            stale::Settled::NotAtAll(first) => {
                drop(slot);
                return not_sent(attempt, Some(*first));
            }
        }
    } else {
        let started_at = OffsetDateTime::now_utc();
        let (device, id) = (&attempt.job.device, attempt.claim.id);
        let answer = route.client.unblock(device, id, attempt.job.trace_parent.as_deref()).await;
        (Asked { answer, started_at, duration: now.elapsed(), started, read: false }, None)
    };
    // The next may start while this result is saved.
    let finished = conclude(core, attempt, asked, first);
    drop(slot);
    finished
}

fn unsent(core: &Core, attempt: Attempt, started: Started, slot: Slot) -> Finished {
    if let Some(desk) = core.board().get_mut(attempt.job.device.environment) {
        desk.gate.unused(started);
    }
    drop(slot);
    not_sent(attempt, None)
}

fn not_sent(attempt: Attempt, first: Option<ReadFirst>) -> Finished {
    Finished { result: Outcome::Unsent(Unsent { claim: attempt.claim }), first, attempt }
}

/// What an answer means for the job, and for its environment.
fn conclude(core: &Arc<Core>, attempt: Attempt, asked: Asked, first: Option<ReadFirst>) -> Finished {
    let Asked { answer, started_at, duration, started, read } = asked;
    let (claim, device) = (attempt.claim, attempt.job.device);
    let environment = device.environment;
    match answer.outcome {
        Ok(snapshot) => {
            if read {
                shown(core, environment)
            } else {
                answered(core, environment)
            }
            tracing::info!(
                job.id = %claim.id, environment.id = %environment, attempt = claim.attempt, read,
                duration_ms = duration.as_millis(), "unblocked"
            );
            let succeeded = Succeeded {
                claim,
                device,
                started_at,
                duration,
                http_status: answer.http_status.unwrap_or_default(),
                correlation_id: answer.correlation_id,
                snapshot,
                read,
            };
            Finished { result: Outcome::Succeeded(succeeded), first, attempt }
        }
        Err(mut failure) => {
            let learned = learn(core, &attempt, &mut failure, started);
            tracing::warn!(
                job.id = %claim.id, environment.id = %environment, attempt = claim.attempt, read,
                reason = %failure.reason, duration_ms = duration.as_millis(), "{}", failure.message
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
        failure.message =
            format!("{}; so it was for 20 users in a row, so it is the credential", failure.message);
    }
    match failure.hint {
        RetryHint::Hold(asked) => {
            let limited = desk.gate.rate_limited(now, started, asked);
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
                circuit_opened(core, device.environment, failure.message.clone(), wait);
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

fn circuit_opened(core: &Arc<Core>, environment: EnvironmentId, why: String, wait: Duration) {
    tracing::warn!(
        environment.id = %environment, retry_in_s = wait.as_secs(),
        "PingOne fails: one job at a time finds out whether it still does"
    );
    let core = Arc::clone(core);
    tokio::spawn(async move {
        if let Err(error) = core.store.breaker_opened(environment, &why, wait).await {
            tracing::warn!(%error, "that PingOne fails was not stored");
        }
    });
}

async fn circuit_closed(core: &Core, environment: EnvironmentId) {
    tracing::info!(environment.id = %environment, "PingOne answers again");
    if let Err(error) = core.store.breaker_closed(environment).await {
        tracing::warn!(%error, "that PingOne answers again was not stored");
    }
}
