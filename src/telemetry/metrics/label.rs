//! Labels whose values are few. Never a user, a device or a caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry::{KeyValue, Value};

use crate::{
    device::EnvironmentId,
    job::{Priority, Reason, State},
};

pub(super) const ENVIRONMENT: &str = "unblock.environment.id";
const PRIORITY: &str = "unblock.priority";
pub(super) const STATE: &str = "unblock.state";
const REASON: &str = "unblock.reason";
const OUTCOME: &str = "unblock.outcome";
pub(super) const CAUSE: &str = "unblock.cause";
pub(super) const DISPOSITION: &str = "unblock.disposition";

/// Environments that have a value of their own; all others share [`OTHER`].
const ENVIRONMENTS_AT_MOST: usize = 50;
const OTHER: &str = "other";

pub(super) const PRIORITIES: [Priority; 2] = [Priority::Interactive, Priority::Bulk];

pub(super) fn priority(of: Priority) -> KeyValue {
    let name = match of {
        Priority::Interactive => "interactive",
        Priority::Bulk => "bulk",
    };
    KeyValue::new(PRIORITY, name)
}

pub(super) fn state(of: State) -> KeyValue {
    let name = match of {
        State::Pending => "pending",
        State::Running => "running",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
        State::Expired => "expired",
    };
    KeyValue::new(STATE, name)
}

/// A reason of the contract, or that there is none.
pub(super) fn reason(of: Option<Reason>) -> KeyValue {
    KeyValue::new(REASON, of.map_or("NONE", Reason::name))
}

/// What came of something: `ok`, or a reason of the contract.
pub(super) fn outcome(of: Option<Reason>) -> KeyValue {
    KeyValue::new(OUTCOME, of.map_or("ok", Reason::name))
}

/// The environments that have a value of their own: the first that were met.
#[derive(Debug, Default)]
pub(super) struct Environments(Mutex<HashMap<EnvironmentId, Arc<str>>>);

impl Environments {
    pub(super) fn label(&self, environment: EnvironmentId) -> KeyValue {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = known.len() < ENVIRONMENTS_AT_MOST;
        let value = match known.get(&environment) {
            Some(value) => Value::from(Arc::clone(value)),
            None if room => {
                let value: Arc<str> = environment.to_string().into();
                known.insert(environment, Arc::clone(&value));
                Value::from(value)
            }
            None => Value::from(OTHER),
        };
        KeyValue::new(ENVIRONMENT, value)
    }
}
