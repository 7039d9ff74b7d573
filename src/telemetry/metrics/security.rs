//! Who may do what, and what proves it: certificates and policies read anew, refusals, the audit trail.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
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
    trail_failures: Counter<u64>,
    denials_dropped: Counter<u64>,
}

impl Security {
    pub(super) fn new(meter: &Meter) -> Self {
        let security = Self {
            reloads: meter
                .u64_counter("unblock.reloads")
                .with_unit("{reload}")
                .with_description("Changed files, by what is made of them and whether it could be used")
                .build(),
            trail_failures: meter
                .u64_counter("unblock.audit.failures")
                .with_unit("{failure}")
                .with_description("Statements that did nothing because the audit trail could not be written")
                .build(),
            denials_dropped: meter
                .u64_counter("unblock.audit.dropped")
                .with_unit("{call}")
                .with_description("Refused calls that found no room in the audit trail")
                .build(),
        };
        security.trail_failures.add(0, &[]);
        security.denials_dropped.add(0, &[]);
        for what in RELOADED {
            for outcome in [Reload::Taken, Reload::Refused] {
                security.reloads.add(0, &labels(what, outcome));
            }
        }
        security
    }

    /// A statement did nothing because the trail could not be written.
    pub fn trail_failed(&self) {
        self.trail_failures.add(1, &[]);
    }

    /// So many refused calls are in no trail.
    pub fn denials_dropped(&self, calls: u64) {
        self.denials_dropped.add(calls, &[]);
    }

    /// A changed file of `what` was taken or refused.
    pub fn reloaded(&self, what: &'static str, outcome: Reload) {
        self.reloads.add(1, &labels(what, outcome));
    }
}

fn labels(what: &'static str, outcome: Reload) -> [KeyValue; 2] {
    let outcome = match outcome {
        Reload::Taken => "taken",
        Reload::Refused => "refused",
    };
    [KeyValue::new(WHAT, what), KeyValue::new(OUTCOME, outcome)]
}
