//! Statements and connections, by the conventions for databases.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Counter, Gauge, Histogram, Meter},
};
use opentelemetry_semantic_conventions::{
    attribute::{
        DB_CLIENT_CONNECTION_POOL_NAME, DB_CLIENT_CONNECTION_STATE, DB_OPERATION_NAME, DB_SYSTEM_NAME,
        ERROR_TYPE,
    },
    metric::{DB_CLIENT_CONNECTION_COUNT, DB_CLIENT_CONNECTION_MAX, DB_CLIENT_OPERATION_DURATION},
};

use super::{count, family::Family, metrics};

/// As the convention advises.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
const SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0];
const SYSTEM: &str = "postgresql";

/// Statements and connections.
#[derive(Debug)]
pub struct Postgres {
    duration: Histogram<f64>,
    durations: Family<&'static str, BoundHistogram<f64>>,
    errors: Counter<u64>,
    group: Histogram<u64>,
    groups: Family<&'static str, BoundHistogram<u64>>,
    round_trip: Gauge<f64>,
    up: Gauge<u64>,
    pools: Pools,
}

/// The connections of one pool.
#[derive(Debug, Clone, Copy)]
pub struct Connections {
    /// What the pool is for.
    pub pool: &'static str,
    /// Open, busy or not.
    pub open: u32,
    /// Of those, not busy.
    pub idle: usize,
    /// Open at most.
    pub max: u32,
}

type Look = Box<dyn Fn() -> [Connections; 2] + Send + Sync>;

/// Where connections are counted when somebody asks.
#[derive(Clone, Default)]
struct Pools(Arc<Mutex<Option<Look>>>);

impl std::fmt::Debug for Pools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pools").finish_non_exhaustive()
    }
}

impl Postgres {
    pub(super) fn new(meter: &Meter) -> Self {
        let pools = Pools::default();
        pools.observe(meter);
        let errors = meter
            .u64_counter("unblock.postgres.errors")
            .with_unit("{error}")
            .with_description("Statements that failed: Postgres was not available, or refused them")
            .build();
        for kind in ["unavailable", "refused"] {
            errors.add(0, &[KeyValue::new(ERROR_TYPE, kind)]);
        }
        Self {
            duration: meter
                .f64_histogram(DB_CLIENT_OPERATION_DURATION)
                .with_unit("s")
                .with_description("How long operations of the store took, waiting for a connection included")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            durations: Family::default(),
            errors,
            group: meter
                .u64_histogram("unblock.commit.size")
                .with_unit("{job}")
                .with_description("Jobs that one statement carried")
                .with_boundaries(SIZES.to_vec())
                .build(),
            groups: Family::default(),
            round_trip: meter
                .f64_gauge("unblock.postgres.round_trip")
                .with_unit("s")
                .with_description(
                    "How long the last look at Postgres took, waiting for a connection included",
                )
                .build(),
            up: meter
                .u64_gauge("unblock.postgres.up")
                .with_description("Whether Postgres answered the last look")
                .build(),
            pools,
        }
    }

    /// One statement carried so many jobs.
    pub fn carried(&self, operation: &'static str, jobs: usize) {
        let bind = || self.group.bind(&[KeyValue::new(DB_OPERATION_NAME, operation)]);
        self.groups.get(operation, bind).record(count(jobs));
    }

    /// A statement failed: Postgres was `unavailable` or it `refused` it.
    pub fn failed(&self, kind: &'static str) {
        self.errors.add(1, &[KeyValue::new(ERROR_TYPE, kind)]);
    }

    /// Postgres was looked at.
    pub fn looked(&self, answered: bool, after: Duration) {
        self.up.record(answered.into(), &[]);
        self.round_trip.record(after.as_secs_f64(), &[]);
    }

    /// From now on connections are counted by `look`.
    pub fn watch_connections(&self, look: impl Fn() -> [Connections; 2] + Send + Sync + 'static) {
        *self.pools.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(look));
    }
}

impl Pools {
    fn observe(&self, meter: &Meter) {
        let pools = self.clone();
        meter
            .u64_observable_gauge(DB_CLIENT_CONNECTION_COUNT)
            .with_unit("{connection}")
            .with_description("Connections, by what they do")
            .with_callback(move |observer| {
                for Connections { pool, open, idle, .. } in pools.look() {
                    let idle = u64::try_from(idle).unwrap_or_default();
                    for (state, count) in [("idle", idle), ("used", u64::from(open).saturating_sub(idle))] {
                        observer.observe(
                            count,
                            &[
                                KeyValue::new(DB_CLIENT_CONNECTION_POOL_NAME, pool),
                                KeyValue::new(DB_CLIENT_CONNECTION_STATE, state),
                            ],
                        );
                    }
                }
            })
            .build();
        let pools = self.clone();
        meter
            .u64_observable_gauge(DB_CLIENT_CONNECTION_MAX)
            .with_unit("{connection}")
            .with_description("Connections at most")
            .with_callback(move |observer| {
                for Connections { pool, max, .. } in pools.look() {
                    observer.observe(max.into(), &[KeyValue::new(DB_CLIENT_CONNECTION_POOL_NAME, pool)]);
                }
            })
            .build();
    }

    fn look(&self) -> Vec<Connections> {
        let look = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        look.as_ref().map(|look| look().to_vec()).unwrap_or_default()
    }
}

/// Measures an operation of the store, until it is dropped.
#[derive(Debug)]
#[must_use = "it measures until it is dropped"]
pub struct Timed {
    operation: &'static str,
    began: Instant,
}

/// An operation of the store begins.
pub fn timed(operation: &'static str) -> Timed {
    Timed { operation, began: Instant::now() }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let Postgres { duration, durations, .. } = &metrics().postgres;
        let bind = || {
            let operation = KeyValue::new(DB_OPERATION_NAME, self.operation);
            duration.bind(&[KeyValue::new(DB_SYSTEM_NAME, SYSTEM), operation])
        };
        durations.get(self.operation, bind).record(self.began.elapsed().as_secs_f64());
    }
}
