//! Which lanes this replica schedules: one heartbeat row, and lanes that change hands only on purpose or after a death.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::Core;
use crate::{
    device::{LANES, Lane},
    store::{LaneOwner, Membership, Role, Store, StoreError},
    telemetry::metrics,
};

const LEASE: Duration = Duration::from_secs(5);
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// The lanes that are ours, and until when we may believe it.
#[derive(Debug)]
pub(super) struct Lanes {
    state: Mutex<Ownership>,
    /// How many replicas live, this one among them; 0 before it is known.
    replicas: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Ownership {
    /// This life's id. A replica that was thought dead begins another.
    replica: Uuid,
    owned: BTreeSet<Lane>,
    /// By the monotonic clock, counted from before the lease was asked for.
    until: Option<Instant>,
    /// No other replica lives: nobody needs hints.
    alone: bool,
}

impl Lanes {
    pub(super) fn new() -> Self {
        let state = Ownership { replica: Uuid::new_v4(), owned: BTreeSet::new(), until: None, alone: false };
        Self { state: Mutex::new(state), replicas: Arc::default() }
    }

    pub(super) fn owns(&self, lane: Lane, now: Instant) -> bool {
        let state = self.state();
        state.until.is_some_and(|until| now < until) && state.owned.contains(&lane)
    }

    pub(super) fn owned(&self, now: Instant) -> Vec<Lane> {
        let state = self.state();
        if state.until.is_some_and(|until| now < until) {
            state.owned.iter().copied().collect()
        } else {
            Vec::new()
        }
    }

    /// How many replicas live, as this one saw last.
    pub(super) fn replicas(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.replicas)
    }

    pub(super) fn alone(&self) -> bool {
        self.state().alone
    }

    /// Who we are now.
    pub(super) fn replica(&self) -> Uuid {
        self.state().replica
    }

    fn state(&self) -> MutexGuard<'_, Ownership> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps this replica alive and its share of the lanes until the engine stops, then gives both up at once.
pub(super) async fn run(core: Arc<Core>, role: Role) {
    let mut turns = 0_u32;
    while !core.stopping.is_cancelled() {
        match run_once(&core, role).await {
            Ok(changed) => {
                core.joined.cancel();
                if changed {
                    core.facts.notify_one();
                }
            }
            Err(error) => tracing::warn!(%error, "the heartbeat was not written"),
        }
        if turns.is_multiple_of(3600)
            && let Err(error) = core.store.forget_dead_replicas().await
        {
            tracing::debug!(%error, "dead replicas were not forgotten");
        }
        turns += 1;
        tokio::select! {
            () = tokio::time::sleep(RENEW_EVERY) => {}
            () = core.stopping.cancelled() => {}
        }
    }
    let replica = {
        let mut state = core.lanes.state();
        state.owned.clear();
        state.until = None;
        state.replica
    };
    match core.store.leave(replica).await {
        Ok(()) => core.hints.lanes(Lane::all()),
        Err(error) => tracing::warn!(%error, "the lanes could not be given up: they are free in 5 s"),
    }
}

/// One heartbeat, and one step towards an even share. True when lanes were taken.
async fn run_once(core: &Arc<Core>, role: Role) -> Result<bool, StoreError> {
    let me = stay_alive(core, role).await?;
    let membership = core.store.membership().await?;
    core.lanes.state().alone = membership.replicas <= 1;
    core.lanes.replicas.store(membership.replicas, Ordering::Relaxed);
    metrics().replica.sees(membership.replicas);
    if !role.sends() {
        return Ok(false);
    }
    let plan = plan(&membership, me);
    if !plan.give.is_empty() {
        // Believed first, written second: in between nobody owns them.
        core.lanes.state().owned.retain(|lane| !plan.give.iter().any(|given| given.lane == *lane));
        let giving: BTreeSet<Lane> = plan.give.iter().map(|entry| entry.lane).collect();
        super::send::give_up(core, |lane| giving.contains(&lane)).await;
        let given = core.store.hand_over(&plan.give, None).await?;
        metrics().replica.moved("given", given.len());
        tracing::info!(lanes = given.len(), "gave lanes to replicas with fewer");
        core.hints.lanes(given.into_iter());
    }
    let taken = core.store.hand_over(&plan.take, Some(me)).await?;
    // Ours is what the table says: after a lost answer it may be more than we believed.
    let kept = membership.lanes.iter().filter(|entry| entry.owner == Some(me)).map(|entry| entry.lane);
    let given: BTreeSet<Lane> = plan.give.iter().map(|entry| entry.lane).collect();
    let owned: BTreeSet<Lane> =
        kept.filter(|lane| !given.contains(lane)).chain(taken.iter().copied()).collect();
    let mut state = core.lanes.state();
    if state.replica == me {
        state.owned = owned;
    }
    if !taken.is_empty() {
        metrics().replica.moved("taken", taken.len());
        tracing::info!(lanes = taken.len(), "took lanes over");
    }
    Ok(!taken.is_empty())
}

/// Renews the lease, or begins another life when it ran out.
async fn stay_alive(core: &Core, role: Role) -> Result<Uuid, StoreError> {
    let (me, new) = {
        let state = core.lanes.state();
        (state.replica, state.until.is_none())
    };
    let asked = Instant::now();
    if !new && core.store.renew(me, LEASE).await? {
        core.lanes.state().until = Some(asked + LEASE);
        return Ok(me);
    }
    begin_life(core, role, &core.store).await
}

async fn begin_life(core: &Core, role: Role, store: &Store) -> Result<Uuid, StoreError> {
    let replica = Uuid::new_v4();
    let asked = Instant::now();
    let before = {
        let mut state = core.lanes.state();
        let before = state.until.take();
        metrics().replica.moved("lost", state.owned.len());
        state.owned.clear();
        state.replica = replica;
        before
    };
    let unsent = core.board().give_up(|_| true);
    super::send::return_unsent(core, unsent);
    store.join(replica, role, LEASE).await?;
    if before.is_some() {
        tracing::warn!(replica.id = %replica, "the lease had run out: this replica begins again, without lanes");
    }
    core.lanes.state().until = Some(asked + LEASE);
    Ok(replica)
}

/// What a replica gives and takes for every worker to have its share.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    give: Vec<LaneOwner>,
    take: Vec<LaneOwner>,
}

fn plan(membership: &Membership, me: Uuid) -> Plan {
    let Some(rank) = membership.workers.iter().position(|worker| *worker == me) else {
        return Plan { give: Vec::new(), take: Vec::new() };
    };
    let (workers, lanes) = (membership.workers.len(), usize::from(LANES.unsigned_abs()));
    let share = lanes / workers + usize::from(rank < lanes % workers);
    let mine: Vec<LaneOwner> =
        membership.lanes.iter().filter(|entry| entry.owner == Some(me)).copied().collect();
    let free: Vec<LaneOwner> = membership
        .lanes
        .iter()
        .filter(|entry| entry.owner.is_none_or(|owner| owner != me && !membership.workers.contains(&owner)))
        .copied()
        .collect();
    let wanted = share.saturating_sub(mine.len()).min(free.len());
    // Each worker begins elsewhere: those that start together want different lanes.
    let first = rank * free.len() / workers;
    Plan {
        take: free.iter().cycle().skip(first).take(wanted).copied().collect(),
        give: mine.into_iter().skip(share).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(workers: &[Uuid], owner: impl Fn(i16) -> Option<Uuid>) -> Membership {
        let lanes = Lane::all().map(|lane| LaneOwner { lane, owner: owner(lane.number()) }).collect();
        let mut workers = workers.to_vec();
        workers.sort();
        Membership { replicas: workers.len(), workers, lanes }
    }

    #[test]
    fn alone_it_takes_every_lane_of_nobody_and_of_the_dead() {
        let (me, dead) = (Uuid::from_u128(1), Uuid::from_u128(9));
        let plan = plan(&membership(&[me], |lane| (lane % 2 == 0).then_some(dead)), me);
        assert_eq!((plan.give.len(), plan.take.len()), (0, 256));
    }

    #[test]
    fn a_second_one_is_given_half() {
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let both = membership(&[first, second], |_| Some(first));
        assert_eq!(plan(&both, first).give.len(), 128);
        assert_eq!(plan(&both, second), Plan { give: vec![], take: vec![] });
        let freed = membership(&[first, second], |lane| (lane < 128).then_some(first));
        assert_eq!(plan(&freed, second).take.len(), 128);
        assert_eq!(plan(&freed, first), Plan { give: vec![], take: vec![] });
    }

    #[test]
    fn shares_add_up_whatever_the_number_of_workers() {
        for n in 1..=20_u128 {
            let workers: Vec<Uuid> = (1..=n).map(Uuid::from_u128).collect();
            let free = membership(&workers, |_| None);
            let taken: usize = workers.iter().map(|worker| plan(&free, *worker).take.len()).sum();
            assert_eq!(taken, 256, "{n} workers");
        }
    }

    #[test]
    fn who_only_answers_calls_takes_nothing() {
        let worker = Uuid::from_u128(1);
        assert_eq!(
            plan(&membership(&[worker], |_| None), Uuid::from_u128(2)),
            Plan { give: vec![], take: vec![] }
        );
    }
}
