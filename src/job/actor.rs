//! Who has something done.

use std::sync::Arc;

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
}

impl Actor {
    /// Whoever calls where authentication is off.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { caller: Caller::anonymous(), acting_for: None, policy: Arc::from("none"), trace_id: None }
    }
}
