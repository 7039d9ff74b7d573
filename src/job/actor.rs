//! Who has something done.

use std::{sync::Arc, time::Duration};

use super::Caller;

/// Who has something done, and by what right: every action is recorded with it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Who calls.
    pub caller: Caller,
    /// The person the caller acts for, as a verified token says. What a request says of it is the caller's word only.
    pub acting_for: Option<Arc<str>>,
    /// The version of the policy that allows it.
    pub policy: Arc<str>,
    /// The trace of the call, 32 hexadecimal digits, where there is one.
    pub trace_id: Option<Arc<str>>,
    /// How much of it the caller may have done.
    pub limits: Limits,
}

/// How many unblocks there may be. What is not set is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Of one caller, in a clock hour.
    pub per_hour: Option<u32>,
    /// Of one caller, in a day of UTC.
    pub per_day: Option<u32>,
    /// Of one device, whoever calls.
    pub per_device: Option<DeviceLimit>,
    /// Rows of one batch.
    pub batch_rows: Option<u32>,
}

/// How often one device may be unblocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimit {
    /// So often,
    pub count: u32,
    /// in any such stretch of time.
    pub within: Duration,
}

impl DeviceLimit {
    /// What the store remembers: no bound reaches further back.
    pub const WITHIN_AT_MOST: Duration = Duration::from_secs(7 * 24 * 3600);

    /// The stretch of time it is held to: whole seconds, a week at most.
    #[must_use]
    pub fn within(&self) -> Duration {
        Duration::from_secs(self.within.min(Self::WITHIN_AT_MOST).as_secs().max(1))
    }
}

impl Actor {
    /// Whoever calls where authentication is off.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            caller: Caller::anonymous(),
            acting_for: None,
            policy: Arc::from("none"),
            trace_id: None,
            limits: Limits::default(),
        }
    }
}
