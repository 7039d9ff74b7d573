//! How long a request may take to arrive. Who sends its body byte by byte holds a call, and what the call holds.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower::Service;

use super::{method, status::ErrorReason};

/// The layer around whatever reads requests. Uploads of many messages are not its business.
#[derive(Debug, Clone)]
pub(super) struct ArrivalLayer<S> {
    pub(super) inner: S,
    pub(super) limit: Duration,
}

impl<S> Service<Request<Body>> for ArrivalLayer<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if method::uploads(request.uri().path()) || http_body::Body::is_end_stream(request.body()) {
            return self.inner.call(request);
        }
        let ends = Box::pin(sleep_until(Instant::now() + self.limit));
        self.inner.call(request.map(|inner| Body::new(Arriving { inner, ends })))
    }
}

/// A body that has to be there in time.
struct Arriving {
    inner: Body,
    ends: Pin<Box<Sleep>>,
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        std::task::ready!(self.ends.as_mut().poll(cx));
        let late = "the request did not arrive in time: try again with the same request_id";
        Poll::Ready(Some(Err(ErrorReason::DeadlinePassed.status(late))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
