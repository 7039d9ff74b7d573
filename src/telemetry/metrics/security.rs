//! Who may do what, and what proves it: certificates and policies read anew, refusals, the audit trail.

use std::time::Duration;

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter},
};

const WHAT: &str = "unblock.reload.what";
const OUTCOME: &str = "unblock.outcome";
/// What is read anew.
const RELOADED: [&str; 4] = ["tls", "policy", "credentials", "snapshot_keys"];

/// What became of a changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It is used from now on.
    Taken,
    /// It cannot be used; the last good one stays.
    Refused,
}

/// Who may do what.
#[derive(Debug)]
pub struct Security {
    reloads: Counter<u64>,
    sealed: Counter<u64>,
    unsealed: Gauge<f64>,
    seal_failures: Counter<u64>,
}

impl Security {
    pub(super) fn new(meter: &Meter) -> Self {
        let security = Self {
            reloads: meter
                .u64_counter("unblock.reloads")
                .with_unit("{reload}")
                .with_description("Changed files, by what is made of them and whether it could be used")
                .build(),
            sealed: meter
                .u64_counter("unblock.audit.sealed")
                .with_unit("{event}")
                .with_description("Audit entries that this replica has sealed")
                .build(),
            unsealed: meter
                .f64_gauge("unblock.audit.unsealed.age")
                .with_unit("s")
                .with_description(
                    "How long the oldest audit entry of this replica's lanes has waited to be sealed",
                )
                .build(),
            seal_failures: meter
                .u64_counter("unblock.audit.seal.failures")
                .with_unit("{failure}")
                .with_description("Rounds of sealing that Postgres did not take")
                .build(),
        };
        security.sealed.add(0, &[]);
        security.seal_failures.add(0, &[]);
        for what in RELOADED {
            for outcome in [Reload::Taken, Reload::Refused] {
                security.reloads.add(0, &labels(what, outcome));
            }
        }
        security
    }

    /// A changed file of `what` was taken or refused.
    pub fn reloaded(&self, what: &'static str, outcome: Reload) {
        self.reloads.add(1, &labels(what, outcome));
    }

    /// So many audit entries were sealed; the oldest that may be left has waited so long.
    pub fn sealed(&self, events: u64, waits: Duration) {
        self.sealed.add(events, &[]);
        self.unsealed.record(waits.as_secs_f64(), &[]);
    }

    /// Sealing failed: for so long now it has not been known to be complete.
    pub fn not_sealed(&self, waits: Duration) {
        self.seal_failures.add(1, &[]);
        self.unsealed.record(waits.as_secs_f64(), &[]);
    }
}

fn labels(what: &'static str, outcome: Reload) -> [KeyValue; 2] {
    let outcome = match outcome {
        Reload::Taken => "taken",
        Reload::Refused => "refused",
    };
    [KeyValue::new(WHAT, what), KeyValue::new(OUTCOME, outcome)]
}
