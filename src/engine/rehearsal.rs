//! The scheduler's inner loop by itself, in simulated time, for benchmarks: read, claim, start, end, and nothing else.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Limits,
    desk::{Desk, Staged},
    flow::Waiting,
};
use crate::{
    device::{DeviceRef, Lane},
    job::{JobId, Priority},
};

/// One environment with many batches, at no rate limit.
#[derive(Debug)]
pub struct Rehearsal {
    desk: Desk<i64>,
    now: Instant,
    made: u64,
    running: Vec<Priority>,
}

impl Rehearsal {
    /// An environment in which `batches` batches wait, each with `jobs` jobs.
    #[must_use]
    pub fn new(batches: u32, jobs: u32) -> Self {
        let now = Instant::now();
        let limits = Limits { rate: f64::INFINITY, max_in_flight: 512 };
        let mut rehearsal = Self { desk: Desk::new(limits, None, now), now, made: 0, running: Vec::new() };
        for batch in 0..i64::from(batches) {
            (0..jobs).for_each(|_| rehearsal.queue(batch + 2));
        }
        rehearsal
    }

    /// A millisecond: what ran ends, what there is room for is claimed, what may start starts; as many are queued anew. Says how
    /// many started.
    pub fn step(&mut self) -> usize {
        self.now += Duration::from_millis(1);
        for priority in std::mem::take(&mut self.running) {
            self.desk.release(priority, self.now);
        }
        let mut room = self.desk.room(self.now);
        while let Some(job) = self.desk.pop(self.now, &mut room, &mut Vec::new()) {
            let staged = Staged {
                start_by: self.now + Duration::from_millis(400),
                target: (job.device.user, job.device.device),
                attempt: job.flow,
            };
            drop(self.desk.stage(staged, Priority::of_flow(job.flow)));
        }
        let started = self.desk.due(self.now, true).start;
        let count = started.len();
        for (flow, _, priority) in started {
            self.running.push(priority);
            self.queue(flow);
        }
        count
    }

    fn queue(&mut self, flow: i64) {
        self.made += 1;
        let id = Uuid::from_u64_pair(1, self.made);
        self.desk.open_flow(flow).set_open(true);
        self.desk.open_flow(flow).insert(Waiting {
            id: JobId::new(Lane::from_stored(0)),
            device: DeviceRef { environment: Uuid::nil().into(), user: id.into(), device: id.into() },
            flow,
            run: 1,
            attempt: 0,
            due_at: OffsetDateTime::UNIX_EPOCH + Duration::from_micros(self.made),
            expires: self.now + Duration::from_secs(24 * 3600),
            lapsed: None,
            repeated: false,
            requested_at: OffsetDateTime::UNIX_EPOCH,
            requested: self.now,
            trace_parent: None,
        });
    }
}
