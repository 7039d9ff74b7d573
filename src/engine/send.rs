//! One attempt: staged until a token and a slot are its own, sent once, its result handed on.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tracing::Instrument as _;

use super::{
    Core, Route,
    complete::{Finished, Outcome},
    desk::{Due, Staged},
    flow::Waiting,
    gate::Started,
    learn::conclude,
    stale,
};
use crate::{
    device::{DeviceId, EnvironmentId, Lane, UserId},
    job::{JobId, Priority},
    pingone::Answer,
    store::{Claim, ReadFirst, Unsent},
    telemetry::{self, metrics},
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
    flow: i64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(desk) = self.core.board().get_mut(self.environment) {
            desk.release(Priority::of_flow(self.flow), Instant::now());
            desk.ended(self.flow);
        }
        kick(&self.core, self.environment);
    }
}

/// A claimed job waits to start from now on.
pub(super) fn stage(core: &Arc<Core>, mut attempt: Attempt) {
    let (environment, priority) = (attempt.job.device.environment, Priority::of_flow(attempt.job.flow));
    let target = (attempt.job.device.user, attempt.job.device.device);
    // A list of devices is no unblock: it answers nobody else.
    if priority == Priority::Interactive && !attempt.job.device.is_every() {
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
    let due = core.board().get_mut(environment).map(|desk| {
        let due = desk.due(now, may_start);
        due.start.iter().for_each(|(attempt, _, _)| desk.began(attempt.job.flow));
        due
    });
    let Some(Due { start, late, wake, hungry }) = due else { return };
    for (attempt, started, _) in start {
        let slot = Slot { core: Arc::clone(core), environment, flow: attempt.job.flow };
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
    let only_reads = attempt.job.device.is_every();
    let (began, started_at) = (Instant::now(), OffsetDateTime::now_utc());
    // Longer, perhaps, than anyone who cancels waits for an answer.
    if let Err(answer) = route.client.prepare().await {
        let asked =
            Asked { answer: *answer, started_at, duration: began.elapsed(), started, read: only_reads };
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
    metrics().jobs.sent(Priority::of_flow(attempt.job.flow), waited(&attempt.job, now));
    let (asked, first) = if stale::is_stale(core, &attempt.job, now) {
        match Box::pin(stale::read_and_send(core, route, &attempt, started)).await {
            stale::Settled::By(asked, first) => (*asked, first),
            stale::Settled::NotAtAll(first) => {
                drop(slot);
                return not_sent(attempt, Some(first));
            }
        }
    } else {
        let started_at = OffsetDateTime::now_utc();
        let answer = ask(route, &attempt).await;
        (Asked { answer, started_at, duration: now.elapsed(), started, read: only_reads }, None)
    };
    // The next may start while this result is saved.
    let finished = conclude(core, attempt, asked, first);
    drop(slot);
    finished
}

/// How long a job has been due.
fn waited(job: &Waiting, now: Instant) -> Duration {
    let first = now.saturating_duration_since(job.requested);
    match job.repeated {
        false => first,
        // When it was due again only the database's clock says: near enough to ours for a histogram.
        true => first.min(Duration::try_from(OffsetDateTime::now_utc() - job.due_at).unwrap_or_default()),
    }
}

/// The one request of a job: its device is unblocked or, where it is for all of a user's, they are listed.
async fn ask(route: &Route, attempt: &Attempt) -> Answer {
    let (device, id) = (&attempt.job.device, attempt.claim.id);
    let trace_parent = attempt.job.trace_parent.as_deref();
    match device.is_every() {
        true => route.client.list_devices(device.environment, device.user, id, trace_parent).await,
        false => route.client.unblock(device, id, trace_parent).await,
    }
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
