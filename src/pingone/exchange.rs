//! One request, one bounded answer. Knows HTTP and the deadline, not what an answer means.

use std::error::Error;

use reqwest::{
    RequestBuilder, StatusCode,
    header::{HeaderMap, HeaderName},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};

use crate::{
    redact::{Name, Redacted},
    telemetry::{
        metrics::{End, Request, metrics},
        spans,
    },
};

const CORRELATION_ID: HeaderName = HeaderName::from_static("correlation-id");
/// More than any error that says something; more of it is not read.
const LARGEST_ERROR: usize = 64 * 1024;

/// An answer, as far as it came. It has no `Debug`: nothing of it is fit to be shown before it was read.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// The token or secret that was shown to whoever answered, and may be quoted back.
    pub(crate) shown: Vec<SecretString>,
}

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// Larger than allowed: not read.
    TooLarge,
    /// The connection broke within it.
    CutOff,
    /// The deadline passed within it.
    Late,
}

/// Why there is no answer at all.
#[derive(Debug)]
pub(crate) enum Lost {
    /// No connection, so not a byte was sent.
    NotSent(Redacted),
    /// The connection broke after bytes may have been sent.
    Broken(Redacted),
    /// The deadline passed after bytes may have been sent.
    Late,
}

impl Response {
    /// The id under which PingOne logged the request.
    pub(crate) fn correlation_id(&self) -> Option<String> {
        Name::of(self.headers.get(CORRELATION_ID)?.to_str().ok()?).map(String::from)
    }

    /// The body as JSON, without what was shown; nothing where it is none, or not all of it came.
    pub(crate) fn document(&self) -> Option<Value> {
        let Body::Whole(bytes) = &self.body else { return None };
        let mut document = serde_json::from_slice(bytes.trim_ascii()).ok()?;
        if may_quote(bytes, &self.shown) {
            take_out(&mut document, &self.shown);
        }
        Some(document)
    }
}

/// Whether a string in `body` may hold what was shown: without an escape in it, each stands there as it is.
fn may_quote(body: &[u8], shown: &[SecretString]) -> bool {
    let quotes = |text: &str| shown.iter().any(|secret| text.contains(secret.expose_secret()));
    body.contains(&b'\\') || std::str::from_utf8(body).map_or(true, quotes)
}

fn take_out(document: &mut Value, shown: &[SecretString]) {
    match document {
        Value::String(text) => {
            for secret in shown.iter().map(SecretString::expose_secret) {
                if text.contains(secret) {
                    *text = text.replace(secret, "[redacted]");
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| take_out(value, shown)),
        Value::Object(members) => {
            members.retain(|name, _| !shown.iter().any(|secret| name.contains(secret.expose_secret())));
            members.values_mut().for_each(|value| take_out(value, shown));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Sends `request`, which shows `shown`, and reads its answer, within `span`; never outlasts `deadline`. A success over `largest`
/// bytes is refused unread.
pub(crate) async fn exchange(
    request: RequestBuilder,
    kind: &Request,
    shown: Vec<SecretString>,
    largest: usize,
    deadline: Instant,
    span: Span,
) -> Result<Response, Lost> {
    let began = Instant::now();
    let exchanged = unmeasured(request, shown, largest, deadline).instrument(span.clone()).await;
    let end = match &exchanged {
        Ok(Response { body: Body::Whole(_) | Body::TooLarge, status, .. }) => End::Answered(status.as_u16()),
        Ok(Response { body: Body::CutOff, .. }) | Err(Lost::Broken(_)) => End::Lost("broken"),
        Ok(Response { body: Body::Late, .. }) | Err(Lost::Late) => End::Lost("timeout"),
        Err(Lost::NotSent(_)) => End::Lost("connect"),
    };
    metrics().requests.ended(kind, end, began.elapsed());
    spans::responded(&span, exchanged.as_ref().ok().map(|response| response.status.as_u16()), end);
    exchanged
}

async fn unmeasured(
    request: RequestBuilder,
    shown: Vec<SecretString>,
    largest: usize,
    deadline: Instant,
) -> Result<Response, Lost> {
    let mut response = match timeout_at(deadline, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.is_connect() => return Err(Lost::NotSent(cause(error))),
        Ok(Err(error)) => return Err(Lost::Broken(cause(error))),
        Err(_) => return Err(Lost::Late),
    };
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let largest = if status.is_success() { largest } else { LARGEST_ERROR };
    let body = timeout_at(deadline, read(response, largest)).await.unwrap_or(Body::Late);
    Ok(Response { status, headers, body, shown })
}

async fn read(mut response: reqwest::Response, largest: usize) -> Body {
    let announced = response.content_length().unwrap_or_default();
    if usize::try_from(announced).map_or(true, |length| length > largest) {
        return Body::TooLarge;
    }
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > largest => return Body::TooLarge,
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Body::Whole(bytes),
            Err(_) => return Body::CutOff,
        }
    }
}

/// What was at the bottom of it, such as `Connection refused`: the layers above only say that a request failed. Without the address,
/// which names user and device.
fn cause(error: reqwest::Error) -> Redacted {
    let error = error.without_url();
    let mut deepest: &dyn Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    Redacted::of(&deepest.to_string(), 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shown_is_taken_out_however_it_is_written() {
        for body in [
            r#"{"a":["x t0ken.y"]}"#,
            r#"{"a":["x t0ken\u002ey"]}"#,
            r#"{"a":["x t0ken.y"],"of t0ken.y":1}"#,
            r#"{"t0ken\u002ey":{},"a":["x t0ken.y"]}"#,
        ] {
            let response = Response {
                status: StatusCode::OK,
                headers: HeaderMap::new(),
                body: Body::Whole(body.into()),
                shown: vec![SecretString::from("t0ken.y")],
            };
            let document = response.document().unwrap_or_default();
            assert_eq!(document, serde_json::json!({ "a": ["x [redacted]"] }), "{body}");
        }
        assert!(!may_quote(br#"{"a":"other"}"#, &[SecretString::from("t0ken.y")]));
    }
}
