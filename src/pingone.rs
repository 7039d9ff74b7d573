//! PingOne as a client sees it: token, request, and what each answer means. Knows nothing of jobs kept or configuration read.

mod address;
mod answer;
mod exchange;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod retry_after;
mod said;
mod settings;
mod token;

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue},
    redirect::Policy,
};
use secrecy::SecretString;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    device::{DeviceRef, EnvironmentId, Snapshot, UserId},
    job::{Failure, JobId, Reason, RetryHint},
    reload::Current,
    telemetry::{TracePoint, metrics::Request, spans},
};

use answer::{Call, classify, failure, lost};
use exchange::{Lost, Response, exchange};
use token::{Tokens, Worker, bearer};

pub use address::{AddressError, ApiPath, AuthPath, Region, UnknownRegion};
pub use settings::{ClientAuth, Credential, PingOneError, Settings};

const USER_AGENT: &str = concat!("pingone-unblock/", env!("CARGO_PKG_VERSION"));
const UNBLOCK: HeaderValue = HeaderValue::from_static("application/vnd.pingidentity.device.unblock+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json, application/hal+json");
const TRANSACTION_ID: HeaderName = HeaderName::from_static("x-ping-external-transaction-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// Far more than any device, and as a message of gRPC, several times as long, still below what its readers take.
const LARGEST_DEVICE: usize = 64 * 1024;
/// The same of all devices of a user.
const LARGEST_LIST: usize = 512 * 1024;
/// Below the minute after which load balancers commonly close an idle connection: they must not close it under a request.
const IDLE: Duration = Duration::from_secs(45);
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// PingOne under one credential. Cheap to clone; clones share connections and token.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    kinds: Kinds,
    api: ApiPath,
    credential: Bearer,
    secret: Current<SecretString>,
    attempt_deadline: Duration,
}

/// What is asked of PingOne, as it is measured.
struct Kinds {
    unblock: Request,
    read: Request,
    list: Request,
}

impl Kinds {
    fn new(api: &ApiPath) -> Self {
        let (host, port) = api.server();
        let device = "/environments/{environmentId}/users/{userId}/devices/{deviceId}";
        let devices = "/environments/{environmentId}/users/{userId}/devices";
        Self {
            unblock: Request::new("POST", host, port, device),
            read: Request::new("GET", host, port, device),
            list: Request::new("GET", host, port, devices),
        }
    }
}

enum Bearer {
    Fixed(Current<SecretString>),
    Granted(Tokens),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("api", &self.0.api).finish_non_exhaustive()
    }
}

/// What a request comes from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Origin<'a> {
    /// The W3C `traceparent` kept with the job: sent along where the request has no span of its own.
    pub trace_parent: Option<&'a str>,
    /// How often it may have been sent before.
    pub resent: u32,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The device, or the list of devices, as PingOne described it; or why the attempt failed.
    pub outcome: Result<Snapshot, Failure>,
    /// PingOne's status, where it answered.
    pub http_status: Option<u16>,
    /// The `Correlation-Id` of the answer, under which PingOne logged it.
    pub correlation_id: Option<String>,
    /// How many requests PingOne's API may have counted: 0, 1, or 2 where a fresh token followed a 401.
    pub requests: u8,
}

impl Client {
    /// A client that connects when it is first needed.
    ///
    /// # Errors
    /// [`PingOneError`] for settings no client can be made of.
    pub fn new(settings: Settings) -> Result<Self, PingOneError> {
        let Settings { api, credential, secret, attempt_deadline, connect_timeout, idle_connections } =
            settings;
        if connect_timeout.is_zero() || connect_timeout > attempt_deadline {
            return Err(PingOneError::Deadlines);
        }
        let http = http_client(connect_timeout, idle_connections).map_err(PingOneError::Tls)?;
        let accepted = credential.accepts(credential.secret());
        let secret = secret.unwrap_or_else(|| Current::fixed(credential.secret().clone()));
        let credential = match credential {
            Credential::AccessToken(_) if !accepted => return Err(PingOneError::AccessToken),
            Credential::AccessToken(_) => Bearer::Fixed(secret.clone()),
            Credential::ClientSecret { auth, environment, client_id, method, .. } => {
                if client_id.is_empty() || !accepted {
                    return Err(PingOneError::EmptyCredential);
                }
                let endpoint = auth.token_endpoint(environment);
                let http = http.clone();
                let deadline = attempt_deadline;
                let host = endpoint.host_str().unwrap_or_default();
                let port = endpoint.port_or_known_default().unwrap_or_default();
                let kind = Request::new("POST", host, port, "/{environmentId}/as/token");
                Bearer::Granted(Tokens::new(Worker {
                    http,
                    kind,
                    endpoint,
                    client_id,
                    client_secret: secret.clone(),
                    method,
                    deadline,
                }))
            }
        };
        let kinds = Kinds::new(&api);
        Ok(Self(Arc::new(Inner { http, kinds, api, credential, secret, attempt_deadline })))
    }

    /// How long an attempt may take with everything in it.
    #[must_use]
    pub fn attempt_deadline(&self) -> Duration {
        self.0.attempt_deadline
    }

    /// Waits until a request need not wait for a token, no longer than the attempt deadline.
    ///
    /// # Errors
    /// The [`Answer`] that a request would end with: no token is granted.
    pub async fn prepare(&self) -> Result<(), Box<Answer>> {
        match &self.0.credential {
            Bearer::Fixed(_) => Ok(()),
            Bearer::Granted(tokens) => match tokens.get(Instant::now() + self.0.attempt_deadline).await {
                Ok(_) => Ok(()),
                Err(failure) => Err(Box::new(Answer::without_request(failure))),
            },
        }
    }

    /// Asks PingOne to unblock `device`, once; a 401 is answered with a fresh token and one more request. Takes no longer
    /// than the attempt deadline. PingOne's audit shows `job` as the external transaction.
    pub async fn unblock(&self, device: &DeviceRef, job: JobId, origin: &Origin<'_>) -> Answer {
        self.attempt(Call::Unblock, device, job, origin).await
    }

    /// Asks PingOne how `device` stands, and changes nothing. Otherwise as [`Client::unblock`].
    pub async fn read(&self, device: &DeviceRef, job: JobId, origin: &Origin<'_>) -> Answer {
        self.attempt(Call::Read, device, job, origin).await
    }

    /// Asks PingOne for all devices of `user`, and changes nothing: the snapshot is the list, to be read with
    /// [`Devices`](crate::device::Devices). Otherwise as [`Client::unblock`].
    pub async fn list_devices(
        &self,
        environment: EnvironmentId,
        user: UserId,
        job: JobId,
        origin: &Origin<'_>,
    ) -> Answer {
        self.attempt(Call::List, &DeviceRef::every(environment, user), job, origin).await
    }

    /// Whether the token endpoint grants a token now; later requests use that one. There is nothing to ask for a fixed access
    /// token: it passes.
    ///
    /// # Errors
    /// The [`Failure`] that attempts would end with.
    pub async fn check_credential(&self) -> Result<(), Failure> {
        match &self.0.credential {
            Bearer::Fixed(_) => Ok(()),
            Bearer::Granted(tokens) => tokens.renew(Instant::now() + self.0.attempt_deadline).await.map(drop),
        }
    }

    /// The secret or the token, to wait for its change: then [`Client::check_credential`] gets a fresh token by it. One that was
    /// granted before serves until its end.
    #[must_use]
    pub fn secret(&self) -> Current<SecretString> {
        self.0.secret.clone()
    }

    /// Whether both share connections and token.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    async fn attempt(&self, call: Call, device: &DeviceRef, job: JobId, origin: &Origin<'_>) -> Answer {
        let deadline = Instant::now() + self.0.attempt_deadline;
        let send = |bearer, again| {
            let origin = Origin { resent: origin.resent + again, ..*origin };
            self.send(call, device, job, origin, bearer, deadline)
        };
        let tokens = match &self.0.credential {
            Bearer::Fixed(token) => {
                let Some(bearer) = bearer(&token.get()) else {
                    let message = "What stands in the place of an access token is none";
                    return Answer::without_request(failure(
                        Reason::CredentialRefused,
                        RetryHint::Credential,
                        message,
                    ));
                };
                return Answer::of(call, device, send(bearer, 0).await, 1);
            }
            Bearer::Granted(tokens) => tokens,
        };
        let token = match tokens.get(deadline).await {
            Ok(token) => token,
            Err(failure) => return Answer::without_request(failure),
        };
        let first = match send(token.bearer.clone(), 0).await {
            Ok(response) if response.status == StatusCode::UNAUTHORIZED => response,
            other => return Answer::of(call, device, other, 1),
        };
        tokens.refused(&token);
        match tokens.get(deadline).await {
            Ok(fresh) => Answer::of(call, device, send(fresh.bearer.clone(), 1).await, 2),
            Err(failure) => Answer::refused_token(failure, &first),
        }
    }

    async fn send(
        &self,
        call: Call,
        device: &DeviceRef,
        job: JobId,
        origin: Origin<'_>,
        bearer: HeaderValue,
        deadline: Instant,
    ) -> Result<Response, Lost> {
        let Inner { api, kinds, .. } = &*self.0;
        let (method, address, kind) = match call {
            Call::Unblock => (Method::POST, api.device(device), &kinds.unblock),
            Call::Read => (Method::GET, api.device(device), &kinds.read),
            Call::List => (Method::GET, api.devices(device.environment, device.user), &kinds.list),
        };
        let largest = if call == Call::List { LARGEST_LIST } else { LARGEST_DEVICE };
        let resent = if call == Call::Unblock { origin.resent } else { 0 };
        let span = spans::request(kind, resent);
        let trace_parent = TracePoint::of(&span).map(|span| span.trace_parent());
        let mut request = self.0.http.request(method, address);
        if call == Call::Unblock {
            // An empty body needs its length said: some gateways refuse a POST without one (411).
            request =
                request.header(CONTENT_TYPE, UNBLOCK).header(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let shown = token::shown(&bearer);
        request = request
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, JSON)
            .header(TRANSACTION_ID, job.to_string());
        let trace_parent = trace_parent.as_deref().or(origin.trace_parent);
        if let Some(trace) = trace_parent.and_then(|text| HeaderValue::from_str(text).ok()) {
            request = request.header(TRACE_PARENT, trace);
        }
        exchange(request, kind, shown, largest, deadline, span).await
    }
}

impl Answer {
    fn of(call: Call, device: &DeviceRef, result: Result<Response, Lost>, requests: u8) -> Self {
        match result {
            Ok(response) => Self {
                outcome: classify(call, device, &response, OffsetDateTime::now_utc())
                    .map_err(|failure| *failure),
                http_status: Some(response.status.as_u16()),
                correlation_id: response.correlation_id(),
                requests,
            },
            Err(why) => {
                // What was not sent was not counted.
                let requests = if let Lost::NotSent(_) = why { requests - 1 } else { requests };
                Self { outcome: Err(lost(call, &why)), http_status: None, correlation_id: None, requests }
            }
        }
    }

    fn without_request(mut failure: Failure) -> Self {
        failure.message = failure.message.and("; nothing was sent");
        let (http_status, correlation_id) = (failure.http_status, failure.correlation_id.clone());
        Self { outcome: Err(failure), http_status, correlation_id, requests: 0 }
    }

    fn refused_token(mut failure: Failure, first: &Response) -> Self {
        failure.message =
            failure.message.and("; PingOne had refused the token before (401), nothing was changed");
        Self {
            outcome: Err(failure),
            http_status: Some(first.status.as_u16()),
            correlation_id: first.correlation_id(),
            requests: 1,
        }
    }
}

/// One attempt is one request: nothing is repeated, redirected or sent through a proxy that only the environment knows of.
fn http_client(connect_timeout: Duration, idle_connections: usize) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(idle_connections)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(KEEP_ALIVE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(connect_timeout)
        .build()
}
