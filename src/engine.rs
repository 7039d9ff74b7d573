//! Turns recorded jobs into requests to PingOne, and their answers into recorded outcomes.
//!
//! Two mechanisms, neither doing the other's job: *claims* make it safe (a request starts only for a `ready` row this process
//! has claimed, and only its claim may end it), *lanes* make it exact (one replica at a time schedules an environment, so its
//! limits are kept in memory). Should two replicas ever believe they own a lane, only the rate could suffer, never a job.

mod batches;
mod board;
mod breaker;
mod bucket;
mod complete;
mod control;
mod credential;
mod desk;
mod figures;
mod flow;
mod gate;
mod gather;
mod hints;
mod keep;
mod lanes;
mod learn;
mod licence;
mod look;
mod lookup;
mod pause;
mod publish;
mod rehearsal;
mod retention;
mod robin;
mod rotate;
mod routes;
mod schedule;
mod seal;
mod send;
mod stale;
mod submit;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    device::EnvironmentId,
    job::{JobId, RetryPolicy},
    store::{Role, Store},
    watch::Watch,
};

pub use batches::Upload;
pub use control::Control;
pub use rehearsal::Rehearsal;
pub use routes::{Limits, Route, Routes};
pub use seal::{Sealed, Sealer};
pub use submit::{SubmitError, Submitted, Submitter};

use board::Board;
use complete::Finished;
use hints::Hints;
use lanes::Lanes;
use licence::Licences;
use submit::Backlogs;

/// Jobs that one process has claimed and whose results are not saved yet, at most: when saving lags, claiming stops.
const IN_HAND_PER_PROCESS: u32 = 4096;

/// What the engine works with.
#[derive(Debug)]
pub struct Settings {
    /// What this process does.
    pub role: Role,
    /// Where each environment's requests go, and within which limits.
    pub routes: Routes,
    /// When to try again.
    pub policy: RetryPolicy,
    /// How long attempts may take to end once the engine is told to stop.
    pub grace: Duration,
    /// How many jobs may wait in one environment; more are refused.
    pub queue: QueueLimits,
    /// From this age on, counted from its request, a job's device is read before the unblock is sent.
    pub stale_after: Duration,
    /// How long jobs are kept after their end: an hour or more.
    pub retention: Duration,
    /// How long entries of the audit trail are kept; at least 30 days.
    pub audit_retention: Duration,
}

impl Settings {
    /// The documented defaults.
    #[must_use]
    pub fn new(role: Role, routes: Routes) -> Self {
        Self {
            role,
            routes,
            policy: RetryPolicy::default(),
            grace: Duration::from_secs(25),
            queue: QueueLimits { interactive: 20_000, bulk: 2_000_000 },
            stale_after: Duration::from_secs(15 * 60),
            retention: Duration::from_secs(90 * 24 * 3600),
            audit_retention: Duration::from_secs(730 * 24 * 3600),
        }
    }
}

/// How many jobs may wait in one environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Interactive ones.
    pub interactive: u32,
    /// Bulk ones.
    pub bulk: u32,
}

/// The engine before it runs.
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    role: Role,
    grace: Duration,
    retention: Duration,
    audit_retention: Duration,
    submissions: mpsc::Receiver<submit::Call>,
    results: mpsc::UnboundedReceiver<Finished>,
    outgoing: mpsc::UnboundedReceiver<hints::Hint>,
}

/// What all parts of the engine share.
#[derive(Debug)]
struct Core {
    store: Store,
    routes: Routes,
    policy: RetryPolicy,
    stale_after: Duration,
    lanes: Lanes,
    board: Mutex<Board>,
    backlogs: Backlogs,
    licences: Licences,
    /// Jobs this process has in hand: not to be claimed again while their results wait to be saved.
    busy: Mutex<HashSet<JobId>>,
    permits: Arc<Semaphore>,
    results: mpsc::UnboundedSender<Finished>,
    hints: Hints,
    watch: Arc<Watch>,
    /// There may be something to claim.
    wake: Notify,
    /// There may be something to read.
    look: Notify,
    /// What is stored of the environments may have changed.
    facts: Notify,
    /// Batches may have changed.
    batches: Notify,
    /// Notifications are heard.
    hearing: AtomicBool,
    /// This replica is known to the others and has its first share of the lanes.
    joined: CancellationToken,
    /// Nothing new is begun any more.
    stopping: CancellationToken,
}

impl Core {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process may begin attempts for `environment` now.
    fn schedules(&self, environment: EnvironmentId) -> bool {
        !self.stopping.is_cancelled() && self.lanes.owns(environment.lane(), Instant::now())
    }

    /// There is more to send for `environment`: whoever schedules it is to look.
    fn tell_of(&self, environment: EnvironmentId) {
        let lane = environment.lane();
        if self.schedules(environment) {
            self.board().hint(|hinted| hinted == lane, false);
            self.look.notify_one();
            self.facts.notify_one();
            self.batches.notify_one();
        } else {
            self.hints.lanes(std::iter::once(lane));
        }
    }

    fn hears(&self) -> bool {
        self.hearing.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Prepares an engine and the handles through which calls reach it. Submitting ends when the last [`Submitter`] is gone.
    #[must_use]
    pub fn new(store: Store, settings: Settings, watch: Arc<Watch>) -> (Self, Submitter, Control) {
        let (submitter, submissions) = submit::channel();
        let (results, finished) = mpsc::unbounded_channel();
        let (hints, outgoing) = hints::channel();
        let core = Arc::new(Core {
            store,
            routes: settings.routes,
            policy: settings.policy,
            stale_after: settings.stale_after,
            lanes: Lanes::new(),
            board: Mutex::new(Board::new()),
            backlogs: Backlogs::new(settings.queue),
            licences: Licences::default(),
            busy: Mutex::default(),
            permits: Arc::new(Semaphore::new(IN_HAND_PER_PROCESS as usize)),
            results,
            hints,
            watch,
            wake: Notify::new(),
            look: Notify::new(),
            facts: Notify::new(),
            batches: Notify::new(),
            hearing: AtomicBool::new(false),
            joined: CancellationToken::new(),
            stopping: CancellationToken::new(),
        });
        let control = Control::new(Arc::clone(&core));
        let engine = Self {
            core,
            role: settings.role,
            grace: settings.grace,
            retention: settings.retention,
            audit_retention: settings.audit_retention,
            submissions,
            results: finished,
            outgoing,
        };
        (engine, submitter, control)
    }

    /// Cancelled once the engine runs, is known to the other replicas and has its first share of the lanes.
    #[must_use]
    pub fn joined(&self) -> CancellationToken {
        self.core.joined.clone()
    }

    /// Works until `shutdown`, then drains: begins nothing new, hands its lanes on at once, finishes what runs within the
    /// grace period, and records what is still submitted until the last [`Submitter`] is gone.
    pub async fn run(self, shutdown: CancellationToken) {
        let core = self.core;
        // Helpers die with this function on every path.
        let mut helpers = JoinSet::new();
        helpers.spawn(hints::speak(Arc::clone(&core), self.outgoing));
        helpers.spawn(hints::listen(Arc::clone(&core)));
        helpers.spawn(Arc::clone(&core.watch).poll(core.store.clone()));
        helpers.spawn(complete::run(Arc::clone(&core), self.results));
        helpers.spawn(retention::run(Arc::clone(&core), self.retention, self.audit_retention));
        let membership = tokio::spawn(lanes::run(Arc::clone(&core), self.role));
        helpers.spawn(submit::watch_backlogs(Arc::clone(&core)));
        helpers.spawn(figures::run(Arc::clone(&core)));
        if self.role.sends() {
            helpers.spawn(look::read(Arc::clone(&core)));
            helpers.spawn(look::watch_facts(Arc::clone(&core)));
            helpers.spawn(look::sweep(Arc::clone(&core)));
            helpers.spawn(keep::run(Arc::clone(&core)));
            helpers.spawn(seal::run(Arc::clone(&core)));
            helpers.spawn(licence::run(Arc::clone(&core)));
            helpers.spawn(publish::run(Arc::clone(&core)));
            for client in core.routes.clients() {
                helpers.spawn(rotate::follow(Arc::clone(&core), client));
            }
        }
        let scheduling = self.role.sends().then(|| tokio::spawn(schedule::run(Arc::clone(&core))));
        let submitting = tokio::spawn(submit::run(Arc::clone(&core), self.submissions));

        shutdown.cancelled().await;
        core.stopping.cancel();
        let drained = tokio::time::timeout(self.grace, async {
            if let Some(scheduling) = scheduling {
                finish(scheduling).await;
            }
            // Claims that were not used go back before the lanes, and the lanes before ours finish: others go on at once.
            send::give_up(&core, |_| true).await;
            finish(membership).await;
            finish(submitting).await;
            // Every attempt holds a permit until its result is saved.
            let _all = core.permits.acquire_many(IN_HAND_PER_PROCESS).await;
        });
        if drained.await.is_err() {
            let left = IN_HAND_PER_PROCESS as usize - core.permits.available_permits();
            tracing::warn!(
                attempts = left,
                "the grace period ended first: other replicas settle what is left"
            );
        }
        core.hints.flush().await;
        helpers.shutdown().await;
    }
}

/// Waits for a part to end; that it panicked was logged where it did.
async fn finish(part: tokio::task::JoinHandle<()>) {
    // Not the error: it quotes the panic.
    if part.await.is_err() {
        tracing::error!("a part of the engine died");
    }
}
