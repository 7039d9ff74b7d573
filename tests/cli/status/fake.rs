//! A gRPC server whose health, environments and batches are as a test says, and that can go away.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pingone_unblock::proto::v1::{
    Batch, CancelBatchRequest, CancelBatchResponse, GetBatchRequest, GetBatchResponse, ListBatchesRequest,
    ListBatchesResponse, ListEnvironmentsRequest, ListEnvironmentsResponse, PauseBatchRequest,
    PauseBatchResponse, PauseEnvironmentRequest, PauseEnvironmentResponse, ResumeBatchRequest,
    ResumeBatchResponse, ResumeEnvironmentRequest, ResumeEnvironmentResponse, RetryBatchRequest,
    RetryBatchResponse, StreamBatchResultsRequest, StreamBatchResultsResponse, WatchBatchRequest,
    WatchBatchResponse,
    batch_service_server::{BatchService, BatchServiceServer},
    environment_service_server::{EnvironmentService, EnvironmentServiceServer},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::{Empty, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait, transport::Server};
use tonic_health::ServingStatus;

/// How it stands.
#[derive(Default)]
pub(crate) struct Standing {
    /// The page token is the number of the page.
    pub(crate) pages: Vec<ListEnvironmentsResponse>,
    /// In place of the pages.
    pub(crate) refusal: Option<Status>,
    /// The pages are never answered.
    pub(crate) hangs: bool,
    pub(crate) batches: Vec<Batch>,
    pub(crate) batches_refused: bool,
    pub(crate) batch_lists: Vec<ListBatchesRequest>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Standing>>);

/// A running server.
pub(crate) struct Fake {
    shared: Shared,
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    stop: CancellationToken,
    running: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Fake {
    pub(crate) async fn start() -> std::io::Result<Self> {
        Self::at("127.0.0.1:0".parse().expect("an address"), ServingStatus::Serving).await
    }

    pub(crate) async fn at(address: SocketAddr, health: ServingStatus) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Shared::default();
        let (reporter, health_service) = tonic_health::server::health_reporter();
        reporter.set_service_status("", health).await;
        let stop = CancellationToken::new();
        let serving = Server::builder()
            .add_service(EnvironmentServiceServer::new(shared.clone()))
            .add_service(BatchServiceServer::new(shared.clone()))
            .add_service(health_service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        let running = tokio::spawn(serving);
        Ok(Self { shared, address, url: format!("http://{address}"), stop, running })
    }

    pub(crate) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.shared.lock()
    }

    /// Returns once it is gone.
    pub(crate) async fn stop(self) -> Result<(), Box<dyn std::error::Error>> {
        self.stop.cancel();
        Ok(self.running.await??)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EnvironmentService for Shared {
    async fn list_environments(
        &self,
        request: Request<ListEnvironmentsRequest>,
    ) -> Result<Response<ListEnvironmentsResponse>, Status> {
        if self.lock().hangs {
            std::future::pending::<()>().await;
        }
        let standing = self.lock();
        if let Some(status) = &standing.refusal {
            return Err(status.clone());
        }
        let page: usize = request.into_inner().page_token.parse().unwrap_or_default();
        let mut answer = standing.pages.get(page).cloned().unwrap_or_default();
        if page + 1 < standing.pages.len() {
            answer.next_page_token = (page + 1).to_string();
        }
        Ok(Response::new(answer))
    }

    async fn pause_environment(
        &self,
        _: Request<PauseEnvironmentRequest>,
    ) -> Result<Response<PauseEnvironmentResponse>, Status> {
        Err(only_lists())
    }

    async fn resume_environment(
        &self,
        _: Request<ResumeEnvironmentRequest>,
    ) -> Result<Response<ResumeEnvironmentResponse>, Status> {
        Err(only_lists())
    }
}

fn only_lists() -> Status {
    Status::unimplemented("This server only lists.")
}

#[async_trait]
impl BatchService for Shared {
    type WatchBatchStream = Empty<Result<WatchBatchResponse, Status>>;
    type StreamBatchResultsStream = Empty<Result<StreamBatchResultsResponse, Status>>;

    async fn list_batches(
        &self,
        request: Request<ListBatchesRequest>,
    ) -> Result<Response<ListBatchesResponse>, Status> {
        let mut standing = self.lock();
        if standing.batches_refused {
            return Err(Status::permission_denied("No."));
        }
        let asked = request.into_inner();
        let batches = standing.batches.iter().filter(|batch| {
            batch.environment_id == asked.environment_id && asked.states.contains(&batch.state)
        });
        let batches = batches.cloned().collect();
        standing.batch_lists.push(asked);
        Ok(Response::new(ListBatchesResponse { batches, next_page_token: String::new() }))
    }

    async fn get_batch(&self, _: Request<GetBatchRequest>) -> Result<Response<GetBatchResponse>, Status> {
        Err(only_lists())
    }

    async fn watch_batch(
        &self,
        _: Request<WatchBatchRequest>,
    ) -> Result<Response<Self::WatchBatchStream>, Status> {
        Err(only_lists())
    }

    async fn stream_batch_results(
        &self,
        _: Request<StreamBatchResultsRequest>,
    ) -> Result<Response<Self::StreamBatchResultsStream>, Status> {
        Err(only_lists())
    }

    async fn pause_batch(
        &self,
        _: Request<PauseBatchRequest>,
    ) -> Result<Response<PauseBatchResponse>, Status> {
        Err(only_lists())
    }

    async fn resume_batch(
        &self,
        _: Request<ResumeBatchRequest>,
    ) -> Result<Response<ResumeBatchResponse>, Status> {
        Err(only_lists())
    }

    async fn cancel_batch(
        &self,
        _: Request<CancelBatchRequest>,
    ) -> Result<Response<CancelBatchResponse>, Status> {
        Err(only_lists())
    }

    async fn retry_batch(
        &self,
        _: Request<RetryBatchRequest>,
    ) -> Result<Response<RetryBatchResponse>, Status> {
        Err(only_lists())
    }
}
