//! Records jobs: calls that come while one commit is in flight leave together with the next. What can be sent at once is born
//! claimed and sent as soon as it is durable.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::Instant,
};

use super::{
    Core, QueueLimits,
    flow::Waiting,
    gather::Groups,
    look,
    send::{self, Attempt, InHand},
};
use crate::{
    device::EnvironmentId,
    job::{JobId, NewJob, OverQuota, Priority},
    store::{Claim, Recorded, SEND_WINDOW, StoreError, Submission},
    telemetry::{TracePoint, metrics, spans},
};

const GROUP_AT_MOST: usize = 256;
/// Calls that wait for their group, at most; more wait in the callers' own tasks.
const WAITING_AT_MOST: usize = 4096;

/// Why a job was not recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// Postgres did not take it. It may be recorded all the same where an answer was lost.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// As many jobs wait in its environment as may.
    #[error("{waiting} jobs wait in environment {environment}, as many as may")]
    QueueFull {
        /// Which.
        environment: EnvironmentId,
        /// How many.
        waiting: u64,
    },
    /// It would exceed a bound.
    #[error("{0}")]
    OverQuota(OverQuota),
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// A recorded job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub id: JobId,
    /// When it was recorded and whether its first attempt was claimed with it; nothing where it was recorded before.
    pub now: Option<(OffsetDateTime, bool)>,
}

/// Through which jobs are recorded. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Submitter(mpsc::Sender<Call>);

/// A job, and who waits for it to be durable.
#[derive(Debug)]
pub(super) struct Call {
    job: NewJob,
    reply: oneshot::Sender<Result<Submitted, SubmitError>>,
}

pub(super) fn channel() -> (Submitter, mpsc::Receiver<Call>) {
    let (sender, receiver) = mpsc::channel(WAITING_AT_MOST);
    (Submitter(sender), receiver)
}

impl Submitter {
    /// Records a job; it is durable when this returns. Whoever stops waiting does not stop it.
    ///
    /// # Errors
    /// [`SubmitError`]: the same call with the same request id settles whether it was recorded.
    pub async fn submit(&self, job: NewJob) -> Result<Submitted, SubmitError> {
        let (reply, submitted) = oneshot::channel();
        self.0.send(Call { job, reply }).await.map_err(|_| SubmitError::Stopped)?;
        submitted.await.map_err(|_| SubmitError::Stopped)?
    }
}

/// Records what comes until the last [`Submitter`] is gone.
pub(super) async fn run(core: Arc<Core>, calls: mpsc::Receiver<Call>) {
    let mut known = Known::default();
    let mut groups = Groups::new(calls, GROUP_AT_MOST);
    while let Some(calls) = groups.next().await {
        let mut group = Vec::with_capacity(calls.len());
        for call in calls {
            match core.backlogs.admit(call.job.device.environment, call.job.priority, 1) {
                Ok(()) => group.push(call),
                Err(full) => drop(call.reply.send(Err(full))),
            }
        }
        if !group.is_empty() {
            record(&core, group, &mut known).await;
        }
    }
}

/// For so long after a bound was met, what may meet it again is looked at first: a statement that fails costs its group more.
const LOOKS_FIRST: Duration = Duration::from_secs(10);

/// What was learned from earlier groups.
#[derive(Debug, Default)]
struct Known {
    environments: HashSet<EnvironmentId>,
    /// When a bound was met last.
    refused: Option<Instant>,
}

/// How many jobs wait where, as their owners said last and as was recorded here since.
#[derive(Debug)]
pub(super) struct Backlogs {
    limits: QueueLimits,
    waiting: Mutex<HashMap<EnvironmentId, [u64; 2]>>,
}

const BACKLOGS_EVERY: Duration = Duration::from_secs(1);

impl Backlogs {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { limits, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<EnvironmentId, [u64; 2]>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for so many more, if there is.
    pub(super) fn admit(
        &self,
        environment: EnvironmentId,
        priority: Priority,
        more: usize,
    ) -> Result<(), SubmitError> {
        let most = match priority {
            Priority::Interactive => self.limits.interactive,
            Priority::Bulk => self.limits.bulk,
        };
        let mut waiting = self.waiting();
        let count = &mut waiting.entry(environment).or_default()[index(priority)];
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        if *count + more > u64::from(most) {
            return Err(SubmitError::QueueFull { environment, waiting: *count });
        }
        *count += more;
        Ok(())
    }

    /// So many of those admitted were not recorded.
    pub(super) fn give_back(&self, environment: EnvironmentId, priority: Priority, fewer: usize) {
        let mut waiting = self.waiting();
        let count = &mut waiting.entry(environment).or_default()[index(priority)];
        *count = count.saturating_sub(u64::try_from(fewer).unwrap_or(u64::MAX));
    }
}

const fn index(priority: Priority) -> usize {
    match priority {
        Priority::Interactive => 0,
        Priority::Bulk => 1,
    }
}

/// Keeps the backlogs true, for as long as it runs.
pub(super) async fn watch_backlogs(core: Arc<Core>) {
    loop {
        match core.store.find_backlogs().await {
            Ok(found) => {
                let count = |stored: i64| u64::try_from(stored).unwrap_or_default();
                let waiting =
                    found.into_iter().map(|(id, interactive, bulk)| (id, [count(interactive), count(bulk)]));
                *core.backlogs.waiting() = waiting.collect();
            }
            Err(error) => tracing::debug!(%error, "the backlogs could not be read"),
        }
        tokio::time::sleep(BACKLOGS_EVERY).await;
    }
}

async fn record(core: &Arc<Core>, group: Vec<Call>, known: &mut Known) {
    match record_group(core, &group, known).await {
        Ok(submitted) => {
            for (call, submitted) in group.into_iter().zip(submitted) {
                // A caller that went away does not cancel its job.
                let _ = call.reply.send(submitted);
            }
        }
        // One bad row fails one caller, never its group.
        Err(error) if !error.is_transient() && group.len() > 1 => {
            for call in group {
                Box::pin(record(core, vec![call], known)).await;
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for call in group {
                let _ = call.reply.send(Err(SubmitError::Store(Arc::clone(&error))));
            }
        }
    }
}

async fn record_group(
    core: &Arc<Core>,
    group: &[Call],
    known: &mut Known,
) -> Result<Vec<Result<Submitted, SubmitError>>, StoreError> {
    let environments = group.iter().map(|call| call.job.device.environment);
    let unknown: HashSet<EnvironmentId> =
        environments.filter(|id| !known.environments.contains(id)).collect();
    if !unknown.is_empty() {
        core.store.register_environments(&unknown.iter().copied().collect::<Vec<_>>()).await?;
        known.environments.extend(unknown);
        // A hold or a pause may be stored of it: it is known before anything is sent.
        look::adopt(core).await?;
    }
    let asked_at = Instant::now();
    let places: Vec<Option<Promise>> = group.iter().map(|call| promise(core, &call.job, asked_at)).collect();
    let submissions: Vec<Submission> = group
        .iter()
        .zip(&places)
        .map(|(call, place)| Submission { job: call.job.clone(), born_claimed: place.is_some() })
        .collect();
    let asked = group.iter().map(|call| TracePoint::parse(call.job.trace_parent.as_deref()?));
    let look = known.refused.is_some_and(|at| at.elapsed() < LOOKS_FIRST);
    let recorded =
        spans::statement("submit", group.len(), asked, core.store.submit(&submissions, look)).await;
    for (call, _) in group.iter().zip(&places).filter(|(_, place)| place.is_some()) {
        if let Some(desk) = core.board().get_mut(call.job.device.environment) {
            desk.settle(call.job.priority);
        }
    }

    let mut submitted = Vec::with_capacity(group.len());
    let mut begun = HashSet::new();
    let mut waiting = HashSet::new();
    for ((call, place), recorded) in group.iter().zip(places).zip(recorded?) {
        let (id, environment) = (call.job.id, call.job.device.environment);
        let created_at = match recorded {
            Recorded::Earlier(id) => {
                metrics().jobs.accepted(call.job.priority, false, 1);
                submitted.push(Ok(Submitted { id, now: None }));
                continue;
            }
            Recorded::Refused(over) => {
                metrics().security.over_quota(over.bound(), 1);
                core.backlogs.give_back(environment, call.job.priority, 1);
                known.refused = Some(Instant::now());
                submitted.push(Err(SubmitError::OverQuota(over)));
                continue;
            }
            Recorded::Before => {
                metrics().jobs.accepted(call.job.priority, false, 1);
                submitted.push(Ok(Submitted { id, now: None }));
                waiting.insert(environment);
                continue;
            }
            Recorded::New(created_at) => {
                metrics().jobs.accepted(call.job.priority, true, 1);
                created_at
            }
        };
        submitted.push(Ok(Submitted { id, now: Some((created_at, place.is_some())) }));
        let job = waits(&call.job, created_at, asked_at);
        let in_window = core.schedules(environment) && put_down(core, &job, place.is_some());
        match place {
            Some(Promise { permit, in_hand }) => {
                let claim = Claim { id, run: 1, attempt: 1 };
                let job = Waiting { attempt: 1, ..job };
                let start_by = asked_at + SEND_WINDOW;
                send::stage(core, Attempt { claim, job, start_by, permit, in_hand });
                begun.insert(environment);
            }
            None if in_window => core.wake.notify_one(),
            None => drop(waiting.insert(environment)),
        }
    }
    for environment in begun {
        send::kick(core, environment);
    }
    tell(core, &waiting);
    Ok(submitted)
}

/// Tells the flow of a job that it was recorded. Whether it waits in the window now.
fn put_down(core: &Core, job: &Waiting, born_claimed: bool) -> bool {
    let mut board = core.board();
    let Some(desk) = board.get_mut(job.device.environment).filter(|desk| desk.adopted) else { return false };
    let flow = desk.open_flow(job.flow);
    flow.count += 1;
    let fits = flow.recorded(job.due_at);
    if fits && !born_claimed {
        flow.insert(job.clone());
    }
    fits
}

/// Who schedules these environments is to look at what waits there.
fn tell(core: &Core, waiting: &HashSet<EnvironmentId>) {
    if waiting.is_empty() {
        return;
    }
    let (ours, others): (Vec<EnvironmentId>, Vec<EnvironmentId>) =
        waiting.iter().partition(|environment| core.schedules(**environment));
    if !ours.is_empty() {
        core.board().hint(|lane| ours.iter().any(|environment| environment.lane() == lane), false);
        core.look.notify_one();
    }
    core.hints.lanes(others.into_iter().map(EnvironmentId::lane));
}

/// A place for a job that is not recorded yet.
struct Promise {
    permit: OwnedSemaphorePermit,
    in_hand: InHand,
}

/// A place, if the job can be sent at once from here.
fn promise(core: &Arc<Core>, job: &NewJob, now: Instant) -> Option<Promise> {
    let environment = job.device.environment;
    if !core.schedules(environment) {
        return None;
    }
    let permit = Arc::clone(&core.permits).try_acquire_owned().ok()?;
    let admitted = core.board().get_mut(environment).is_some_and(|desk| desk.admit(job.priority, now));
    if !admitted {
        return None;
    }
    Some(Promise { permit, in_hand: InHand::new(core, job.id)? })
}

fn waits(job: &NewJob, created_at: OffsetDateTime, asked_at: Instant) -> Waiting {
    Waiting {
        id: job.id,
        device: job.device,
        flow: job.priority.flow(),
        run: 1,
        attempt: 0,
        due_at: created_at,
        expires: asked_at + job.time_to_live,
        lapsed: None,
        repeated: false,
        requested_at: created_at,
        requested: asked_at,
        trace_parent: job.trace_parent.clone(),
        attempted: None,
    }
}
