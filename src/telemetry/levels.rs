//! What is logged, and changing it while the process runs.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing_subscriber::{EnvFilter, reload};

use super::SPANS;

/// Which events are logged: a level, or levels by target, such as `warn,pingone_unblock=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not a filter: {0}")]
pub struct InvalidFilter(#[from] tracing_subscriber::filter::ParseError);

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`InvalidFilter`] says which part is not understood.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        let text = text.trim();
        EnvFilter::try_new(text)?;
        Ok(Self(text.to_owned()))
    }

    /// With what is never meant by a level for everything.
    pub(super) fn directives(&self) -> Result<EnvFilter, InvalidFilter> {
        // Notices of the database are no events of ours; what the exporters say of each batch is told in `dropped`; and spans are
        // made whatever is logged: a trace must not end here. A filter that names them has its way.
        let text = format!("sqlx=warn,opentelemetry=off,{SPANS}=info,{}", self.0);
        Ok(EnvFilter::try_new(text)?)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Through which the filter is read and changed. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Levels(Arc<Inner>);

struct Inner {
    reload: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    /// What is logged unless it is changed for a while.
    lasting: Filter,
    current: Filter,
    /// Counts changes, so that only the newest is taken back.
    change: u64,
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Levels").field(&self.current()).finish()
    }
}

impl Levels {
    pub(super) fn new(
        lasting: Filter,
        reload: impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync + 'static,
    ) -> Self {
        let state = State { current: lasting.clone(), lasting, change: 0 };
        Self(Arc::new(Inner { reload: Box::new(reload), state: Mutex::new(state) }))
    }

    /// Of no subscriber.
    #[cfg(test)]
    pub(crate) fn of_nobody() -> Self {
        Self::new(Filter::default(), |_| Ok(()))
    }

    /// What is logged now.
    #[must_use]
    pub fn current(&self) -> Filter {
        self.state().current.clone()
    }

    /// Logs by `filter` from now on; or for so long, and then as before. Inside a Tokio runtime.
    pub fn set(&self, filter: Filter, time: Option<Duration>) {
        let change = {
            let mut state = self.state();
            if time.is_none() {
                state.lasting = filter.clone();
            }
            self.apply(&mut state, filter)
        };
        let Some(time) = time else { return };
        let levels = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            levels.take_back(change);
        });
    }

    fn take_back(&self, change: u64) {
        let mut state = self.state();
        if state.change != change {
            return;
        }
        let lasting = state.lasting.clone();
        self.apply(&mut state, lasting);
        drop(state);
        tracing::info!(log.filter = %self.current(), "logging as before");
    }

    fn apply(&self, state: &mut State, filter: Filter) -> u64 {
        // Both cannot fail: the filter was read before, and the subscriber is the process's.
        if let Ok(directives) = filter.directives() {
            let _ = (self.0.reload)(directives);
        }
        state.current = filter;
        state.change += 1;
        state.change
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
