//! What a person can do next, by reason: one sentence each. Unknown reasons get none rather than a wrong one.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::error::printed;

pub(super) const FOR_NO_SERVER: &str =
    "see that it runs and --server or UNBLOCK_SERVER names it; `pingone-unblock serve` starts one";
pub(super) const FOR_NO_ANSWER: &str =
    "try again, for `unblock` with the same --request-id; --timeout gives it longer";

/// What to do about a refused call.
pub(super) fn for_status(status: &Status) -> Option<String> {
    let given = status.get_error_details();
    let reason = given.error_info().map(|info| info.reason.as_str()).unwrap_or_default();
    if let Some(wait) = given.retry_info().and_then(|retry| retry.retry_delay) {
        return Some(format!("try again in {}; for `unblock` with the same --request-id", printed(wait)));
    }
    by_reason(reason).or_else(|| by_code(status.code())).map(str::to_owned)
}

/// What to do about a job that ended so.
pub(super) fn for_job(reason: &str) -> &'static str {
    match reason {
        "UPSTREAM_NOT_FOUND" => "check the three ids: PingOne knows no such device",
        "UPSTREAM_FORBIDDEN" => {
            "the server's worker application needs a role in PingOne that covers this user"
        }
        "UPSTREAM_REJECTED" => "PingOne refuses the request as it is; the same again would end the same",
        "UPSTREAM_UNAVAILABLE" | "UPSTREAM_TIMEOUT" | "UPSTREAM_RATE_LIMITED" => {
            "once PingOne is well again, give the job new attempts with `job retry`"
        }
        "UPSTREAM_CREDENTIAL_REFUSED" => {
            "whoever runs the server must renew PingOne's credential; then `job retry`"
        }
        "UPSTREAM_PROTOCOL" => "tell whoever runs the server: PingOne's answer was not understood",
        "NO_BLOCKED_DEVICE" => "nothing: the user has no blocked device",
        "DEVICE_REBLOCKED" => {
            "somebody blocked the device anew after this request: ask why before you unblock it"
        }
        _ => "`job get` shows every attempt",
    }
}

/// Why a row ended so, for whoever helps its user; said where the server has no sentence.
pub(super) fn for_target(reason: &str) -> &'static str {
    match reason {
        "UPSTREAM_NOT_FOUND" => "PingOne knows no such device.",
        "UPSTREAM_FORBIDDEN" => "PingOne does not let this service unblock the user's devices.",
        "UPSTREAM_REJECTED" => "PingOne refused the request.",
        "UPSTREAM_UNAVAILABLE" | "UPSTREAM_TIMEOUT" => "PingOne did not answer well; try again.",
        "DEVICE_REBLOCKED" => "Somebody blocked the device anew after this was asked for.",
        "NO_BLOCKED_DEVICE" => "The user has no blocked device.",
        _ => "It failed; whoever runs the server can look up the job.",
    }
}

fn by_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "FIELD_INVALID" => "correct the fields above",
        "REQUEST_ID_REUSED" => {
            "this request id belongs to another request: leave --request-id out for a new one"
        }
        "CREDENTIALS_MISSING" => "give a token with --token-file or UNBLOCK_TOKEN",
        "CREDENTIALS_INVALID" | "CREDENTIALS_EXPIRED" => "get a fresh token and try again",
        "PERMISSION_MISSING" => {
            "check the ids, then ask for the right: what does not exist for you is refused in the same words"
        }
        "ENVIRONMENT_NOT_SERVED" => {
            "check the environment id, or add the environment to the server's configuration"
        }
        "JOB_NOT_FOUND" => "find it with `job list --environment ENV`",
        "DEVICE_NEVER_SEEN" => "unblock it once, or ask PingOne: this server has not heard of it",
        "UPSTREAM_NOT_FOUND" => "check the ids: PingOne knows no such user",
        "UPSTREAM_FORBIDDEN" => {
            "the server's worker application needs a role in PingOne that covers this user"
        }
        "BATCH_NOT_FOUND" => "find it with `batch list ENV`",
        "BATCH_STATE_CONFLICT" => "see how the batch stands with `batch get`",
        "BATCH_ID_REUSED" => {
            "this id belongs to a batch with other options: leave --batch-id out, or give another"
        }
        "UPLOAD_SUPERSEDED" => "the same upload runs elsewhere: let it, and look with `batch watch`",
        "COUNT_MISMATCH" | "OFFSET_CONFLICT" | "OFFSET_GAP" => {
            "the batch was made from another file: leave --batch-id out, or give another"
        }
        "JOB_STATE_CONFLICT" => "see how the job stands with `job get`",
        "INTERNAL" => "tell whoever runs the server, with the trace id if there is one",
        _ => return None,
    })
}

const fn by_code(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some("give a token with --token-file or UNBLOCK_TOKEN"),
        Code::Unavailable | Code::DeadlineExceeded => Some(FOR_NO_ANSWER),
        Code::Unimplemented => {
            Some("check --server: what answers there is not this service, or an older one")
        }
        _ => None,
    }
}
