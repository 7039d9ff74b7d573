//! What is known of the end of one lane's chain: enough to seal nothing twice.

use std::collections::BTreeSet;

use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::{
    audit::{Head, Seal, first_id, millis_at, millis_of},
    device::Lane,
    store::EventRange,
};

/// The last minute of a lane is known by its ids.
pub(super) const TAIL_MS: u64 = 60_000;
/// Postgres's clock may be set back by so much, by a failover for one.
pub(super) const MARGIN_MS: u64 = 60_000;

/// The end of a lane's chain. Every id from the floor on that is sealed is known; that takes the seals of that time and later
/// ones, since no seal names an id above its own time.
#[derive(Debug)]
pub(super) struct Tail {
    head: Option<Head>,
    /// The lowest seal that was read.
    lowest: i64,
    /// When it was sealed, in milliseconds.
    lowest_at: u64,
    sealed: BTreeSet<Uuid>,
    /// The highest id that is sealed.
    mark: Uuid,
    moved: Instant,
    swept: Option<Instant>,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            head: None,
            lowest: i64::MAX,
            lowest_at: u64::MAX,
            sealed: BTreeSet::new(),
            mark: Uuid::nil(),
            moved: Instant::now(),
            swept: None,
        }
    }
}

impl Tail {
    /// Below which number seals have to be read still.
    pub(super) const fn read_from(&self) -> i64 {
        self.lowest
    }

    /// The next older seal.
    pub(super) fn read_back(&mut self, seal: &Seal) {
        if self.head.is_none() {
            self.head = seal.head();
        }
        self.lowest = seal.number;
        self.lowest_at = millis_at(seal.sealed_at);
        self.know(seal);
    }

    /// Whether enough seals were read.
    pub(super) fn reaches_back(&self) -> bool {
        self.lowest_at.saturating_add(MARGIN_MS) < millis_of(self.floor())
    }

    /// The seal is recorded.
    pub(super) fn take(&mut self, seal: &Seal) {
        self.head = seal.head();
        self.moved = Instant::now();
        self.know(seal);
    }

    fn know(&mut self, seal: &Seal) {
        self.sealed.extend(&seal.events);
        self.mark = seal.events.iter().copied().max().unwrap_or_default().max(self.mark);
        let floor = self.floor();
        while self.sealed.first().is_some_and(|id| *id < floor) {
            self.sealed.pop_first();
        }
    }

    pub(super) fn head(&self) -> Head {
        self.head.unwrap_or(Head::NONE)
    }

    pub(super) const fn mark(&self) -> Uuid {
        self.mark
    }

    /// From here on every sealed id is known.
    pub(super) fn floor(&self) -> Uuid {
        first_id(millis_of(self.mark).saturating_sub(TAIL_MS))
    }

    pub(super) fn known(&self) -> u64 {
        u64::try_from(self.sealed.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn knows(&self, id: Uuid) -> bool {
        self.sealed.contains(&id)
    }

    /// What it knows of; nothing where nothing is sealed.
    pub(super) fn range(&self, lane: Lane) -> Option<EventRange> {
        self.head.map(|_| EventRange { lane, from: self.floor(), to: self.mark })
    }

    /// Whether something was sealed in the time of a tail: later it would be no tail any more.
    pub(super) fn is_busy(&self) -> bool {
        self.moved.elapsed() < Duration::from_millis(2 * TAIL_MS)
    }

    /// Whether it is time for a sweep.
    pub(super) fn is_due(&self, every: Duration, quiet_after: Duration) -> bool {
        let worth = self.head.is_some() && self.moved.elapsed() < quiet_after;
        worth && self.swept.is_none_or(|at| at.elapsed() >= every)
    }

    pub(super) fn swept(&mut self) {
        self.swept = Some(Instant::now());
    }
}
