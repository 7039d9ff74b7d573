//! The outermost layer: every status that leaves has an ErrorInfo, also tonic's own (unknown method, message too large, message not
//! understood).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::status::ErrorReason;

/// The layer around all services and the deadline.
#[derive(Debug, Clone)]
pub(super) struct NormaliseLayer<S>(pub(super) S);

impl<S> Service<Request<Body>> for NormaliseLayer<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            if normalise(response.headers_mut()) {
                return Ok(response);
            }
            Ok(response.map(|inner| Body::new(Normalised { inner })))
        })
    }
}

/// Completes the status in `headers`; false when there is none.
fn normalise(headers: &mut HeaderMap) -> bool {
    let Some(status) = Status::from_header_map(headers) else { return false };
    if status.code() == Code::Ok || headers.contains_key("grpc-status-details-bin") {
        return true;
    }
    let complete = complete(&status);
    headers.remove("grpc-message");
    // Only fails for a message that is no header value; then the status stands as it was.
    if let Err(error) = complete.add_header(headers) {
        tracing::warn!(%error, "a status could not be completed");
    }
    true
}

/// What a status without details is in the contract's words.
fn complete(status: &Status) -> Status {
    let said = status.message();
    match status.code() {
        Code::Unimplemented if said.is_empty() => {
            ErrorReason::MethodUnknown.status("there is no such method: ask reflection for those there are")
        }
        Code::Unimplemented => ErrorReason::MethodUnknown.status(said),
        // tonic's way to say that a message is too large.
        Code::OutOfRange | Code::ResourceExhausted => {
            ErrorReason::MessageTooLarge.status(format!("{said}: send less than 4 MiB in one message"))
        }
        // tonic's way to say that a message is not protobuf, or not this message.
        Code::Internal if said.contains("decode") => {
            ErrorReason::FieldInvalid.status("the message could not be decoded: build it from this contract")
        }
        Code::NotFound => {
            ErrorReason::MethodUnknown.status(format!("{said}: ask reflection for what there is"))
        }
        Code::Cancelled | Code::DeadlineExceeded => super::deadline::passed(),
        Code::Unavailable => super::status::draining(),
        code => super::status::internal(&format!("{code:?}: {said}")),
    }
}

/// A body whose trailers are completed.
struct Normalised {
    inner: Body,
}

impl http_body::Body for Normalised {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        let frame = match frame.into_trailers() {
            Ok(mut trailers) => {
                normalise(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
