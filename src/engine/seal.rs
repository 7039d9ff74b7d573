//! Seals the audit trail: each worker in the lanes it owns, every second. Reads on from where it has sealed to, and looks back for
//! what was committed later than its id was made. Nobody waits for it, and nothing rests on who owns a lane: the number of a
//! seal is taken once, and whoever comes second reads anew.

mod tail;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::Core;
use crate::{
    audit::{Event, Seal, Unnamed, first_id, millis_at, millis_of},
    device::Lane,
    store::{Store, StoreError},
    telemetry::metrics,
};

use tail::{MARGIN_MS, Tail};

const EVERY: Duration = Duration::from_secs(1);
/// The tail of each busy lane is counted this often.
const LOOK_BACK_EVERY: Duration = Duration::from_secs(15);
/// Each lane is swept this often.
const SWEEP_EVERY: Duration = Duration::from_secs(30 * 60);
/// So far a sweep reaches back. No transaction of this service lives nearly as long.
const SWEPT_MS: u64 = 3_600_000;
/// A lane in which nothing was sealed for so long has nothing to look back at.
const QUIET_AFTER: Duration = Duration::from_secs(2 * 3600);
/// Events of one seal, and of one lane in one look.
const EACH: u32 = 1_000;
/// Events in one look.
const AT_ONCE: u32 = 10_000;
/// Ids, seals in one step of a sweep.
const STEP: (u32, u32) = (5_000, 100);

/// What a round of sealing came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sealed {
    /// Events that have been sealed.
    pub events: u64,
    /// How long the oldest one had waited, by Postgres's clock.
    pub oldest: Duration,
}

/// Seals the lanes it is told to. Any number of them may be told the same.
#[derive(Debug)]
pub struct Sealer {
    store: Store,
    tails: HashMap<Lane, Tail>,
}

/// Seals until whoever holds this ends it, or the engine stops; then once more.
pub(super) async fn run(core: Arc<Core>) {
    let mut sealer = Sealer::new(core.store.clone());
    let (mut looked_back, mut behind_since) = (Instant::now(), None);
    loop {
        let last = core.stopping.is_cancelled();
        let lanes = core.lanes.owned(Instant::now());
        let began = Instant::now();
        match sealer.round(&lanes, last, &mut looked_back).await {
            Ok(sealed) => {
                behind_since = None;
                metrics().security.sealed(0, Duration::ZERO);
                if sealed.oldest > TELL_BEYOND {
                    let (events, oldest_s) = (sealed.events, sealed.oldest.as_secs());
                    tracing::info!(events, oldest_s, "sealed audit entries that had waited");
                }
            }
            Err(error) => {
                let behind = began - *behind_since.get_or_insert(began);
                metrics().security.not_sealed(behind + EVERY);
                tracing::warn!(%error, "audit entries were not sealed");
            }
        }
        if last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = core.stopping.cancelled() => {}
        }
    }
}

/// Entries that waited longer are worth a line.
const TELL_BEYOND: Duration = Duration::from_secs(60);

impl Sealer {
    /// Knows nothing yet: each lane is read when it is first to be sealed.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, tails: HashMap::new() }
    }

    async fn round(
        &mut self,
        lanes: &[Lane],
        last: bool,
        looked_back: &mut Instant,
    ) -> Result<Sealed, StoreError> {
        self.keep(lanes);
        let sealed = self.seal_new(lanes).await?;
        if !last && looked_back.elapsed() >= LOOK_BACK_EVERY {
            *looked_back = Instant::now();
            self.look_back(lanes).await?;
        }
        let due =
            |lane: &&Lane| self.tails.get(lane).is_some_and(|tail| tail.is_due(SWEEP_EVERY, QUIET_AFTER));
        // One in a round: or all lanes of a replica that died would be swept at once.
        if let Some(lane) = lanes.iter().find(due).filter(|_| !last) {
            self.sweep(*lane).await?;
        }
        Ok(sealed)
    }

    /// Forgets all but `lanes`: what others seal meanwhile is not known here.
    fn keep(&mut self, lanes: &[Lane]) {
        if self.tails.len() > lanes.len() {
            self.tails.retain(|lane, _| lanes.contains(lane));
        }
    }

    /// Seals what there is above where each of `lanes` is sealed to.
    ///
    /// # Errors
    /// [`StoreError`]: then some may be sealed, and the next call goes on.
    pub async fn seal_new(&mut self, lanes: &[Lane]) -> Result<Sealed, StoreError> {
        let mut sealed = Sealed::default();
        let mut wanted = lanes.to_vec();
        while !wanted.is_empty() {
            self.read_tails(&wanted).await?;
            let marks: Vec<(Lane, Uuid)> =
                wanted.iter().filter_map(|lane| Some((*lane, self.tails.get(lane)?.mark()))).collect();
            let found = self.store.find_events_above(&marks, EACH, AT_ONCE).await?;
            let Some(now) = found.now else { break };
            // What is ahead of Postgres's clock waits for its time: so an id is never above the seal that names it, and a tail
            // is known from the seals of that time on.
            let ahead = first_id(millis_at(now));
            let all = found.events.len() >= AT_ONCE as usize;
            let events = found.events.into_iter().filter(|event| event.id < ahead).collect();
            let (this, full) = self.record(events, now).await?;
            metrics().security.sealed(this.events, this.oldest);
            sealed.add(this);
            if !all || this.events == 0 {
                wanted = full;
            }
        }
        Ok(sealed)
    }

    /// Seals what was committed a little later than its id was made: counts the tail of each lane that has one, and looks where
    /// there are more than were sealed.
    ///
    /// # Errors
    /// As [`Self::seal_new`].
    pub async fn look_back(&mut self, lanes: &[Lane]) -> Result<Sealed, StoreError> {
        self.read_tails(lanes).await?;
        let busy = |lane: &Lane| self.tails.get(lane).filter(|tail| tail.is_busy())?.range(*lane);
        let ranges: Vec<_> = lanes.iter().filter_map(busy).collect();
        if ranges.is_empty() {
            return Ok(Sealed::default());
        }
        let mut sealed = Sealed::default();
        for (lane, events) in self.store.count_events(&ranges).await? {
            let Some(tail) = self.tails.get(&lane) else { continue };
            let Some(range) = tail.range(lane).filter(|_| events != tail.known()) else { continue };
            let mut missed = Vec::new();
            let mut after = range.from;
            loop {
                let ids = self.store.find_event_ids(lane, after, range.to, STEP.0).await?;
                let Some(last) = ids.last() else { break };
                after = *last;
                missed.extend(ids.into_iter().filter(|id| !tail.knows(*id)));
            }
            sealed.add(self.record_late(lane, &missed).await?);
        }
        Ok(sealed)
    }

    /// Seals what was committed much later than its id was made: compares the last hour before the tail of `lane` with its
    /// seals.
    ///
    /// # Errors
    /// As [`Self::seal_new`].
    pub async fn sweep(&mut self, lane: Lane) -> Result<Sealed, StoreError> {
        self.read_tails(&[lane]).await?;
        let Some(tail) = self.tails.get_mut(&lane) else { return Ok(Sealed::default()) };
        tail.swept();
        let (to, newest) = (tail.floor(), tail.head().number);
        let from = millis_of(to).saturating_sub(SWEPT_MS);
        let mut unnamed = Unnamed::after(first_id(from));
        let mut next = self.first_seal_since(lane, from.saturating_sub(MARGIN_MS), newest).await?;
        loop {
            let seals = self.store.find_seals_after(lane, next - 1, LAST_HASH, STEP.1).await?;
            let Some(last) = seals.last() else { break };
            next = last.number + 1;
            for id in seals.iter().flat_map(|seal| &seal.events).filter(|id| **id <= to) {
                while let Some(after) = unnamed.wants(*id) {
                    unnamed.show(&self.store.find_event_ids(lane, after, to, STEP.0).await?);
                }
                unnamed.name(*id);
            }
        }
        while let Some(after) = unnamed.wants(to) {
            unnamed.show(&self.store.find_event_ids(lane, after, to, STEP.0).await?);
        }
        let missed: Vec<Uuid> = unnamed.left().iter().copied().collect();
        self.record_late(lane, &missed).await
    }

    /// The number of the first seal that is not older than that, found by halving.
    async fn first_seal_since(&self, lane: Lane, millis: u64, newest: i64) -> Result<i64, StoreError> {
        let (mut low, mut high) = (1, newest);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.store.find_seal_time(lane, middle).await? {
                Some((number, at)) if millis_at(at) < millis => low = number + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Seals events that were overlooked.
    async fn record_late(&mut self, lane: Lane, ids: &[Uuid]) -> Result<Sealed, StoreError> {
        let mut sealed = Sealed::default();
        for part in ids.chunks(EACH as usize) {
            let events = self.store.find_events(lane, part).await?;
            let now = self.store.find_now().await?;
            let this = self.record(events, now).await?.0;
            metrics().security.sealed(this.events, this.oldest);
            sealed.add(this);
        }
        if !ids.is_empty() {
            tracing::info!(lane = lane.number(), events = sealed.events, "sealed late audit entries");
        }
        Ok(sealed)
    }

    /// Seals `events` of any lanes, one seal each. Says in which lanes there may be more.
    async fn record(
        &mut self,
        mut events: Vec<Event>,
        now: OffsetDateTime,
    ) -> Result<(Sealed, Vec<Lane>), StoreError> {
        events.sort_unstable_by_key(|event| (event.lane, event.id));
        let mut seals: VecDeque<Seal> = VecDeque::new();
        let mut sealed = HashMap::new();
        for events in events.chunk_by(|one, other| one.lane == other.lane) {
            let lane = Lane::from_stored(events[0].lane);
            let Some(tail) = self.tails.get(&lane) else { continue };
            let oldest = events.iter().map(|event| event.at).min().unwrap_or(now);
            sealed.insert(lane, (u64::try_from(events.len()).unwrap_or(u64::MAX), now - oldest));
            seals.push_back(Seal::new(lane, tail.head(), now, events));
        }
        if seals.is_empty() {
            return Ok((Sealed::default(), Vec::new()));
        }
        let seals = Vec::from(seals);
        let taken = match self.store.record_seals(&seals).await {
            Ok(taken) => taken,
            Err(error) => {
                // They may be recorded all the same.
                seals.iter().for_each(|seal| drop(self.tails.remove(&Lane::from_stored(seal.lane))));
                return Err(error);
            }
        };
        let mut sum = Sealed::default();
        let mut full = Vec::new();
        for seal in &seals {
            let lane = Lane::from_stored(seal.lane);
            if !taken.contains(&lane) {
                // Somebody else's is there: with the next round, what it names is read.
                self.tails.remove(&lane);
                continue;
            }
            if let Some(tail) = self.tails.get_mut(&lane) {
                tail.take(seal);
            }
            let (events, oldest) = sealed.get(&lane).copied().unwrap_or_default();
            sum.add(Sealed { events, oldest: Duration::try_from(oldest).unwrap_or_default() });
            if seal.events.len() >= EACH as usize {
                full.push(lane);
            }
        }
        Ok((sum, full))
    }

    /// Reads the ends of the chains that are not known here: as many seals as tell of every event from the floor on.
    async fn read_tails(&mut self, lanes: &[Lane]) -> Result<(), StoreError> {
        let mut unknown: HashMap<Lane, Tail> = HashMap::new();
        for lane in lanes.iter().filter(|lane| !self.tails.contains_key(lane)) {
            unknown.insert(*lane, Tail::default());
        }
        let mut each = 2;
        while !unknown.is_empty() {
            let below: Vec<_> = unknown.iter().map(|(lane, tail)| (*lane, tail.read_from())).collect();
            let seals = self.store.find_newest_seals(&below, each).await?;
            for (lane, _) in below {
                let of: Vec<&Seal> = seals.iter().filter(|seal| seal.lane == lane.number()).collect();
                let Some(tail) = unknown.get_mut(&lane) else { continue };
                of.iter().for_each(|seal| tail.read_back(seal));
                if of.len() < each as usize || tail.reaches_back() {
                    self.tails.extend(unknown.remove_entry(&lane));
                }
            }
            each = (each * 4).min(256);
        }
        Ok(())
    }
}

/// Above every hash: no second seal of a number is looked for.
const LAST_HASH: &[u8] = &[0xFF; 33];

impl Sealed {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.oldest = self.oldest.max(other.oldest);
    }
}
