//! One request, one bounded answer. Knows HTTP and the deadline, not what an answer means.

use std::error::Error;

use reqwest::{
    RequestBuilder, StatusCode,
    header::{HeaderMap, HeaderName},
};
use tokio::time::{Instant, timeout_at};

use super::redact::{name, redact};
use crate::telemetry::metrics::{End, Request, metrics};

const CORRELATION_ID: HeaderName = HeaderName::from_static("correlation-id");
/// More than any error that says something; more of it is not read.
const LARGEST_ERROR: usize = 64 * 1024;

/// An answer, as far as it came.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The body of an answer.
#[derive(Debug)]
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
    NotSent(String),
    /// The connection broke after bytes may have been sent.
    Broken(String),
    /// The deadline passed after bytes may have been sent.
    Late,
}

impl Response {
    /// The id under which PingOne logged the request.
    pub(crate) fn correlation_id(&self) -> Option<String> {
        name(self.headers.get(CORRELATION_ID)?.to_str().ok()?)
    }

    /// The body, where all of it came.
    pub(crate) fn whole_body(&self) -> &[u8] {
        match &self.body {
            Body::Whole(bytes) => bytes,
            Body::TooLarge | Body::CutOff | Body::Late => &[],
        }
    }
}

/// Sends `request` and reads its answer; never outlasts `deadline`. A success over `largest` bytes is refused unread.
pub(crate) async fn exchange(
    request: RequestBuilder,
    kind: &Request,
    largest: usize,
    deadline: Instant,
) -> Result<Response, Lost> {
    let began = Instant::now();
    let exchanged = unmeasured(request, largest, deadline).await;
    let end = match &exchanged {
        Ok(Response { body: Body::Whole(_) | Body::TooLarge, status, .. }) => End::Answered(status.as_u16()),
        Ok(Response { body: Body::CutOff, .. }) | Err(Lost::Broken(_)) => End::Lost("broken"),
        Ok(Response { body: Body::Late, .. }) | Err(Lost::Late) => End::Lost("timeout"),
        Err(Lost::NotSent(_)) => End::Lost("connect"),
    };
    metrics().requests.ended(kind, end, began.elapsed());
    exchanged
}

async fn unmeasured(request: RequestBuilder, largest: usize, deadline: Instant) -> Result<Response, Lost> {
    let mut response = match timeout_at(deadline, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.is_connect() => return Err(Lost::NotSent(cause(&error))),
        Ok(Err(error)) => return Err(Lost::Broken(cause(&error))),
        Err(_) => return Err(Lost::Late),
    };
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let largest = if status.is_success() { largest } else { LARGEST_ERROR };
    let body = timeout_at(deadline, read(response, largest)).await.unwrap_or(Body::Late);
    Ok(Response { status, headers, body })
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

/// What was at the bottom of it, such as `Connection refused`: the layers above only say that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let mut deepest: &dyn Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    redact(&deepest.to_string(), 200)
}
