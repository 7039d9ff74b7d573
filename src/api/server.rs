//! The gRPC port: services, health, reflection and gRPC-Web, on a listener that is handed in.

use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::FutureExt as _;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, service::Routes};
use tonic_health::server::HealthReporter;
use tower::Service;

use super::{
    Admission, Services,
    arrival::ArrivalLayer,
    deadline::DeadlineLayer,
    gate::Gate,
    measure::MeasureLayer,
    method::{self, Rule},
    normalise::NormaliseLayer,
    status::ErrorReason,
    transport::Transport,
};
use crate::proto::{self, v1};

/// Health and reflection are answered without a database.
const OWN_SERVICES: &str = "/pingone.";
/// Who is nobody may ask for health, and could take the places of callers by never ending to ask.
const HEALTH_CALLS: usize = 128;
const MESSAGE_AT_MOST: usize = 4 * 1024 * 1024;

/// What the port is like.
#[derive(Debug, Clone)]
pub struct Options {
    /// Calls at once, over all connections; more are refused with `QUEUE_FULL`.
    pub concurrent_calls: usize,
    /// Whether reflection is served.
    pub reflection: bool,
    /// What connections are like.
    pub transport: Transport,
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
            health_calls: Arc::new(Semaphore::new(HEALTH_CALLS)),
        };
        let server = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let pace = self.options.transport.pace;
        let call =
            ArrivalLayer { inner: DeadlineLayer { inner: limit, cap: pace.unary }, limit: pace.arrive };
        let call = MeasureLayer::new(NormaliseLayer(call), server);
        let service = tower::Layer::layer(&tonic_web::GrpcWebLayer::new(), call);
        self.options.transport.run(listener, service, shutdown).await;
        drop(self.services);
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
    health_calls: Arc<Semaphore>,
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
        let for_anybody =
            method::find(request.uri().path()).is_some_and(|method| method.rule == Rule::Anybody);
        let places = if for_anybody { &self.health_calls } else { &self.calls };
        let Ok(permit) = Arc::clone(places).try_acquire_owned() else {
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
