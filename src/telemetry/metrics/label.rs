//! Labels whose values are few. Never a user, a device or a caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use opentelemetry::{KeyValue, Value};

use crate::device::EnvironmentId;

pub(super) const ENVIRONMENT: &str = "unblock.environment.id";
pub(super) const PRIORITY: &str = "unblock.priority";
pub(super) const STATE: &str = "unblock.state";
pub(super) const REASON: &str = "unblock.reason";
pub(super) const OUTCOME: &str = "unblock.outcome";
pub(super) const CAUSE: &str = "unblock.cause";
pub(super) const DISPOSITION: &str = "unblock.disposition";

/// Environments that have a value of their own; all others share [`OTHER`].
const ENVIRONMENTS_AT_MOST: usize = 50;
const OTHER: &str = "other";

/// Whether a person waits, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A person waits.
    Interactive,
    /// Nobody does.
    Bulk,
}

impl Priority {
    pub(super) const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];

    pub(super) const fn index(self) -> usize {
        self as usize
    }

    pub(super) fn label(self) -> KeyValue {
        let name = match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        };
        KeyValue::new(PRIORITY, name)
    }
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
