//! Who may do what, and what proves it: certificates and policies read anew, refusals, the audit trail.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};

use crate::job::Bound;

const WHAT: &str = "unblock.reload.what";
const OUTCOME: &str = "unblock.outcome";
const BOUND: &str = "unblock.bound";
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
    over_quota: Counter<u64>,
}

impl Security {
    pub(super) fn new(meter: &Meter) -> Self {
        let security = Self {
            reloads: meter
                .u64_counter("unblock.reloads")
                .with_unit("{reload}")
                .with_description("Changed files, by what is made of them and whether it could be used")
                .build(),
            over_quota: meter
                .u64_counter("unblock.quota.refused")
                .with_unit("{refusal}")
                .with_description("Unblocks, batches, calls and streams refused, by the bound that they would have exceeded")
                .build(),
        };
        for bound in Bound::ALL {
            security.over_quota(bound, 0);
        }
        for what in RELOADED {
            for outcome in [Reload::Taken, Reload::Refused] {
                security.reloads.add(0, &labels(what, outcome));
            }
        }
        security
    }

    /// So much would have exceeded that bound and was refused.
    pub fn over_quota(&self, bound: Bound, refused: usize) {
        let refused = u64::try_from(refused).unwrap_or(u64::MAX);
        self.over_quota.add(refused, &[KeyValue::new(BOUND, bound.name())]);
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
