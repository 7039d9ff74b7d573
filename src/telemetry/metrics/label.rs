//! Labels whose values are few. Never a user, a device or a caller.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use opentelemetry::{KeyValue, Value};

use crate::{
    device::EnvironmentId,
    job::{Priority, Reason, State},
};

const ENVIRONMENT: &str = "unblock.environment.id";
const PRIORITY: &str = "unblock.priority";
pub(super) const STATE: &str = "unblock.state";
const REASON: &str = "unblock.reason";
const OUTCOME: &str = "unblock.outcome";
pub(super) const CAUSE: &str = "unblock.cause";
pub(super) const REQUEST: &str = "unblock.request";
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

/// An environment of its own name, or any other.
pub(super) fn environment(of: Option<EnvironmentId>) -> KeyValue {
    let value = of.map_or(Value::from(OTHER), |id| Value::from(id.to_string()));
    KeyValue::new(ENVIRONMENT, value)
}

/// The environments that have a value of their own: the first that were met.
#[derive(Debug, Default)]
pub(super) struct Environments(RwLock<HashSet<EnvironmentId>>);

impl Environments {
    /// The environment, if it has a value of its own.
    pub(super) fn named(&self, environment: EnvironmentId) -> Option<EnvironmentId> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&environment) || known.len() >= ENVIRONMENTS_AT_MOST {
            return known.get(&environment).copied();
        }
        drop(known);
        let mut named = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if named.len() < ENVIRONMENTS_AT_MOST {
            named.insert(environment);
        }
        named.get(&environment).copied()
    }
}
