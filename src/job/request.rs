//! What a caller asks for.

use std::{fmt, sync::Arc, time::Duration};

use crate::device::DeviceRef;

use super::{Actor, JobId};

/// Who asks: idempotency, the trail and quotas hang on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller(Arc<str>);

impl Caller {
    /// The caller where authentication is off.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(Arc::from("anonymous"))
    }

    /// A caller by its name: `issuer|subject` of a token, or a name of its certificate. At most 512 printable characters; nobody
    /// else has it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let fits = (1..=512).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        (fits && name != "anonymous").then(|| Self(Arc::from(name)))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a person waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Priority {
    /// A person waits.
    Interactive,
    /// Nobody does.
    Bulk,
}

impl Priority {
    /// The flow its jobs wait in: those of one environment and flow are sent in one order. Batches come after these two.
    #[must_use]
    pub const fn flow(self) -> i64 {
        match self {
            Self::Interactive => 0,
            Self::Bulk => 1,
        }
    }

    /// The priority of the jobs of a flow.
    #[must_use]
    pub const fn of_flow(flow: i64) -> Self {
        if flow == Self::Interactive.flow() { Self::Interactive } else { Self::Bulk }
    }

    /// Its number in the store.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Interactive => 1,
            Self::Bulk => 2,
        }
    }

    /// The priority of that number; the store's constraint allows no other.
    #[must_use]
    pub const fn from_number(number: i16) -> Self {
        match number {
            2 => Self::Bulk,
            _ => Self::Interactive,
        }
    }
}

/// A job about to be recorded. All fields are checked.
#[derive(Clone)]
pub struct NewJob {
    /// Its id, unless an earlier call with the same `request_id` made the job.
    pub id: JobId,
    /// What to unblock or, where it stands for every device of its user, whose devices to list.
    pub device: DeviceRef,
    /// Who asks.
    pub actor: Actor,
    /// The caller's idempotency key.
    pub request_id: Option<String>,
    /// Why.
    pub reason: String,
    /// For which case.
    pub ticket: String,
    /// For whom.
    pub on_behalf_of: String,
    /// How urgent.
    pub priority: Priority,
    /// How long it may wait to be sent.
    pub time_to_live: Duration,
    /// The W3C trace context of the call, for the attempt's span to link to.
    pub trace_parent: Option<String>,
}

/// Without what the caller wrote.
impl fmt::Debug for NewJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewJob").field("id", &self.id).finish_non_exhaustive()
    }
}
