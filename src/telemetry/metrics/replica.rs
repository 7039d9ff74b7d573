//! This replica among the others: its lanes, what it has in hand, the batches it looks after, and what telemetry itself lost.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter},
};

use super::count;
use super::label::STATE;

const DIRECTION: &str = "unblock.direction";

/// This replica among the others.
#[derive(Debug)]
pub struct Replica {
    lanes: Gauge<u64>,
    moved: Counter<u64>,
    replicas: Gauge<u64>,
    unsaved: Gauge<u64>,
    unsaved_limit: Gauge<u64>,
    batches: Gauge<u64>,
}

impl Replica {
    pub(super) fn new(meter: &Meter) -> Self {
        let gauge = |name, unit, description| {
            meter.u64_gauge(name).with_unit(unit).with_description(description).build()
        };
        let moved = meter
            .u64_counter("unblock.lanes.moved")
            .with_unit("{lane}")
            .with_description("Lanes that changed hands: taken, given, or lost with the lease")
            .build();
        for direction in ["taken", "given", "lost"] {
            moved.add(0, &[KeyValue::new(DIRECTION, direction)]);
        }
        Self {
            lanes: gauge("unblock.lanes.owned", "{lane}", "Lanes this replica sends for, of 256"),
            moved,
            replicas: gauge("unblock.replicas", "{replica}", "Replicas alive, as this one saw last"),
            unsaved: gauge("unblock.results.unsaved", "{job}", "Jobs claimed whose results are not saved"),
            unsaved_limit: gauge("unblock.results.unsaved.limit", "{job}", "From then on nothing is claimed"),
            batches: gauge("unblock.batches.open", "{batch}", "Batches this replica looks after, by state"),
        }
    }

    /// This replica has so many lanes now.
    pub fn owns(&self, lanes: usize) {
        self.lanes.record(count(lanes), &[]);
    }

    /// So many lanes were `taken`, `given` or `lost`.
    pub fn moved(&self, direction: &'static str, lanes: usize) {
        if lanes > 0 {
            self.moved.add(count(lanes), &[KeyValue::new(DIRECTION, direction)]);
        }
    }

    /// So many replicas live.
    pub fn sees(&self, replicas: usize) {
        self.replicas.record(count(replicas), &[]);
    }

    /// So many jobs are in hand, of so many at most.
    pub fn holds(&self, jobs: usize, at_most: usize) {
        self.unsaved.record(count(jobs), &[]);
        self.unsaved_limit.record(count(at_most), &[]);
    }

    /// So many batches in each state are this replica's to look after: every state is to be named.
    pub fn looks_after(&self, batches: impl IntoIterator<Item = (&'static str, usize)>) {
        for (state, open) in batches {
            self.batches.record(count(open), &[KeyValue::new(STATE, state)]);
        }
    }
}
