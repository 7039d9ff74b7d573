//! The one table from what went wrong to what a caller is told. Fixed sentences; internal text goes to the log.

use std::{collections::HashMap, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    device::EnvironmentId,
    engine::SubmitError,
    job::{JobId, OverQuota, Reason},
    store::StoreError,
    telemetry,
};

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "pingone-unblock";

/// Details over 16 KiB hang some clients; this many violations stay far below.
const VIOLATIONS_AT_MOST: usize = 20;
const RETRY_SOON: Duration = Duration::from_secs(1);
/// A full queue takes its time.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(10);

/// `ErrorInfo.reason`: why a call was refused. The names are part of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorReason {
    /// Fields are wrong; all of them are named.
    FieldInvalid,
    /// The page token is of another listing, or none at all.
    PageTokenInvalid,
    /// There is no such RPC.
    MethodUnknown,
    /// The message is larger than 4 MiB.
    MessageTooLarge,
    /// The deadline passed before the answer was there.
    DeadlinePassed,
    /// The request id stands for another request.
    RequestIdReused,
    /// The batch id stands for another batch.
    BatchIdReused,
    /// A row was recorded before, and otherwise.
    OffsetConflict,
    /// Rows before these are missing.
    OffsetGap,
    /// The seal counts other rows than were recorded.
    CountMismatch,
    /// A newer stream writes this batch.
    UploadSuperseded,
    /// There is no such job.
    JobNotFound,
    /// There is no such batch.
    BatchNotFound,
    /// PingOne never described this device to this service.
    DeviceNeverSeen,
    /// This service does not send for the environment.
    EnvironmentNotServed,
    /// The job's state does not allow it.
    JobStateConflict,
    /// The batch's state does not allow it.
    BatchStateConflict,
    /// The call proves nobody.
    CredentialsMissing,
    /// What the call brings as a proof proves nothing.
    CredentialsInvalid,
    /// What the call brings as a proof was good once.
    CredentialsExpired,
    /// The caller may not do this, or not there; also said of what does not exist for it.
    PermissionMissing,
    /// The caller has had as many devices unblocked as it may.
    CallerQuotaExceeded,
    /// The device was unblocked as often as it may be.
    DeviceQuotaExceeded,
    /// The caller calls more often than it may.
    CallerRateLimited,
    /// The caller has as many streams open as it may.
    StreamLimit,
    /// Too many calls at once.
    QueueFull,
    /// Postgres is not available.
    StoreUnavailable,
    /// This replica stops.
    Draining,
    /// The keys that tokens are checked with could not be had.
    AuthKeysUnavailable,
    /// PingOne did not give what the call is for.
    Upstream(Reason),
    /// A defect; the log has it.
    Internal,
}

impl ErrorReason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 38] = [
        Self::FieldInvalid,
        Self::PageTokenInvalid,
        Self::MethodUnknown,
        Self::MessageTooLarge,
        Self::DeadlinePassed,
        Self::RequestIdReused,
        Self::BatchIdReused,
        Self::OffsetConflict,
        Self::OffsetGap,
        Self::CountMismatch,
        Self::UploadSuperseded,
        Self::JobNotFound,
        Self::BatchNotFound,
        Self::DeviceNeverSeen,
        Self::EnvironmentNotServed,
        Self::JobStateConflict,
        Self::BatchStateConflict,
        Self::CredentialsMissing,
        Self::CredentialsInvalid,
        Self::CredentialsExpired,
        Self::PermissionMissing,
        Self::CallerQuotaExceeded,
        Self::DeviceQuotaExceeded,
        Self::CallerRateLimited,
        Self::StreamLimit,
        Self::QueueFull,
        Self::StoreUnavailable,
        Self::Draining,
        Self::AuthKeysUnavailable,
        Self::Upstream(Reason::NotFound),
        Self::Upstream(Reason::Forbidden),
        Self::Upstream(Reason::Rejected),
        Self::Upstream(Reason::Unavailable),
        Self::Upstream(Reason::Timeout),
        Self::Upstream(Reason::RateLimited),
        Self::Upstream(Reason::CredentialRefused),
        Self::Upstream(Reason::Protocol),
        Self::Internal,
    ];

    /// The name in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FieldInvalid => "FIELD_INVALID",
            Self::PageTokenInvalid => "PAGE_TOKEN_INVALID",
            Self::MethodUnknown => "METHOD_UNKNOWN",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::DeadlinePassed => "DEADLINE_PASSED",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::BatchIdReused => "BATCH_ID_REUSED",
            Self::OffsetConflict => "OFFSET_CONFLICT",
            Self::OffsetGap => "OFFSET_GAP",
            Self::CountMismatch => "COUNT_MISMATCH",
            Self::UploadSuperseded => "UPLOAD_SUPERSEDED",
            Self::JobNotFound => "JOB_NOT_FOUND",
            Self::BatchNotFound => "BATCH_NOT_FOUND",
            Self::DeviceNeverSeen => "DEVICE_NEVER_SEEN",
            Self::EnvironmentNotServed => "ENVIRONMENT_NOT_SERVED",
            Self::JobStateConflict => "JOB_STATE_CONFLICT",
            Self::BatchStateConflict => "BATCH_STATE_CONFLICT",
            Self::CredentialsMissing => "CREDENTIALS_MISSING",
            Self::CredentialsInvalid => "CREDENTIALS_INVALID",
            Self::CredentialsExpired => "CREDENTIALS_EXPIRED",
            Self::PermissionMissing => "PERMISSION_MISSING",
            Self::CallerQuotaExceeded => "CALLER_QUOTA_EXCEEDED",
            Self::DeviceQuotaExceeded => "DEVICE_QUOTA_EXCEEDED",
            Self::CallerRateLimited => "CALLER_RATE_LIMITED",
            Self::StreamLimit => "STREAM_LIMIT",
            Self::QueueFull => "QUEUE_FULL",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::Draining => "DRAINING",
            Self::AuthKeysUnavailable => "AUTH_KEYS_UNAVAILABLE",
            Self::Upstream(reason) => reason.name(),
            Self::Internal => "INTERNAL",
        }
    }

    /// The gRPC code it comes with.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::FieldInvalid | Self::PageTokenInvalid | Self::RequestIdReused | Self::BatchIdReused => {
                Code::InvalidArgument
            }
            Self::OffsetGap => Code::OutOfRange,
            Self::UploadSuperseded => Code::Aborted,
            Self::MethodUnknown => Code::Unimplemented,
            Self::MessageTooLarge
            | Self::CallerQuotaExceeded
            | Self::DeviceQuotaExceeded
            | Self::CallerRateLimited
            | Self::StreamLimit
            | Self::QueueFull => Code::ResourceExhausted,
            Self::CredentialsMissing | Self::CredentialsInvalid | Self::CredentialsExpired => {
                Code::Unauthenticated
            }
            Self::PermissionMissing => Code::PermissionDenied,
            Self::DeadlinePassed => Code::DeadlineExceeded,
            Self::JobNotFound
            | Self::BatchNotFound
            | Self::DeviceNeverSeen
            | Self::Upstream(Reason::NotFound) => Code::NotFound,
            Self::EnvironmentNotServed
            | Self::JobStateConflict
            | Self::BatchStateConflict
            | Self::OffsetConflict
            | Self::CountMismatch
            | Self::Upstream(Reason::Forbidden | Reason::Reblocked | Reason::NoBlockedDevice) => {
                Code::FailedPrecondition
            }
            Self::StoreUnavailable
            | Self::Draining
            | Self::AuthKeysUnavailable
            | Self::Upstream(
                Reason::Rejected
                | Reason::Unavailable
                | Reason::Timeout
                | Reason::RateLimited
                | Reason::CredentialRefused
                | Reason::Protocol,
            ) => Code::Unavailable,
            Self::Internal => Code::Internal,
        }
    }

    /// Whether and how the same call may be made again, for people.
    #[must_use]
    pub const fn again(self) -> &'static str {
        match self {
            Self::DeadlinePassed => "yes, with the same request_id",
            Self::OffsetGap => "no: from the next_offset that the batch says",
            Self::CredentialsMissing | Self::CredentialsInvalid | Self::CredentialsExpired => {
                "only with other credentials, such as a fresh token"
            }
            Self::StoreUnavailable
            | Self::Draining
            | Self::AuthKeysUnavailable
            | Self::CallerRateLimited
            | Self::QueueFull => "yes, with the same request_id, after RetryInfo",
            Self::StreamLimit => "yes, after RetryInfo",
            Self::Upstream(_) if matches!(self.code(), Code::Unavailable) => "yes, after RetryInfo",
            _ => "no",
        }
    }

    const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::StoreUnavailable
            | Self::Draining
            | Self::AuthKeysUnavailable
            | Self::CallerRateLimited
            | Self::StreamLimit
            | Self::QueueFull => Some(RETRY_SOON),
            Self::Upstream(_) if matches!(self.code(), Code::Unavailable) => Some(RETRY_SOON),
            _ => None,
        }
    }

    /// The status that says so in `sentence`.
    pub(super) fn status(self, sentence: impl fmt::Display) -> Status {
        self.with(sentence, ErrorDetails::new())
    }

    /// The status that says so, and that another try is worth it after `wait`.
    pub(super) fn waiting(self, sentence: impl fmt::Display, wait: Duration) -> Status {
        let details = ErrorDetails::with_retry_info(Some(wait));
        self.with(sentence, details)
    }

    fn with(self, sentence: impl fmt::Display, mut details: ErrorDetails) -> Status {
        if details.error_info().is_none() {
            details.set_error_info(self.name(), DOMAIN, HashMap::new());
        }
        // By which whoever runs this service finds the call again.
        if let Some(trace_id) = telemetry::trace_id() {
            details.set_request_info(trace_id, "");
        }
        if let Some(wait) = self.retry_after().filter(|_| details.retry_info().is_none()) {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(self.code(), sentence.to_string(), details)
    }
}

/// All wrong fields at once, each with its remedy.
pub(super) fn fields_invalid(violations: Vec<FieldViolation>) -> Status {
    let mut violations = violations;
    violations.truncate(VIOLATIONS_AT_MOST);
    let named: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let sentence = format!("wrong: {}", named.join(", "));
    ErrorReason::FieldInvalid.with(sentence, ErrorDetails::with_bad_request(violations))
}

/// The request id stands for another request: names the field that differs.
pub(super) fn request_id_reused(field: &str) -> Status {
    let violation = FieldViolation::new(field, "differs from the request that this request_id stands for");
    ErrorReason::RequestIdReused.with(
        format!("this request_id stands for an earlier request with another {field}: take a new request_id"),
        ErrorDetails::with_bad_request(vec![violation]),
    )
}

pub(super) fn not_served(environment: EnvironmentId) -> Status {
    ErrorReason::EnvironmentNotServed.status(format!(
        "this service does not send for environment {environment}: name one of those it is configured for"
    ))
}

pub(super) fn store(error: &StoreError) -> Status {
    match error {
        StoreError::Unavailable(_) => {
            tracing::warn!(%error, "a call met no Postgres");
            ErrorReason::StoreUnavailable
                .status("the database is not available: try again with the same request_id")
        }
        // It is in the log already, once a minute.
        StoreError::Trail(_) => ErrorReason::StoreUnavailable.status(
            "the audit trail cannot be written, so nothing was done: try again with the same request_id",
        ),
        StoreError::Refused(_)
        | StoreError::Corrupt(_)
        | StoreError::Sealed(_)
        | StoreError::Address(_)
        | StoreError::Migration(_)
        | StoreError::SchemaOlder { .. }
        | StoreError::SchemaNewer { .. }
        | StoreError::Lanes { .. } => internal(error),
    }
}

pub(super) fn submit(error: &SubmitError) -> Status {
    match error {
        SubmitError::Store(error) => store(error),
        SubmitError::QueueFull { .. } => {
            ErrorReason::QueueFull.waiting(format!("{error}: try again after RetryInfo"), RETRY_WHEN_FULL)
        }
        SubmitError::OverQuota(over) => over_quota(*over).1,
        SubmitError::Stopped => draining(),
    }
}

/// Which bound there is no room in, how much of it there is, and when there will be room.
pub(super) fn over_quota(over: OverQuota) -> (ErrorReason, Status) {
    let reason = match over {
        OverQuota::Device { .. } => ErrorReason::DeviceQuotaExceeded,
        OverQuota::Hour { .. } | OverQuota::Day { .. } | OverQuota::Rows { .. } => {
            ErrorReason::CallerQuotaExceeded
        }
    };
    (reason, reason.status(over))
}

/// PingOne did not give what was asked for. Names the job that asked, whose attempts tell more.
pub(super) fn upstream(reason: Reason, sentence: impl fmt::Display, job: JobId) -> Status {
    let more = HashMap::from([("job_id".to_owned(), job.to_string())]);
    let reason = ErrorReason::Upstream(reason);
    reason.with(sentence, ErrorDetails::with_error_info(reason.name(), DOMAIN, more))
}

pub(super) fn draining() -> Status {
    ErrorReason::Draining.status("this replica stops: try again, another will answer")
}

pub(super) fn internal(error: &dyn fmt::Display) -> Status {
    tracing::error!(%error, "a call met a defect");
    ErrorReason::Internal.status("an internal error; the log of this service has more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_names_its_reason_and_what_may_be_tried_again_says_when() {
        for reason in ErrorReason::ALL {
            let status = reason.status("a sentence");
            let details = status.get_error_details();
            let info = details.error_info().map(|info| (info.reason.as_str(), info.domain.as_str()));
            assert_eq!(info, Some((reason.name(), DOMAIN)));
            assert_eq!(details.retry_info().is_some(), reason.again().contains("RetryInfo"), "{reason:?}");
        }
    }

    #[test]
    fn a_bound_is_refused_by_one_name_in_a_call_and_in_a_row() {
        let over = OverQuota::Rows { most: 1 };
        let device = OverQuota::Device { most: 1, within: RETRY_SOON, frees_at: None };
        for over in [over, device] {
            let (_, status) = over_quota(over);
            let details = status.get_error_details();
            assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(over.reason()));
            assert_eq!(status.message(), over.to_string());
        }
    }

    #[test]
    fn details_stay_small_whatever_is_wrong() {
        let violations =
            (0..500).map(|i| FieldViolation::new(format!("field_{i}"), "x".repeat(80))).collect();
        assert!(fields_invalid(violations).details().len() < 4096);
    }
}
