//! The gRPC port: services, health, reflection and gRPC-Web, on a listener that is handed in.

use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes};
use tonic_health::server::HealthReporter;
use tower::{Service, ServiceExt};

use super::{
    Admission, Services, deadline::DeadlineLayer, gate::Gate, measure::MeasureLayer,
    normalise::NormaliseLayer, status::ErrorReason,
};
use crate::{
    auth::Peer,
    proto::{self, v1},
};

/// Health and reflection are answered without a database.
const OWN_SERVICES: &str = "/pingone.";
const MESSAGE_AT_MOST: usize = 4 * 1024 * 1024;
const STREAMS_PER_CONNECTION: u32 = 256;
const HEADERS_AT_MOST: u32 = 16 * 1024;
/// What may be under way unasked-for on a stream, and on all of a connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// A little longer than streams live, so that a connection ends when its streams have.
const CONNECTION_AT_MOST: Duration = Duration::from_secs(31 * 60);
/// A listener that fails (too many open files) is asked again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the port is like.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Calls at once, over all connections; more are refused with `QUEUE_FULL`.
    pub concurrent_calls: usize,
    /// Whether reflection is served.
    pub reflection: bool,
}

/// The gRPC server, ready to run.
#[derive(Debug)]
pub struct Server {
    services: Services,
    options: Options,
    admission: Admission,
    health: HealthReporter,
    routes: Routes,
    open: Arc<AtomicBool>,
}

impl Server {
    /// Puts the services together. They are NOT_SERVING until [`health`](Self::health) says otherwise, and their calls are
    /// refused until `open` is set: the database may not be there, or not be migrated.
    ///
    /// # Errors
    /// [`tonic_reflection::server::Error`] when the compiled contract is damaged.
    pub async fn new(
        services: Services,
        options: Options,
        admission: Admission,
        open: Arc<AtomicBool>,
    ) -> Result<Self, tonic_reflection::server::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        let mut routes = Routes::builder();
        routes
            .add_service(
                v1::device_service_server::DeviceServiceServer::new(services.clone())
                    .max_decoding_message_size(MESSAGE_AT_MOST),
            )
            .add_service(
                v1::job_service_server::JobServiceServer::new(services.clone())
                    .max_decoding_message_size(MESSAGE_AT_MOST),
            )
            .add_service(
                v1::batch_service_server::BatchServiceServer::new(services.clone())
                    .max_decoding_message_size(MESSAGE_AT_MOST),
            )
            .add_service(
                v1::environment_service_server::EnvironmentServiceServer::new(services.clone())
                    .max_decoding_message_size(MESSAGE_AT_MOST),
            )
            .add_service(
                v1::audit_service_server::AuditServiceServer::new(services.clone())
                    .max_decoding_message_size(MESSAGE_AT_MOST),
            )
            .add_service(health_service);
        if options.reflection {
            let builder = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            };
            // Many clients speak only the older of the two.
            routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
        }
        let server = Self { services, options, admission, health, routes: routes.routes(), open };
        server.health().set(false).await;
        Ok(server)
    }

    /// Through which health is told.
    #[must_use]
    pub fn health(&self) -> Health {
        Health(self.health.clone())
    }

    /// Answers on `listener` until `shutdown`; then takes no new connection, ends each once its calls are answered, and returns
    /// when all have ended.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let limit = Limit {
            open: self.open,
            inner: Gate::new(self.routes.prepare(), self.admission, self.services.control.replicas()),
            calls: Arc::new(Semaphore::new(self.options.concurrent_calls)),
        };
        let service = tonic_web::GrpcWebLayer::new();
        let server = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let call = MeasureLayer::new(NormaliseLayer(DeadlineLayer(limit)), server);
        let service = tower::Layer::layer(&service, call);
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .max_header_list_size(HEADERS_AT_MOST)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(1024)
            // Fixed: finding out how much may be under way costs a ping with every call.
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        http.http1().timer(TokioTimer::new());

        let mut connections = JoinSet::new();
        loop {
            let (stream, address) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                },
                // Ended ones are forgotten.
                Some(_) = connections.join_next() => continue,
                () = shutdown.cancelled() => break,
            };
            let peer = Peer { address, certificate: None };
            let service =
                service.clone().map_request(move |request: http::Request<hyper::body::Incoming>| {
                    let mut request = request.map(Body::new);
                    request.extensions_mut().insert(peer.clone());
                    request
                });
            let service = TowerToHyperService::new(service);
            connections.spawn(serve(http.clone(), stream, service, shutdown.clone()));
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        drop(self.services);
    }
}

async fn serve<S>(
    http: auto::Builder<TokioExecutor>,
    stream: TcpStream,
    service: TowerToHyperService<S>,
    shutdown: CancellationToken,
) where
    S: Service<http::Request<hyper::body::Incoming>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    // Small messages that a person waits for.
    let _ = stream.set_nodelay(true);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = tokio::time::sleep(CONNECTION_AT_MOST) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// `grpc.health.v1` of all services at once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// Says whether calls are answered.
    pub async fn set(&self, serving: bool) {
        let status = match serving {
            true => tonic_health::ServingStatus::Serving,
            false => tonic_health::ServingStatus::NotServing,
        };
        let names = [
            "",
            v1::device_service_server::SERVICE_NAME,
            v1::job_service_server::SERVICE_NAME,
            v1::batch_service_server::SERVICE_NAME,
            v1::environment_service_server::SERVICE_NAME,
            v1::audit_service_server::SERVICE_NAME,
        ];
        for service in names {
            self.0.set_service_status(service, status).await;
        }
    }
}

/// Refuses calls beyond what this process answers at once. A stream counts until its head is sent.
#[derive(Debug, Clone)]
struct Limit<S> {
    open: Arc<AtomicBool>,
    inner: S,
    calls: Arc<Semaphore>,
}

impl<S> Service<http::Request<Body>> for Limit<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if !self.open.load(Ordering::Acquire) && request.uri().path().starts_with(OWN_SERVICES) {
            let refused =
                ErrorReason::StoreUnavailable.status("the database is not ready yet: try again soon");
            return Box::pin(async move { Ok(refused.into_http()) });
        }
        let Ok(permit) = Arc::clone(&self.calls).try_acquire_owned() else {
            let refused = ErrorReason::QueueFull.status("too many calls at once: try again after RetryInfo");
            return Box::pin(async move { Ok(refused.into_http()) });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            // A defect in one call is that call's; the others of its connection go on. The panic itself is logged where it was.
            let answered = AssertUnwindSafe(answer).catch_unwind().await;
            drop(permit);
            answered.unwrap_or_else(|_| Ok(super::status::internal(&"a call panicked").into_http()))
        })
    }
}
