//! Why an attempt failed, and whether it is worth another.

use std::{fmt, time::Duration};

use crate::redact::Redacted;

/// Why an attempt failed and, where it was the last, why the job did. The names are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// 404: no such environment, user or device.
    NotFound,
    /// 403 about this target, not about the credential.
    Forbidden,
    /// PingOne refused the request: 400, 405, 409, 415, 422.
    Rejected,
    /// 5xx, or no connection.
    Unavailable,
    /// No answer after bytes were sent: the effect is unknown.
    Timeout,
    /// 429.
    RateLimited,
    /// The token endpoint refused the credential, or PingOne a fresh token.
    CredentialRefused,
    /// Not understood: not JSON, too large, another device's id, a redirect.
    Protocol,
    /// The device was blocked anew after the request was made: left alone on purpose.
    Reblocked,
    /// Of a user whose devices were looked up for a batch, none is blocked.
    NoBlockedDevice,
}

impl Reason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 10] = [
        Self::NotFound,
        Self::Forbidden,
        Self::Rejected,
        Self::Unavailable,
        Self::Timeout,
        Self::RateLimited,
        Self::CredentialRefused,
        Self::Protocol,
        Self::Reblocked,
        Self::NoBlockedDevice,
    ];

    /// The name in the contract (`Job.error.reason`) and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotFound => "UPSTREAM_NOT_FOUND",
            Self::Forbidden => "UPSTREAM_FORBIDDEN",
            Self::Rejected => "UPSTREAM_REJECTED",
            Self::Unavailable => "UPSTREAM_UNAVAILABLE",
            Self::Timeout => "UPSTREAM_TIMEOUT",
            Self::RateLimited => "UPSTREAM_RATE_LIMITED",
            Self::CredentialRefused => "UPSTREAM_CREDENTIAL_REFUSED",
            Self::Protocol => "UPSTREAM_PROTOCOL",
            Self::Reblocked => "DEVICE_REBLOCKED",
            Self::NoBlockedDevice => "NO_BLOCKED_DEVICE",
        }
    }

    /// The reason of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether, and when, the same request may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryHint {
    /// It would fail again.
    Never,
    /// After the policy's wait.
    Backoff,
    /// After the policy's wait, but only a few times: the answer was not understood.
    BackoffFew,
    /// After the policy's wait, and not before this long from now.
    After(Duration),
    /// The whole environment waits, this long where PingOne said so. Costs the job no attempt.
    Hold(Option<Duration>),
    /// The environment's credential is refused; the environment waits. Costs the job no attempt.
    Credential,
}

/// An attempt that did not end the job well. Carries no secret and no contact: it is stored, logged and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What happened, in the contract's words.
    pub reason: Reason,
    /// What happened, for people: one sentence.
    pub message: Redacted,
    /// Whether to try again.
    pub hint: RetryHint,
    /// PingOne's status, where it answered.
    pub http_status: Option<u16>,
    /// PingOne's error code, such as `NOT_FOUND`.
    pub pingone_code: Option<String>,
    /// PingOne's log identifier of the error, to give to its support.
    pub pingone_id: Option<String>,
    /// The `Correlation-Id` of the answer.
    pub correlation_id: Option<String>,
}
