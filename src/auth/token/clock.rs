//! What time it is, for a test to say otherwise.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use time::OffsetDateTime;

/// This machine's clocks. Cheap to clone; clones are the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// How many milliseconds they are ahead.
    ahead: Arc<AtomicU64>,
}

impl Clock {
    /// Puts both clocks forward. For tests: time passes by itself.
    #[doc(hidden)]
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.ahead.fetch_add(by, Ordering::SeqCst);
    }

    /// The time of day, by which tokens are dated.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.ahead()
    }

    /// The clock that nobody sets, by which keys get old.
    pub(super) fn instant(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead.load(Ordering::Relaxed))
    }
}
