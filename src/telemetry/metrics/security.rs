//! Who may do what, and what proves it: certificates and policies read anew, refusals, the audit trail.

use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};

const WHAT: &str = "unblock.reload.what";
const OUTCOME: &str = "unblock.outcome";
const VERSION: &str = "unblock.policy.version";
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
    policy: PolicyInfo,
}

type Look = Box<dyn Fn() -> String + Send + Sync>;

/// Which policy holds, said when somebody asks: of one that held before nothing is left.
#[derive(Clone, Default)]
struct PolicyInfo(Arc<Mutex<Option<Look>>>);

impl std::fmt::Debug for PolicyInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyInfo").finish_non_exhaustive()
    }
}

impl Security {
    pub(super) fn new(meter: &Meter) -> Self {
        let security = Self {
            reloads: meter
                .u64_counter("unblock.reloads")
                .with_unit("{reload}")
                .with_description("Changed files, by what is made of them and whether it could be used")
                .build(),
            policy: PolicyInfo::default(),
        };
        security.policy.observe(meter);
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

    /// From now on the version of the policy is what `look` says.
    pub fn watch_policy(&self, look: impl Fn() -> String + Send + Sync + 'static) {
        *self.policy.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(look));
    }
}

impl PolicyInfo {
    fn observe(&self, meter: &Meter) {
        let policy = self.clone();
        meter
            .u64_observable_gauge("unblock.policy.info")
            .with_description("1, with the version of the policy that holds")
            .with_callback(move |observer| {
                let look = policy.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(version) = look.as_ref().map(|look| look()) {
                    observer.observe(1, &[KeyValue::new(VERSION, version)]);
                }
            })
            .build();
    }
}

fn labels(what: &'static str, outcome: Reload) -> [KeyValue; 2] {
    let outcome = match outcome {
        Reload::Taken => "taken",
        Reload::Refused => "refused",
    };
    [KeyValue::new(WHAT, what), KeyValue::new(OUTCOME, outcome)]
}
