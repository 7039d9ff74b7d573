//! The gate in front of all services: who calls, and whether they may, before anything of the message is read.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body::Frame;
use tonic::{Status, body::Body};
use tower::Service;

use super::{
    method::{self, Method, Rule},
    permit::Permit,
    stand_ins::{Calls, Denial, Denials, StreamPermit, Streams},
    status::{self, ErrorReason},
};
use crate::{
    auth::{Authenticator, Identity, Peer, Policy, token::Kind},
    reload::Current,
    telemetry,
};

/// Who is let in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Finds out who calls.
    pub authenticator: Authenticator,
    /// What they may do.
    pub policy: Current<Policy>,
}

impl Admission {
    /// Everybody, for everything that `policy` allows `anonymous`.
    #[must_use]
    pub fn off(policy: Policy) -> Self {
        Self { authenticator: Authenticator::default(), policy: Current::fixed(policy) }
    }
}

/// The layer around the services.
#[derive(Debug, Clone)]
pub(super) struct Gate<S> {
    inner: S,
    guard: Arc<Guard>,
}

/// What the gate decides by.
#[derive(Debug)]
struct Guard {
    admission: Admission,
    calls: Calls,
    streams: Streams,
    denials: Denials,
}

impl<S> Gate<S> {
    pub(super) fn new(
        inner: S,
        admission: Admission,
        calls: Calls,
        streams: Streams,
        denials: Denials,
    ) -> Self {
        Self { inner, guard: Arc::new(Guard { admission, calls, streams, denials }) }
    }
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = method::find(request.uri().path());
        if method.is_some_and(|method| method.rule == Rule::Anybody) {
            return Box::pin(self.inner.call(request));
        }
        let guard = Arc::clone(&self.guard);
        let asking = Asking {
            authorization: request.headers().get(AUTHORIZATION).cloned(),
            peer: request.extensions().get::<Peer>().cloned(),
        };
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let (permit, stream) = match guard.admit(asking, method).await {
                Ok(admitted) => admitted,
                Err(refused) => return Ok(refused.into_http()),
            };
            request.extensions_mut().insert(permit);
            let answer = inner.call(request).await?;
            Ok(match stream {
                Some(stream) => answer.map(|inner| Body::new(Counted { inner, _stream: stream })),
                None => answer,
            })
        })
    }
}

/// What a request says of its caller.
struct Asking {
    authorization: Option<HeaderValue>,
    peer: Option<Peer>,
}

impl Guard {
    async fn admit(
        &self,
        Asking { authorization, peer }: Asking,
        method: Option<&'static Method>,
    ) -> Result<(Permit, Option<StreamPermit>), Status> {
        let authorization = authorization.as_ref().map(HeaderValue::as_bytes);
        let name = method.map_or("_OTHER", |method| &method.name);
        let identity = self.admission.authenticator.identify(authorization, peer.as_ref()).await;
        let policy = self.admission.policy.get();
        let identity = match identity {
            Ok(identity) => identity,
            Err(unidentified) => {
                let reason = reason(unidentified.kind());
                self.denials.tell(Denial {
                    who: peer.map_or_else(String::new, |peer| peer.address.ip().to_string()),
                    method: name,
                    reason: reason.name(),
                    environment: None,
                    policy: Arc::from(policy.version()),
                    trace_id: telemetry::trace_id(),
                });
                return Err(reason.status(unidentified));
            }
        };
        let Identity { caller, acting_for, token_scopes } = identity;
        let grants = policy.grants(&caller, &token_scopes);
        let bounds = *grants.bounds();
        self.calls
            .admit(&caller, bounds.calls_per_second.map(f64::from))
            .map_err(|again| status::rate_limited(bounds.calls_per_second, again))?;
        let scope = match method.map(|method| method.rule) {
            Some(Rule::Having(scope)) => Some(scope),
            Some(Rule::Known | Rule::Anybody) | None => None,
        };
        let permit = Permit::new(caller, acting_for, policy, grants, scope, name, self.denials.clone());
        if scope.is_some_and(|scope| !permit.anywhere(scope)) {
            return Err(permit.refused(None));
        }
        let stream = match method.is_some_and(|method| method.streams) {
            false => None,
            true => Some(
                self.streams
                    .open(permit.caller(), bounds.open_streams)
                    .ok_or_else(|| status::too_many_streams(bounds.open_streams))?,
            ),
        };
        Ok((permit, stream))
    }
}

const fn reason(kind: Kind) -> ErrorReason {
    match kind {
        Kind::Missing => ErrorReason::CredentialsMissing,
        Kind::Invalid => ErrorReason::CredentialsInvalid,
        Kind::Expired => ErrorReason::CredentialsExpired,
        Kind::KeysUnavailable => ErrorReason::AuthKeysUnavailable,
    }
}

/// A body that counts as one of its caller's open streams until it ends.
struct Counted {
    inner: Body,
    _stream: StreamPermit,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
