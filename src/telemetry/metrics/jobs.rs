//! Jobs from their acceptance to their end, attempts, and batches.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{BoundCounter, BoundHistogram, Counter, Histogram, Meter},
};

use super::{
    count,
    family::Family,
    label::{self, CAUSE, DISPOSITION, Environments, PRIORITIES, REQUEST},
};
use crate::{
    device::EnvironmentId,
    job::{Priority, Reason, State},
};

/// From what a person does not notice to what nobody waits for; 30 s and 5 min are where promises end.
const SECONDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Jobs, attempts and batches.
#[derive(Debug)]
pub struct Jobs {
    accepted: Counts<(Priority, bool)>,
    finished: Counts<(Priority, State, Option<Reason>)>,
    duration: Durations<(Priority, State)>,
    time_to_send: Durations<Priority>,
    attempts: Counts<(Option<EnvironmentId>, Priority, &'static str, Option<Reason>)>,
    lapsed: Counter<u64>,
    rows: Counter<u64>,
    paused: Counter<u64>,
    purged: Counter<u64>,
    environments: Environments,
}

type Counts<K> = (Counter<u64>, Family<K, BoundCounter<u64>>);
type Durations<K> = (Histogram<f64>, Family<K, BoundHistogram<f64>>);

impl Jobs {
    pub(super) fn new(meter: &Meter) -> Self {
        let counter = |name, unit, description| {
            meter.u64_counter(name).with_unit(unit).with_description(description).build()
        };
        let seconds = |name, description| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(SECONDS.to_vec())
                .build()
        };
        let jobs = Self {
            accepted: (
                counter("unblock.jobs.accepted", "{job}", "Jobs recorded, or found recorded before"),
                Family::default(),
            ),
            finished: (
                counter("unblock.jobs.finished", "{job}", "Jobs that ended, by how and why"),
                Family::default(),
            ),
            duration: (
                seconds("unblock.job.duration", "From the request, or redrive, of a job to its end"),
                Family::default(),
            ),
            time_to_send: (
                seconds("unblock.job.time_to_send", "From when a job was due to the start of its request"),
                Family::default(),
            ),
            attempts: (
                counter("unblock.attempts", "{attempt}", "Attempts that ended, by what came of them"),
                Family::default(),
            ),
            lapsed: counter("unblock.leases.lapsed", "{claim}", "Claims of a replica that did not end them"),
            rows: counter("unblock.batch.rows", "{row}", "Rows of batches that were sent to us"),
            paused: counter("unblock.batches.paused", "{batch}", "Batches that were paused, by what"),
            purged: counter("unblock.purged.rows", "{row}", "Jobs forgotten after their retention time"),
            environments: Environments::default(),
        };
        jobs.begin();
        jobs
    }

    /// A counter that is there only from its first event on hides that event from whoever looks for an increase.
    fn begin(&self) {
        for priority in PRIORITIES {
            self.accepted(priority, true, 0);
            self.accepted(priority, false, 0);
            self.finished(priority, State::Succeeded, None, 0);
        }
        self.rows(true, 0);
        self.rows(false, 0);
        self.lapsed(0);
        self.purged(0);
        for cause in ["canary", "failures", "operator"] {
            self.paused.add(0, &[KeyValue::new(CAUSE, cause)]);
        }
    }

    /// So many jobs were recorded now, or had been before.
    pub fn accepted(&self, priority: Priority, created: bool, jobs: usize) {
        let (counter, family) = &self.accepted;
        let disposition = || KeyValue::new(DISPOSITION, if created { "created" } else { "repeated" });
        let bind = || counter.bind(&[label::priority(priority), disposition()]);
        family.get((priority, created), bind).add(count(jobs));
    }

    /// So many jobs ended in this state, for this reason of the contract or none.
    pub fn finished(&self, priority: Priority, state: State, reason: Option<Reason>, jobs: usize) {
        let (counter, family) = &self.finished;
        let bind = || counter.bind(&[label::priority(priority), label::state(state), label::reason(reason)]);
        family.get((priority, state, reason), bind).add(count(jobs));
    }

    /// A job ended that long after it was asked for.
    pub fn lasted(&self, priority: Priority, state: State, duration: Duration) {
        let (histogram, family) = &self.duration;
        let bind = || histogram.bind(&[label::priority(priority), label::state(state)]);
        family.get((priority, state), bind).record(duration.as_secs_f64());
    }

    /// The request of a job starts that long after it was due.
    pub fn sent(&self, priority: Priority, after: Duration) {
        let (histogram, family) = &self.time_to_send;
        let bind = || histogram.bind(&[label::priority(priority)]);
        family.get(priority, bind).record(after.as_secs_f64());
    }

    /// An attempt ended: `request` is `unblock`, `read` or `list`, `failed` why it failed if it did.
    pub fn attempted(
        &self,
        environment: EnvironmentId,
        priority: Priority,
        request: &'static str,
        failed: Option<Reason>,
    ) {
        let (counter, family) = &self.attempts;
        let environment = self.environments.named(environment);
        let bind = || {
            counter.bind(&[
                label::environment(environment),
                label::priority(priority),
                KeyValue::new(REQUEST, request),
                label::outcome(failed),
            ])
        };
        family.get((environment, priority, request, failed), bind).add(1);
    }

    /// So many claims were taken over from a replica that had not ended them.
    pub fn lapsed(&self, claims: usize) {
        self.lapsed.add(count(claims), &[]);
    }

    /// So many rows of a batch came: for the first time, or again.
    pub fn rows(&self, fresh: bool, rows: usize) {
        let disposition = if fresh { "accepted" } else { "repeated" };
        self.rows.add(count(rows), &[KeyValue::new(DISPOSITION, disposition)]);
    }

    /// A batch was paused.
    pub fn batch_paused(&self, cause: &'static str) {
        self.paused.add(1, &[KeyValue::new(CAUSE, cause)]);
    }

    /// So many jobs were forgotten after their retention time.
    pub fn purged(&self, rows: u64) {
        self.purged.add(rows, &[]);
    }
}
