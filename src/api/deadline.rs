//! The caller's deadline. tonic would report one that passed as CANCELLED and does not watch a stream's body, so it never sees the
//! header: this layer takes it off, and answers for calls that do not answer in time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower::Service;

use super::status::ErrorReason;

pub(super) const NAME: &str = "grpc-timeout";

/// When the caller stops waiting. An extension of requests that have one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    /// The deadline of a call, if it has one.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Option<Instant> {
        request.extensions().get::<Self>().map(|deadline| deadline.0)
    }
}

pub(super) fn passed() -> Status {
    ErrorReason::DeadlinePassed
        .status("the deadline passed before the answer was there: try again with the same request_id")
}

/// The layer around all services.
#[derive(Debug, Clone)]
pub(super) struct DeadlineLayer<S>(pub(super) S);

impl<S> Service<Request<Body>> for DeadlineLayer<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let timeout = parse(request.headers());
        request.headers_mut().remove(NAME);
        let Some(timeout) = timeout else { return Box::pin(self.0.call(request)) };
        let deadline = Instant::now() + timeout;
        request.extensions_mut().insert(Deadline(deadline));
        let answer = self.0.call(request);
        Box::pin(async move {
            tokio::time::timeout_at(deadline, answer).await.unwrap_or_else(|_| Ok(passed().into_http()))
        })
    }
}

/// At most eight digits and a unit, as the gRPC protocol says; anything else is no deadline.
pub(super) fn parse(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(NAME)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let read = |text: &'static str| {
            parse(
                &[(NAME.parse().expect("a header's name"), HeaderValue::from_static(text))]
                    .into_iter()
                    .collect(),
            )
        };
        assert_eq!(read("200m"), Some(Duration::from_millis(200)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(read("1n"), Some(Duration::from_nanos(1)));
        for wrong in ["", "m", "1", "123456789m", "-1m", "1x", "1 m"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
