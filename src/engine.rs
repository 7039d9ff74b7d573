//! Turns recorded jobs into requests to PingOne, and their answers into recorded outcomes.
//!
//! Two mechanisms, neither doing the other's job: *claims* make it safe (a request starts only for a `ready` row this process
//! has claimed, and only its claim may end it), *lanes* make it exact (one replica at a time schedules an environment, so its
//! limits are kept in memory). Should two replicas ever believe they own a lane, only the rate could suffer, never a job.

mod complete;
mod control;
mod gate;
mod hints;
mod lanes;
mod pause;
mod retention;
mod routes;
mod schedule;
mod send;
mod submit;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

pub use control::Control;
pub use routes::{Limits, Route, Routes};
pub use submit::{SubmitError, Submitted, Submitter};

use complete::Finished;
use gate::Desk;
use hints::Hints;
use lanes::Lanes;

/// Attempts that one process runs or has still to save, at most: when saving lags, claiming stops.
const IN_FLIGHT_PER_PROCESS: u32 = 1024;

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
    /// How long jobs are kept after their end: an hour or more.
    pub retention: Duration,
}

/// The engine before it runs.
#[derive(Debug)]
pub struct Engine {
    core: Arc<Core>,
    role: Role,
    grace: Duration,
    retention: Duration,
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
    lanes: Lanes,
    desks: Mutex<HashMap<EnvironmentId, Desk>>,
    /// Jobs this process has in hand: not to be claimed again while their results wait to be saved.
    busy: Mutex<HashSet<JobId>>,
    permits: Arc<Semaphore>,
    results: mpsc::UnboundedSender<Finished>,
    hints: Hints,
    watch: Arc<Watch>,
    /// There may be something to schedule.
    wake: Notify,
    /// This replica is known to the others and has its first share of the lanes.
    joined: CancellationToken,
    /// Nothing new is begun any more.
    stopping: CancellationToken,
}

impl Core {
    fn desks(&self) -> MutexGuard<'_, HashMap<EnvironmentId, Desk>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process may begin attempts for `environment` now.
    fn schedules(&self, environment: EnvironmentId) -> bool {
        !self.stopping.is_cancelled() && self.lanes.owns(environment.lane(), Instant::now())
    }

    /// After `wait` there may be something to schedule.
    fn wake_in(self: &Arc<Self>, wait: Duration) {
        let core = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => core.wake.notify_one(),
                () = core.stopping.cancelled() => {}
            }
        });
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
            lanes: Lanes::new(),
            desks: Mutex::default(),
            busy: Mutex::default(),
            permits: Arc::new(Semaphore::new(IN_FLIGHT_PER_PROCESS as usize)),
            results,
            hints,
            watch,
            wake: Notify::new(),
            joined: CancellationToken::new(),
            stopping: CancellationToken::new(),
        });
        let control = Control::new(Arc::clone(&core));
        let engine = Self {
            core,
            role: settings.role,
            grace: settings.grace,
            retention: settings.retention,
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
        helpers.spawn(retention::run(Arc::clone(&core), self.retention));
        let membership = tokio::spawn(lanes::run(Arc::clone(&core), self.role));
        let scheduling = self.role.sends().then(|| tokio::spawn(schedule::run(Arc::clone(&core))));
        let submitting = tokio::spawn(submit::run(Arc::clone(&core), self.submissions));

        shutdown.cancelled().await;
        core.stopping.cancel();
        let drained = tokio::time::timeout(self.grace, async {
            // The lanes go first: others take the waiting jobs over while ours finish.
            finish(membership).await;
            if let Some(scheduling) = scheduling {
                finish(scheduling).await;
            }
            finish(submitting).await;
            // Every attempt holds a permit until its result is saved.
            let _all = core.permits.acquire_many(IN_FLIGHT_PER_PROCESS).await;
        });
        if drained.await.is_err() {
            let left = IN_FLIGHT_PER_PROCESS as usize - core.permits.available_permits();
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
    if let Err(error) = part.await {
        tracing::error!(%error, "a part of the engine died");
    }
}
