//! What the end of an attempt means for its job. Pure: the store passes in what it holds under lock.

use std::time::Duration;

use super::{Failure, RetryHint, RetryPolicy};

/// The job as the store holds it while the attempt's end is decided.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Attempts that count so far, this one included.
    pub attempts: u32,
    /// Whether a cancel waits for this attempt's end.
    pub cancel_requested: bool,
    /// How long until the job expires; zero when it has.
    pub expires_in: Duration,
}

/// What becomes of a job whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is over: PingOne refused for good, or the attempts ran out.
    Fail,
    /// It is over: the cancel that waited.
    Cancel,
    /// It is over: no time is left.
    Expire,
    /// Another attempt after this wait, or the end of its time, whichever comes first.
    Retry(Duration),
    /// As [`Retry`](Self::Retry), but this attempt cost nothing: others go first.
    Postpone(Duration),
    /// Another attempt when its environment sends again; this one cost nothing.
    Spare,
}

/// Decides what a failed attempt means. A `probe` found out whether PingOne answers again: where the failure may pass, it costs the
/// job nothing.
#[must_use]
pub fn judge(
    standing: Standing,
    failure: &Failure,
    probe: bool,
    policy: &RetryPolicy,
    rng: &mut fastrand::Rng,
) -> Verdict {
    let retry = |allowed: u32, asked: Option<Duration>, rng: &mut fastrand::Rng| match standing.attempts {
        attempts if probe => Verdict::Postpone(policy.delay(attempts, asked, rng).min(standing.expires_in)),
        attempts if attempts >= allowed => Verdict::Fail,
        attempts => Verdict::Retry(policy.delay(attempts, asked, rng).min(standing.expires_in)),
    };
    let verdict = match failure.hint {
        RetryHint::Never => Verdict::Fail,
        RetryHint::Backoff => retry(policy.max_attempts(), None, rng),
        RetryHint::BackoffFew => retry(policy.attempts_when_not_understood(), None, rng),
        RetryHint::After(asked) => retry(policy.max_attempts(), Some(asked), rng),
        RetryHint::Hold(_) | RetryHint::Credential => Verdict::Spare,
    };
    match verdict {
        Verdict::Retry(_) | Verdict::Postpone(_) | Verdict::Spare if standing.cancel_requested => {
            Verdict::Cancel
        }
        Verdict::Retry(_) | Verdict::Postpone(_) | Verdict::Spare if standing.expires_in.is_zero() => {
            Verdict::Expire
        }
        decided => decided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Reason;

    fn failure(hint: RetryHint) -> Failure {
        Failure {
            reason: Reason::Unavailable,
            message: "PingOne answered 503".into(),
            hint,
            http_status: Some(503),
            pingone_code: None,
            pingone_id: None,
            correlation_id: None,
        }
    }

    fn decide(attempts: u32, cancel_requested: bool, expires_in: u64, hint: RetryHint) -> Verdict {
        let standing = Standing { attempts, cancel_requested, expires_in: Duration::from_secs(expires_in) };
        judge(standing, &failure(hint), false, &RetryPolicy::default(), &mut fastrand::Rng::with_seed(7))
    }

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        assert_eq!(decide(1, false, 900, RetryHint::Never), Verdict::Fail);
        assert_eq!(decide(1, true, 0, RetryHint::Never), Verdict::Fail);
    }

    #[test]
    fn attempts_run_out() {
        assert!(matches!(decide(9, false, 900, RetryHint::Backoff), Verdict::Retry(_)));
        assert_eq!(decide(10, false, 900, RetryHint::Backoff), Verdict::Fail);
        assert!(matches!(decide(2, false, 900, RetryHint::BackoffFew), Verdict::Retry(_)));
        assert_eq!(decide(3, false, 900, RetryHint::BackoffFew), Verdict::Fail);
    }

    #[test]
    fn what_pingone_asks_for_is_waited_for() {
        let asked = Duration::from_secs(40);
        let Verdict::Retry(wait) = decide(1, false, 900, RetryHint::After(asked)) else {
            panic!("a retry was expected");
        };
        assert!(wait >= asked);
    }

    #[test]
    fn a_limit_or_a_refused_credential_costs_nothing_however_often() {
        assert_eq!(decide(10, false, 900, RetryHint::Hold(None)), Verdict::Spare);
        assert_eq!(decide(10, false, 900, RetryHint::Credential), Verdict::Spare);
    }

    #[test]
    fn a_probe_costs_nothing_however_often_unless_it_settles_the_job() {
        let standing =
            Standing { attempts: 10, cancel_requested: false, expires_in: Duration::from_secs(900) };
        let probe = |hint| {
            judge(standing, &failure(hint), true, &RetryPolicy::default(), &mut fastrand::Rng::with_seed(7))
        };
        assert!(matches!(probe(RetryHint::Backoff), Verdict::Postpone(_)));
        assert_eq!(probe(RetryHint::Never), Verdict::Fail);
    }

    #[test]
    fn no_wait_outlasts_the_job() {
        assert_eq!(decide(9, false, 1, RetryHint::Backoff), Verdict::Retry(Duration::from_secs(1)));
        assert_eq!(decide(9, false, 0, RetryHint::Backoff), Verdict::Expire);
        assert_eq!(decide(9, false, 0, RetryHint::Hold(None)), Verdict::Expire);
    }

    #[test]
    fn a_waiting_cancel_ends_what_would_go_on() {
        assert_eq!(decide(1, true, 900, RetryHint::Backoff), Verdict::Cancel);
        assert_eq!(decide(1, true, 900, RetryHint::Credential), Verdict::Cancel);
    }
}
