//! The gate in front of all services: who calls, and whether they may, before anything of the message is read.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::BodyExt as _;
use tonic::{Status, body::Body};
use tower::Service;

use super::{
    denials::Denials,
    method::{self, Method, Rule},
    permit::Permit,
    status::{self, ErrorReason},
};
use crate::{
    audit::{Denial, Who},
    auth::{Authenticator, Calls, Identity, OpenStream, Peer, Policy, Streams, token::Kind},
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
    /// Where refused calls are kept until they are recorded.
    pub denials: Denials,
}

impl Admission {
    /// Everybody, for everything that `policy` allows `anonymous`.
    #[must_use]
    pub fn off(policy: Policy) -> Self {
        Self {
            authenticator: Authenticator::default(),
            policy: Current::fixed(policy),
            denials: Denials::default(),
        }
    }
}

/// The layer around the services.
#[derive(Debug, Clone)]
pub(super) struct Gate<S> {
    inner: S,
    door: Arc<Door>,
}

/// Who is let in, and how many of their calls.
#[derive(Debug)]
struct Door {
    admission: Admission,
    calls: Calls,
    streams: Streams,
}

impl<S> Gate<S> {
    /// `replicas`: how many live, which share out what callers may do.
    pub(super) fn new(inner: S, admission: Admission, replicas: Arc<AtomicUsize>) -> Self {
        let door =
            Door { admission, calls: Calls::new(Arc::clone(&replicas)), streams: Streams::new(replicas) };
        Self { inner, door: Arc::new(door) }
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
        let door = Arc::clone(&self.door);
        let asking = Asking {
            authorization: request.headers().get(AUTHORIZATION).cloned(),
            peer: request.extensions().get::<Peer>().cloned(),
        };
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            match door.admit(asking, method).await {
                Ok((permit, stream)) => {
                    request.extensions_mut().insert(permit);
                    let response = inner.call(request).await?;
                    let Some(stream) = stream else { return Ok(response) };
                    // It is open until its last frame was sent, or nobody asks for it any more.
                    Ok(response.map(|body| {
                        Body::new(body.map_frame(move |frame| {
                            let _open = &stream;
                            frame
                        }))
                    }))
                }
                Err(refused) => Ok(refused.into_http()),
            }
        })
    }
}

/// What a request says of its caller.
struct Asking {
    authorization: Option<HeaderValue>,
    peer: Option<Peer>,
}

impl Door {
    /// Lets a call in; with what it holds while it lasts, where it is a stream.
    async fn admit(
        &self,
        asking: Asking,
        method: Option<&'static Method>,
    ) -> Result<(Permit, Option<OpenStream>), Status> {
        let permit = self.admission.permit(asking, method).await?;
        let (caller, bounds) = (permit.caller(), permit.bounds());
        let rate = bounds.calls_per_second.map(f64::from);
        self.calls.admit(caller, rate).map_err(|wait| permit.too_often(wait))?;
        permit.may()?;
        let streams = method.is_some_and(|method| method.streams);
        let stream = streams
            .then(|| self.streams.open(caller, bounds.open_streams).ok_or_else(|| permit.too_many_streams()))
            .transpose()?;
        Ok((permit, stream))
    }
}

impl Admission {
    /// Who calls, and what they may do.
    async fn permit(
        &self,
        Asking { authorization, peer }: Asking,
        method: Option<&'static Method>,
    ) -> Result<Permit, Status> {
        let authorization = authorization.as_ref().map(HeaderValue::as_bytes);
        let peer = peer.ok_or_else(|| status::internal(&"a call came without its connection"))?;
        let identity = self.authenticator.identify(authorization, &peer).await;
        let name = method.map_or("_OTHER", |method| &method.name);
        let Identity { caller, acting_for, token_scopes } = identity.map_err(|unidentified| {
            let reason = reason(unidentified.kind());
            self.denials.note(Denial {
                environment: None,
                who: Who::Peer(peer.address.ip().to_canonical()),
                method: Arc::from(name),
                reason: reason.name(),
                policy: None,
                trace_id: telemetry::trace_id().map(Arc::from),
            });
            reason.status(unidentified)
        })?;
        let policy = self.policy.get();
        let grants = policy.grants(&caller, &token_scopes);
        let scope = match method.map(|method| method.rule) {
            Some(Rule::Having(scope)) => Some(scope),
            Some(Rule::Known | Rule::Anybody) | None => None,
        };
        Ok(Permit::new(caller, acting_for, policy, grants, scope, name, self.denials.clone()))
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
