//! The handle by which code talks to a simulator.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;

use super::{
    Arrival, Counts, Deviated, Device, DeviceCounts, Fault, On, Plan, Record, Settings, server, state::State,
};
use crate::device::{DeviceId, EnvironmentId, UserId};

/// A simulated PingOne. Clones are the same one.
#[derive(Clone)]
pub struct Simulator {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Simulator {
    /// A simulator that knows the device of PingOne's documentation, blocked.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let shared = Shared { state: Mutex::new(State::new(settings)), changed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Serves on `listener` until `shutdown`; then every connection is closed, whatever it is doing. What is remembered
    /// stays, so a later `run` on the same port is PingOne back from an outage.
    pub async fn run(&self, listener: TcpListener, shutdown: CancellationToken) {
        server::run(self, listener, shutdown).await;
    }

    /// Adds a device, or puts it in the place of the one with its id.
    pub fn register(&self, device: Device) {
        self.state().devices.register(device);
    }

    /// The device as it is now; none if it was neither registered nor asked for.
    #[must_use]
    pub fn device(&self, id: DeviceId) -> Option<Device> {
        self.state().devices.by_id(id).map(|device| device.clone())
    }

    /// Blocks a known device now, as an administrator would. Whether it was known.
    pub fn block(&self, id: DeviceId) -> bool {
        let blocked = self.state().devices.by_id(id).map(|device| device.block(OffsetDateTime::now_utc()));
        blocked.is_some()
    }

    /// The next POSTs to `device` meet these faults, one each.
    pub fn fault(&self, device: DeviceId, faults: impl IntoIterator<Item = Fault>) {
        self.plan(Plan::new(faults).device(device));
    }

    /// Every POST and read of a device, wherever, meets this fault until [`clear_faults`](Self::clear_faults), unless a plan
    /// for its device or an earlier plan applies.
    pub fn fault_all(&self, fault: Fault) {
        self.plan(Plan::new([fault]).on(On::Any).until_cleared());
    }

    /// Adds a plan behind those there are. Plans for one device go first, then the oldest that matches.
    pub fn plan(&self, plan: Plan) {
        self.state().plans.add(plan);
    }

    /// Forgets every plan. Requests under way keep the fault they met; those held stay held.
    pub fn clear_faults(&self) {
        self.state().plans.clear();
    }

    /// Lets every held request go on.
    pub fn release(&self) {
        self.state().held.clear();
    }

    /// Lets the held requests of one device go on.
    pub fn release_device(&self, device: DeviceId) {
        self.state().held.retain(|(held, _)| *held != Some(device));
    }

    /// A token that is good for the configured lifetime, without asking the token endpoint.
    #[must_use]
    pub fn issue_token(&self) -> String {
        let mut state = self.state();
        let lifetime = state.settings.token_lifetime;
        state.tokens.issue(lifetime)
    }

    /// Refuses every token given out so far.
    pub fn revoke_tokens(&self) {
        self.state().tokens.revoke_all();
    }

    /// Changes the secret of a client, or adds one. Tokens it has stay good.
    pub fn set_secret(&self, client: &str, secret: &str) {
        self.state().tokens.set_secret(client.to_owned(), secret.to_owned());
    }

    /// How long tokens given out from now on are good for.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.state().settings.token_lifetime = lifetime;
    }

    /// Requests per second that the licence allows; none: any number.
    pub fn set_rate_limit(&self, limit: Option<u32>) {
        self.state().settings.rate_limit = limit;
    }

    /// How long every answer takes from now on: `fixed`, and up to `jitter` more.
    pub fn set_latency(&self, fixed: Duration, jitter: Duration) {
        let mut state = self.state();
        state.settings.latency = fixed;
        state.settings.jitter = jitter;
    }

    /// Totals.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state().ledger.counts
    }

    /// Totals of one device.
    #[must_use]
    pub fn counts_for(&self, device: DeviceId) -> DeviceCounts {
        self.state().ledger.of_device(device)
    }

    /// The requests that are remembered, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Record> {
        self.state().ledger.records().cloned().collect()
    }

    /// The newest `count` of them, oldest first.
    #[must_use]
    pub fn last_requests(&self, count: usize) -> Vec<Record> {
        let state = self.state();
        let records = state.ledger.records();
        let skipped = records.len().saturating_sub(count);
        records.skip(skipped).cloned().collect()
    }

    /// Those of them that are POSTs to a device.
    #[must_use]
    pub fn posts(&self) -> Vec<Record> {
        let state = self.state();
        state.ledger.records().filter(|record| record.is_post()).cloned().collect()
    }

    /// Those of them that name `device`, reads too.
    #[must_use]
    pub fn requests_for(&self, device: DeviceId) -> Vec<Record> {
        let device = Some(device.as_uuid());
        self.state().ledger.records().filter(|record| record.device == device).cloned().collect()
    }

    /// How many API requests arrived in the busiest `window` of all those remembered, of one environment or of all. The
    /// proof that a limit was kept.
    #[must_use]
    pub fn busiest(&self, window: Duration, environment: Option<EnvironmentId>) -> usize {
        let only = environment.map(EnvironmentId::as_uuid);
        let state = self.state();
        let counted = state.ledger.records().filter(|record| {
            record.is_api() && only.is_none_or(|environment| record.environment == Some(environment))
        });
        let arrivals: Vec<Duration> = counted.map(|record| record.arrived).collect();
        let from = |at: usize| arrivals[at..].partition_point(|other| *other < arrivals[at] + window);
        (0..arrivals.len()).map(from).max().unwrap_or(0)
    }

    /// Takes note of when that user's POSTs arrive, from now on and of no other's.
    pub fn watch(&self, user: Option<UserId>) {
        self.state().ledger.watched.set(user);
    }

    /// When the POSTs of the watched user arrived, the first hundred thousand of them, oldest first.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.state().ledger.watched.arrivals()
    }

    /// What was not as documented, the first thousand of it.
    #[must_use]
    pub fn deviations(&self) -> Vec<Deviated> {
        self.state().ledger.deviations.all()
    }

    /// Waits until so many POSTs to devices have arrived in all.
    pub async fn arrived(&self, posts: u64) {
        self.until(|simulator| simulator.counts().posts >= posts).await;
    }

    /// Waits until so many POSTs to that device have arrived in all.
    pub async fn arrived_for(&self, device: DeviceId, posts: u64) {
        self.until(|simulator| simulator.counts_for(device).posts >= posts).await;
    }

    /// Waits until no request is under way.
    pub async fn idle(&self) {
        self.until(|simulator| simulator.counts().in_flight == 0).await;
    }

    /// Waits until `condition`, which is tried again whenever a request arrives or ends.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool + Send) {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Registered before looking, so that nothing happens unnoticed in between.
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn changed(&self) {
        self.shared.changed.notify_waiters();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("nobody panics while holding the state")
    }
}
