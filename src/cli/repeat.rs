//! Which calls are worth repeating, and how long to wait before.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{error::came_from_transport, tls};
use crate::job::RetryPolicy;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// About a minute of trying; then the server counts as gone.
pub(super) const MOST_FAILURES: u32 = 15;

/// Counts failures in a row. A server asks for a repeat with UNAVAILABLE or with RetryInfo on any other code.
#[derive(Debug)]
pub(super) struct Repeat {
    policy: RetryPolicy,
    rng: fastrand::Rng,
    failures: u32,
}

impl Repeat {
    pub(super) fn new() -> Self {
        let policy = RetryPolicy::new(FIRST_WAIT, LONGEST_WAIT, 1).expect("constants in the policy's range");
        Self { policy, rng: fastrand::Rng::new(), failures: 0 }
    }

    /// How long to wait before the call is made again; nothing when it would only fail again.
    pub(super) fn wait_after(&mut self, status: &Status) -> Option<Duration> {
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
        // TLS that failed fails again: it is for a person to put right.
        let lost = came_from_transport(status) && tls::in_words(status).is_none();
        let again =
            asked.is_some() || status.code() == Code::Unavailable && !came_from_transport(status) || lost;
        again.then(|| self.wait(asked))
    }

    /// How long to wait after an end that was no failure.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.policy.delay(self.failures, asked, &mut self.rng)
    }

    /// How often in a row it failed.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// It went well.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn only_what_the_server_wants_repeated_is_repeated_and_never_too_early() {
        let mut repeat = Repeat::new();
        assert_eq!(repeat.wait_after(&Status::internal("")), None);
        assert_eq!(repeat.wait_after(&Status::resource_exhausted("")), None);
        assert!(repeat.wait_after(&Status::unavailable("")) >= Some(FIRST_WAIT));

        let asked = Duration::from_secs(7);
        let details = ErrorDetails::with_retry_info(Some(asked));
        let full = Status::with_error_details(Code::ResourceExhausted, "", details);
        assert!(repeat.wait_after(&full) >= Some(asked));
    }
}
