//! What each answer of PingOne means: one table, a test for each row. Pure: the clock is handed in.

use reqwest::StatusCode;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    device::{DeviceRef, Devices, Snapshot},
    job::{Failure, Reason, RetryHint},
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
        _ => refusal(response, &Said::read(response.whole_body()), now),
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
            format!("PingOne cannot be reached, nothing was sent: {cause}"),
        ),
        Lost::Broken(cause) => failure(
            Reason::Timeout,
            RetryHint::Backoff,
            format!("The connection broke before PingOne answered; {unknown}: {cause}"),
        ),
        Lost::Late => failure(
            Reason::Timeout,
            RetryHint::Backoff,
            format!("PingOne did not answer within the attempt's deadline; {unknown}"),
        ),
    }
}

/// A failure of which nothing else is known.
pub(crate) fn failure(reason: Reason, hint: RetryHint, message: impl Into<String>) -> Failure {
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
            let what = format!("an answer too large to be a {}", call.wants());
            return Err(not_understood(status, &what));
        }
        Body::CutOff => return Err(not_understood(status, "an answer that was cut off")),
        Body::Late => {
            let message = format!(
                "PingOne answered {} but not all of it came within the attempt's deadline",
                status.as_u16()
            );
            return Err(Box::new(failure(Reason::Timeout, RetryHint::Backoff, message)));
        }
    };
    if body.is_empty() && call == Call::Unblock {
        return Ok(Snapshot::unblocked(device, now));
    }
    let document: Value =
        serde_json::from_slice(body).map_err(|_| not_understood(status, "an answer that is not JSON"))?;
    let said = Said::of(&document);
    if said.is_unexpected() {
        return Err(Box::new(unavailable(response, &said, now)));
    }
    let Value::Object(raw) = document else {
        return Err(not_understood(status, &format!("JSON that is no {}", call.wants())));
    };
    let snapshot = Snapshot::new(raw, now);
    if call == Call::List {
        return listed(device, snapshot, status);
    }
    if !snapshot.describes(device) {
        let message =
            format!("PingOne answered {} with another device than the one asked for", status.as_u16());
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
    let never = |what: &str| {
        let message = format!("PingOne answered {} with {what}", status.as_u16());
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

fn not_understood(status: StatusCode, what: &str) -> Box<Failure> {
    let message = format!("PingOne answered {} with {what}", status.as_u16());
    Box::new(failure(Reason::Protocol, RetryHint::BackoffFew, message))
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

fn explained(reason: Reason, hint: RetryHint, what: &str, status: StatusCode, said: &Said) -> Failure {
    Failure {
        pingone_code: said.code.clone(),
        pingone_id: said.id.clone(),
        ..failure(reason, hint, said.sentence(what, status))
    }
}

#[cfg(test)]
mod tests;
