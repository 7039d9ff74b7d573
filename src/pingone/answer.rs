//! What each answer of PingOne means: one table, a test for each row. Pure: the clock is handed in.

use reqwest::StatusCode;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    device::{DeviceRef, Devices, Snapshot},
    job::{Failure, Reason, RetryHint},
    redact::Redacted,
};

use super::{
    exchange::{Body, Lost, Response},
    retry_after::retry_after,
    said::Said,
};

/// Which request was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// The POST that unblocks.
    Unblock,
    /// The GET that reads, and so changes nothing.
    Read,
    /// The GET that lists a user's devices, and changes nothing either.
    List,
}

impl Call {
    const fn wants(self) -> &'static str {
        match self {
            Self::Unblock | Self::Read => "device",
            Self::List => "list of devices",
        }
    }
}

/// What came of a request for `device`: what PingOne described `now`, or why not.
pub(crate) fn classify(
    call: Call,
    device: &DeviceRef,
    response: &Response,
    now: OffsetDateTime,
) -> Result<Snapshot, Box<Failure>> {
    let failure = match response.status.as_u16() {
        200..=299 => match success(call, device, response, now) {
            Ok(snapshot) => return Ok(snapshot),
            Err(failure) => *failure,
        },
        _ => {
            let said = response.document().map(|document| Said::of(&document)).unwrap_or_default();
            refusal(response, &said, now)
        }
    };
    Err(Box::new(Failure {
        http_status: Some(response.status.as_u16()),
        correlation_id: response.correlation_id(),
        ..failure
    }))
}

/// What came of a request without an answer.
pub(crate) fn lost(call: Call, lost: &Lost) -> Failure {
    let unknown = match call {
        Call::Unblock => "whether the device was unblocked is unknown",
        Call::Read | Call::List => "nothing was changed",
    };
    match lost {
        Lost::NotSent(cause) => failure(
            Reason::Unavailable,
            RetryHint::Backoff,
            Redacted::from("PingOne cannot be reached, nothing was sent: ").and(cause.clone()),
        ),
        Lost::Broken(cause) => failure(
            Reason::Timeout,
            RetryHint::Backoff,
            Redacted::from("The connection broke before PingOne answered; ")
                .and(unknown)
                .and(": ")
                .and(cause.clone()),
        ),
        Lost::Late => failure(
            Reason::Timeout,
            RetryHint::Backoff,
            Redacted::from("PingOne did not answer within the attempt's deadline; ").and(unknown),
        ),
    }
}

/// A failure of which nothing else is known.
pub(crate) fn failure(reason: Reason, hint: RetryHint, message: impl Into<Redacted>) -> Failure {
    Failure {
        reason,
        message: message.into(),
        hint,
        http_status: None,
        pingone_code: None,
        pingone_id: None,
        correlation_id: None,
    }
}

fn success(
    call: Call,
    device: &DeviceRef,
    response: &Response,
    now: OffsetDateTime,
) -> Result<Snapshot, Box<Failure>> {
    let status = response.status;
    let body = match &response.body {
        Body::Whole(bytes) => bytes.trim_ascii(),
        Body::TooLarge => {
            let what = Redacted::from("an answer too large to be a ").and(call.wants());
            return Err(not_understood(status, what));
        }
        Body::CutOff => return Err(not_understood(status, "an answer that was cut off")),
        Body::Late => {
            let message = answered(status).and(" but not all of it came within the attempt's deadline");
            return Err(Box::new(failure(Reason::Timeout, RetryHint::Backoff, message)));
        }
    };
    if body.is_empty() && call == Call::Unblock {
        return Ok(Snapshot::unblocked(device, now));
    }
    let document = response.document().ok_or_else(|| not_understood(status, "an answer that is not JSON"))?;
    let said = Said::of(&document);
    if said.is_unexpected() {
        return Err(Box::new(unavailable(response, &said, now)));
    }
    let Value::Object(raw) = document else {
        return Err(not_understood(status, Redacted::from("JSON that is no ").and(call.wants())));
    };
    let snapshot = Snapshot::new(raw, now);
    if call == Call::List {
        return listed(device, snapshot, status);
    }
    if !snapshot.describes(device) {
        let message = answered(status).and(" with another device than the one asked for");
        return Err(Box::new(failure(Reason::Protocol, RetryHint::Never, message)));
    }
    if call == Call::Unblock && snapshot.is_blocked() {
        return Err(not_understood(status, "a device that is still blocked"));
    }
    Ok(snapshot)
}

/// PingOne documents no pages for this list, and a user's devices fit into one. Should it have more all the same, half a list must
/// not be taken for the whole.
fn listed(asked: &DeviceRef, list: Snapshot, status: StatusCode) -> Result<Snapshot, Box<Failure>> {
    let never = |what: &'static str| {
        let message = answered(status).and(" with ").and(what);
        Err(Box::new(failure(Reason::Protocol, RetryHint::Never, message)))
    };
    let Some(devices) = Devices::of(&list) else {
        return Err(not_understood(status, "JSON that is no list of devices"));
    };
    if devices.goes_on() {
        return never("a list that goes on on another page, which this service does not read");
    }
    let theirs = |(id, device): &(_, Snapshot)| device.describes(&DeviceRef { device: *id, ..*asked });
    if !devices.iter().all(theirs) {
        return never("devices of another user than the one asked for");
    }
    Ok(list)
}

fn not_understood(status: StatusCode, what: impl Into<Redacted>) -> Box<Failure> {
    let message = answered(status).and(" with ").and(what);
    Box::new(failure(Reason::Protocol, RetryHint::BackoffFew, message))
}

fn answered(status: StatusCode) -> Redacted {
    Redacted::from("PingOne answered ").and(status.as_u16())
}

fn refusal(response: &Response, said: &Said, now: OffsetDateTime) -> Failure {
    let status = response.status;
    let (reason, hint, what) = match status.as_u16() {
        401 => (Reason::CredentialRefused, RetryHint::Credential, "PingOne does not accept the access token"),
        429 => (
            Reason::RateLimited,
            RetryHint::Hold(retry_after(&response.headers, now.into())),
            "PingOne's rate limit is reached",
        ),
        _ if said.is_unexpected() => return unavailable(response, said, now),
        408 | 500.. => return unavailable(response, said, now),
        403 => (Reason::Forbidden, RetryHint::Never, "PingOne does not allow this request"),
        404 => (Reason::NotFound, RetryHint::Never, "PingOne knows no such environment, user or device"),
        400..=499 => (Reason::Rejected, RetryHint::Never, "PingOne refused the request"),
        _ => (
            Reason::Protocol,
            RetryHint::Never,
            "PingOne sent the request elsewhere, where the token must not go",
        ),
    };
    explained(reason, hint, what, status, said)
}

fn unavailable(response: &Response, said: &Said, now: OffsetDateTime) -> Failure {
    let hint = retry_after(&response.headers, now.into()).map_or(RetryHint::Backoff, RetryHint::After);
    explained(Reason::Unavailable, hint, "PingOne cannot serve the request now", response.status, said)
}

fn explained(
    reason: Reason,
    hint: RetryHint,
    what: &'static str,
    status: StatusCode,
    said: &Said,
) -> Failure {
    Failure {
        pingone_code: said.code.clone().map(String::from),
        pingone_id: said.id.clone().map(String::from),
        ..failure(reason, hint, said.sentence(what, status))
    }
}

#[cfg(test)]
mod tests;
