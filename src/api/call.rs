//! The outermost layer: the span of each call, from its first byte to its status, wherever that stands: in the head of the answer or
//! in the trailers behind its body.

use std::{
    collections::HashSet,
    net::SocketAddr,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use prost::Message as _;
use tonic::{Code, Status, body::Body};
use tower::Service;
use tracing::{Instrument as _, Span};

use crate::{proto, telemetry::spans};

/// What calls of no method are called: whoever sends them makes up names without end.
const OTHER: &str = "_OTHER";

/// The layer around all services, the deadline and the statuses.
#[derive(Debug, Clone)]
pub(super) struct CallLayer<S> {
    pub(super) inner: S,
    pub(super) server: SocketAddr,
}

impl<S> Service<Request<Body>> for CallLayer<S>
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
        let span = spans::call(method(request.uri().path()), request.headers(), self.server);
        if span.is_none() {
            return Box::pin(self.inner.call(request));
        }
        let mut call = Call { span, ended: false };
        let answer = call.span.in_scope(|| self.inner.call(request)).instrument(call.span.clone());
        Box::pin(async move {
            let response = answer.await?;
            call.read(response.headers());
            if call.ended {
                return Ok(response);
            }
            Ok(response.map(|inner| Body::new(Watched { inner, call })))
        })
    }
}

/// The name of the method at `path`: package, service and method.
fn method(path: &str) -> &'static str {
    static METHODS: LazyLock<HashSet<String>> = LazyLock::new(methods);
    METHODS.get(path.trim_start_matches('/')).map_or(OTHER, String::as_str)
}

fn methods() -> HashSet<String> {
    let described = [proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files = described.into_iter().filter_map(|set| prost_types::FileDescriptorSet::decode(set).ok());
    let mut methods = HashSet::from([
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned(),
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".to_owned(),
    ]);
    for file in files.flat_map(|set| set.file) {
        for service in &file.service {
            let named = |method: &prost_types::MethodDescriptorProto| {
                format!("{}.{}/{}", file.package(), service.name(), method.name())
            };
            methods.extend(service.method.iter().map(named));
        }
    }
    methods
}

/// A call under way. One that goes away before its status was cancelled by its caller.
struct Call {
    span: Span,
    ended: bool,
}

impl Call {
    /// Takes note of the status, where `headers` have one.
    fn read(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(status.code());
        }
    }

    fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            spans::answered(&self.span, code);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// A body whose trailers tell how the call ended.
struct Watched {
    inner: Body,
    call: Call,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let _entered = this.call.span.clone().entered();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.read(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => this.call.end(status.code()),
            // A body without trailers is none of gRPC.
            Poll::Ready(None) => this.call.end(Code::Unknown),
            Poll::Pending => {}
        }
        polled
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
    use crate::telemetry::spans::code_name;

    #[test]
    fn methods_there_are_have_their_names_and_no_others() {
        for known in [
            "/pingone.device.v1.DeviceService/Unblock",
            "/pingone.device.v1.DeviceService/BulkUnblock",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            assert_eq!(method(known), known.trim_start_matches('/'));
        }
        for unknown in ["/pingone.device.v1.DeviceService/Nonsense", "/", "", "/favicon.ico"] {
            assert_eq!(method(unknown), OTHER);
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
