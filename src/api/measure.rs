//! Measures every call, by OpenTelemetry's conventions for RPC: streams to their end, refusals by their reason.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::Service;

use super::method;
use crate::telemetry::{
    metrics,
    metrics::{Call, Method},
};

/// The layer around whatever answers calls.
#[derive(Debug, Clone)]
pub(super) struct MeasureLayer<S> {
    inner: S,
    /// One of them stands for all that a caller made up: or anybody could fill the collector.
    methods: Arc<HashMap<&'static str, Arc<Method>>>,
}

impl<S> MeasureLayer<S> {
    pub(super) fn new(inner: S) -> Self {
        let calls = &metrics().calls;
        let methods = method::known().map(|name| (name, calls.method(name)));
        Self { inner, methods: Arc::new(methods.collect()) }
    }
}

impl<S> Service<Request<Body>> for MeasureLayer<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = self.methods.get(method::method(request.uri().path()));
        let call = call.map(|method| metrics().calls.began(method));
        let measured = Measured { call, began: Instant::now() };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut measured = measured;
            let response = answer.await?;
            if measured.end(response.headers()) {
                return Ok(response);
            }
            Ok(response.map(|inner| Body::new(Watched { inner, measured })))
        })
    }
}

/// A call under way. A caller that goes away before its end has cancelled it.
struct Measured {
    call: Option<Call>,
    began: Instant,
}

impl Measured {
    /// Ends the call if `headers` hold its status.
    fn end(&mut self, headers: &HeaderMap) -> bool {
        if !headers.contains_key("grpc-status") {
            return false;
        }
        let Some(status) = Status::from_header_map(headers) else { return false };
        let reason = match status.code() {
            Code::Ok => None,
            _ => Some(status.get_details_error_info().map_or_else(|| "NONE".to_owned(), |info| info.reason)),
        };
        self.close(status.code(), reason);
        true
    }

    fn close(&mut self, code: Code, reason: Option<String>) {
        if let Some(call) = self.call.take() {
            let after = self.began.elapsed();
            metrics().calls.ended(&call, name(code), is_fault(code), reason, after);
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.close(Code::Cancelled, None);
    }
}

/// A body whose trailers end the call.
struct Watched {
    inner: Body,
    measured: Measured,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.measured.end(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// The codes that are the server's fault, by the convention.
pub(super) const fn is_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The code as gRPC writes it.
pub(super) const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
