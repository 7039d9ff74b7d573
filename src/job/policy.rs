//! How long to wait before the next attempt. The only file that knows the `backoff` crate: its intervals, not its loops.

use std::{ops::RangeInclusive, time::Duration};

use backoff::{SystemClock, backoff::Backoff as _, exponential::ExponentialBackoffBuilder};

/// When to try again: a validated value, and arithmetic on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    first: Duration,
    longest: Duration,
    max_attempts: u32,
    attempts_when_not_understood: u32,
}

/// A policy that could not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No attempt, or more than make sense.
    #[error("max attempts must be between 1 and 100")]
    MaxAttempts,
    /// Waits that are no waits.
    #[error("the first wait must be between 1 ms and the longest wait, which is at most 1 h")]
    Waits,
}

/// Added to a wait at random, in percent of it, so that jobs that failed together do not come back together.
const JITTER_PERCENT: RangeInclusive<u32> = 0..=20;
const ATTEMPTS_RANGE: RangeInclusive<u32> = 1..=100;
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

impl Default for RetryPolicy {
    /// 0.5, 1, 2, 4, 8, 16, 30, 60, 60 … s; ten attempts.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(60),
            max_attempts: 10,
            attempts_when_not_understood: 3,
        }
    }
}

impl RetryPolicy {
    /// A policy whose waits double from `first` to `longest`, for at most `max_attempts` attempts.
    ///
    /// # Errors
    /// [`PolicyError`] names what is out of range.
    pub fn new(first: Duration, longest: Duration, max_attempts: u32) -> Result<Self, PolicyError> {
        if !ATTEMPTS_RANGE.contains(&max_attempts) {
            return Err(PolicyError::MaxAttempts);
        }
        if first < Duration::from_millis(1) || first > longest || longest > LONGEST_WAIT {
            return Err(PolicyError::Waits);
        }
        Ok(Self { first, longest, max_attempts, ..Self::default() })
    }

    /// How many attempts a job has.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// How many it has when PingOne's answers are not understood.
    #[must_use]
    pub fn attempts_when_not_understood(&self) -> u32 {
        self.attempts_when_not_understood.min(self.max_attempts)
    }

    /// The wait after the `attempt`-th attempt (counted from 1), never shorter than what PingOne asked for. Jitter only adds.
    #[must_use]
    pub fn delay(&self, attempt: u32, asked: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        let wait = self.interval(attempt).max(asked.unwrap_or_default());
        let percent = rng.u32(JITTER_PERCENT);
        wait + wait * percent / 100
    }

    /// The wait after the `attempt`-th attempt before jitter. Doubles from the first; the last doubling before the cap lands on half of it, so that the
    /// defaults read 16, 30, 60 and not 16, 32, 60.
    #[must_use]
    pub fn interval(&self, attempt: u32) -> Duration {
        let half = self.longest / 2;
        let mut intervals = ExponentialBackoffBuilder::<SystemClock>::new()
            .with_initial_interval(self.first)
            .with_multiplier(2.0)
            .with_randomization_factor(0.0)
            .with_max_interval(self.longest)
            .with_max_elapsed_time(None)
            .build();
        let steps = attempt.clamp(1, *ATTEMPTS_RANGE.end());
        let wait = (0..steps).fold(self.first, |last, _| intervals.next_backoff().unwrap_or(last));
        // It counts in floating point, and may overshoot by a hair.
        let wait = wait.min(self.longest);
        if wait > half && wait < self.longest { half } else { wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_schedule_is_the_documented_one() {
        let policy = RetryPolicy::default();
        let waits: Vec<f64> = (1..=9).map(|n| policy.interval(n).as_secs_f64()).collect();
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0, 60.0]);
        assert_eq!(policy.max_attempts(), 10);
    }

    #[test]
    fn policies_that_could_not_work_are_refused() {
        let s = Duration::from_secs;
        assert_eq!(RetryPolicy::new(s(1), s(9), 0), Err(PolicyError::MaxAttempts));
        assert_eq!(RetryPolicy::new(s(1), s(9), 101), Err(PolicyError::MaxAttempts));
        assert_eq!(RetryPolicy::new(s(0), s(9), 5), Err(PolicyError::Waits));
        assert_eq!(RetryPolicy::new(s(9), s(1), 5), Err(PolicyError::Waits));
        assert_eq!(RetryPolicy::new(s(9), s(3601), 5), Err(PolicyError::Waits));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_shorter_than_asked_and_jitter_only_adds(
            attempt in 1_u32..200, asked in proptest::option::of(0_u64..7200), seed: u64,
        ) {
            let policy = RetryPolicy::default();
            let asked = asked.map(Duration::from_secs);
            let wait = policy.delay(attempt, asked, &mut fastrand::Rng::with_seed(seed));
            let least = policy.interval(attempt).max(asked.unwrap_or_default());
            prop_assert!(wait >= least);
            prop_assert!(wait <= least + least / 5);
        }

        #[test]
        fn waits_never_fall_from_one_attempt_to_the_next(
            first in 1_u64..10_000, factor in 1_u32..200, attempt in 1_u32..100,
        ) {
            let first = Duration::from_millis(first);
            if let Ok(policy) = RetryPolicy::new(first, first * factor, 10) {
                prop_assert!(policy.interval(attempt) <= policy.interval(attempt + 1));
                prop_assert!(policy.interval(attempt) <= first * factor);
            }
        }
    }
}
