//! The outermost layer: measures every call and gives it a span, by OpenTelemetry's conventions for RPC: streams to their end,
//! refusals by their reason.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use prost::Message as _;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;
use tower::Service;
use tracing::{Instrument as _, Span};

use crate::{
    proto,
    telemetry::{
        metrics,
        metrics::{Call, Method},
        spans::{self, code_name, is_fault},
    },
};

/// What a caller made up has one name for all: or anybody could fill the collector.
const UNKNOWN: &str = "_OTHER";

/// The layer around whatever answers calls.
#[derive(Debug, Clone)]
pub(super) struct MeasureLayer<S> {
    inner: S,
    methods: Arc<HashMap<String, Arc<Method>>>,
    unknown: Arc<Method>,
    server: SocketAddr,
}

impl<S> MeasureLayer<S> {
    pub(super) fn new(inner: S, server: SocketAddr) -> Self {
        let calls = &metrics().calls;
        let methods = methods().into_iter().map(|name| {
            let method = calls.method(&name);
            (name, method)
        });
        Self { inner, methods: Arc::new(methods.collect()), unknown: calls.method(UNKNOWN), server }
    }
}

/// `package.Service/Method` of everything that is served.
fn methods() -> Vec<String> {
    let files = [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = Vec::new();
    for set in files.into_iter().filter_map(|bytes| prost_types::FileDescriptorSet::decode(bytes).ok()) {
        for file in set.file {
            for service in &file.service {
                let named = service
                    .method
                    .iter()
                    .map(|method| format!("{}.{}/{}", file.package(), service.name(), method.name()));
                methods.extend(named);
            }
        }
    }
    methods
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
        let path = request.uri().path().trim_start_matches('/');
        let method = self.methods.get(path).unwrap_or(&self.unknown);
        let span = spans::call(&method.name(), request.headers(), self.server);
        let call = Some(metrics().calls.began(method));
        let measured = Measured { call, began: Instant::now(), span: span.clone() };
        let answer = span.in_scope(|| self.inner.call(request)).instrument(span.clone());
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
    span: Span,
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
            metrics().calls.ended(&call, code_name(code), is_fault(code), reason, after);
            spans::answered(&self.span, code);
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
        let _entered = self.measured.span.clone().entered();
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.measured.end(trailers);
                }
            }
            Some(Err(status)) => self.measured.close(status.code(), None),
            None => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_there_are_have_their_names_and_no_others() {
        let methods = methods();
        for known in [
            "pingone.device.v1.DeviceService/Unblock",
            "pingone.device.v1.DeviceService/BulkUnblock",
            "grpc.health.v1.Health/Check",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(methods.iter().any(|name| **name == *known), "{known}");
        }
        for unknown in ["pingone.device.v1.DeviceService/Nonsense", "", "favicon.ico"] {
            assert!(methods.iter().all(|name| **name != *unknown), "{unknown}");
        }
    }

    #[test]
    fn every_status_has_its_name() {
        for number in 0..=16 {
            let code = Code::from_i32(number);
            assert_eq!(code_name(code).replace('_', "").to_lowercase(), format!("{code:?}").to_lowercase());
        }
    }
}
