//! A gRPC server that answers from a script and remembers what it was asked.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use pingone_unblock::proto::v1::{
    AppendBatchTargetsRequest, AppendBatchTargetsResponse, BulkUnblockRequest, BulkUnblockResponse,
    CancelJobRequest, CancelJobResponse, Device, Environment, GetDeviceRequest, GetDeviceResponse,
    GetJobRequest, GetJobResponse, Job, ListEnvironmentsRequest, ListEnvironmentsResponse, ListJobsRequest,
    ListJobsResponse, ListUserDevicesRequest, ListUserDevicesResponse, PauseEnvironmentRequest,
    PauseEnvironmentResponse, ResumeEnvironmentRequest, ResumeEnvironmentResponse, RetryJobRequest,
    RetryJobResponse, UnblockRequest, UnblockResponse, WatchJobRequest, WatchJobResponse,
    device_service_server::{DeviceService, DeviceServiceServer},
    environment_service_server::{EnvironmentService, EnvironmentServiceServer},
    job_service_server::{JobService, JobServiceServer},
};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, async_trait, metadata::MetadataMap, transport::Server};

type Answers<T> = Mutex<VecDeque<Result<T, Status>>>;

/// What is to be answered, in this order, and what was asked.
#[derive(Default)]
pub(crate) struct Script {
    unblock: Answers<UnblockResponse>,
    device: Answers<GetDeviceResponse>,
    devices: Answers<ListUserDevicesResponse>,
    job: Answers<Job>,
    pages: Answers<ListJobsResponse>,
    watches: Answers<Watch>,
    environments: Answers<ListEnvironmentsResponse>,
    environment: Answers<Environment>,
    pub(crate) unblocks: Mutex<Vec<(MetadataMap, UnblockRequest)>>,
    pub(crate) device_lists: Mutex<Vec<ListUserDevicesRequest>>,
    pub(crate) lists: Mutex<Vec<ListJobsRequest>>,
    pub(crate) retries: Mutex<Vec<RetryJobRequest>>,
    pub(crate) cancels: Mutex<Vec<CancelJobRequest>>,
    pub(crate) environment_lists: Mutex<Vec<ListEnvironmentsRequest>>,
    pub(crate) pauses: Mutex<Vec<PauseEnvironmentRequest>>,
    pub(crate) resumes: Mutex<Vec<ResumeEnvironmentRequest>>,
}

/// The views of one watch, and how it ends.
pub(crate) struct Watch {
    pub(crate) views: Vec<Job>,
    pub(crate) end: End,
}

/// How a watch ends after its views.
pub(crate) enum End {
    Politely,
    With(Status),
    Never,
}

/// A running server; ends when dropped.
pub(crate) struct Fake {
    pub(crate) script: Arc<Script>,
    pub(crate) url: String,
    task: AbortHandle,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let script = Arc::new(Script::default());
        let answering = Answering(Arc::clone(&script));
        let serving = Server::builder()
            .add_service(DeviceServiceServer::new(answering.clone()))
            .add_service(JobServiceServer::new(answering.clone()))
            .add_service(EnvironmentServiceServer::new(answering))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(serving).abort_handle();
        Ok(Self { script, url, task })
    }

    pub(crate) fn unblock(&self, answer: Result<Job, Status>) {
        push(&self.script.unblock, answer.map(|job| UnblockResponse { job: Some(job), replayed: false }));
    }

    pub(crate) fn nothing_recorded(&self) {
        push(&self.script.unblock, Ok(UnblockResponse::default()));
    }

    pub(crate) fn device(&self, answer: GetDeviceResponse) {
        push(&self.script.device, Ok(answer));
    }

    pub(crate) fn devices(&self, devices: Vec<Device>) {
        push(&self.script.devices, Ok(ListUserDevicesResponse { devices }));
    }

    pub(crate) fn devices_refused(&self, status: Status) {
        push(&self.script.devices, Err(status));
    }

    pub(crate) fn job(&self, answer: Result<Job, Status>) {
        push(&self.script.job, answer);
    }

    pub(crate) fn page(&self, jobs: Vec<Job>, next_page_token: &str) {
        push(&self.script.pages, Ok(ListJobsResponse { jobs, next_page_token: next_page_token.to_owned() }));
    }

    pub(crate) fn environments(&self, page: ListEnvironmentsResponse) {
        push(&self.script.environments, Ok(page));
    }

    pub(crate) fn environment(&self, answer: Result<Environment, Status>) {
        push(&self.script.environment, answer);
    }

    pub(crate) fn watch(&self, views: Vec<Job>, end: End) {
        push(&self.script.watches, Ok(Watch { views, end }));
    }
}

/// What was asked so far.
pub(crate) fn asked<T: Clone>(calls: &Mutex<Vec<T>>) -> Vec<T> {
    calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[derive(Clone)]
struct Answering(Arc<Script>);

#[async_trait]
impl DeviceService for Answering {
    type BulkUnblockStream = tokio_stream::Empty<Result<BulkUnblockResponse, Status>>;

    async fn bulk_unblock(
        &self,
        _: Request<Streaming<BulkUnblockRequest>>,
    ) -> Result<Response<Self::BulkUnblockStream>, Status> {
        Err(Status::unimplemented("This server knows no batches."))
    }

    async fn append_batch_targets(
        &self,
        _: Request<AppendBatchTargetsRequest>,
    ) -> Result<Response<AppendBatchTargetsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn unblock(&self, request: Request<UnblockRequest>) -> Result<Response<UnblockResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        remember(&self.0.unblocks, (metadata, request));
        next(&self.0.unblock).map(Response::new)
    }

    async fn list_user_devices(
        &self,
        request: Request<ListUserDevicesRequest>,
    ) -> Result<Response<ListUserDevicesResponse>, Status> {
        remember(&self.0.device_lists, request.into_inner());
        next(&self.0.devices).map(Response::new)
    }

    async fn get_device(&self, _: Request<GetDeviceRequest>) -> Result<Response<GetDeviceResponse>, Status> {
        next(&self.0.device).map(Response::new)
    }
}

#[async_trait]
impl JobService for Answering {
    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<WatchJobResponse, Status>> + Send>>;

    async fn get_job(&self, _: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        next(&self.0.job).map(|job| Response::new(GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        remember(&self.0.lists, request.into_inner());
        next(&self.0.pages).map(Response::new)
    }

    async fn watch_job(&self, _: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let watch = next(&self.0.watches)?;
        let views = watch.views.into_iter().map(|job| Ok(WatchJobResponse { job: Some(job) }));
        let views = tokio_stream::iter(views);
        Ok(Response::new(match watch.end {
            End::Politely => Box::pin(views),
            End::With(status) => Box::pin(views.chain(tokio_stream::once(Err(status)))),
            End::Never => Box::pin(views.chain(tokio_stream::pending())),
        }))
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> Result<Response<CancelJobResponse>, Status> {
        remember(&self.0.cancels, request.into_inner());
        next(&self.0.job).map(|job| Response::new(CancelJobResponse { job: Some(job) }))
    }

    async fn retry_job(
        &self,
        request: Request<RetryJobRequest>,
    ) -> Result<Response<RetryJobResponse>, Status> {
        remember(&self.0.retries, request.into_inner());
        next(&self.0.job).map(|job| Response::new(RetryJobResponse { job: Some(job) }))
    }
}

#[async_trait]
impl EnvironmentService for Answering {
    async fn list_environments(
        &self,
        request: Request<ListEnvironmentsRequest>,
    ) -> Result<Response<ListEnvironmentsResponse>, Status> {
        remember(&self.0.environment_lists, request.into_inner());
        next(&self.0.environments).map(Response::new)
    }

    async fn pause_environment(
        &self,
        request: Request<PauseEnvironmentRequest>,
    ) -> Result<Response<PauseEnvironmentResponse>, Status> {
        remember(&self.0.pauses, request.into_inner());
        let environment = next(&self.0.environment)?;
        Ok(Response::new(PauseEnvironmentResponse { environment: Some(environment) }))
    }

    async fn resume_environment(
        &self,
        request: Request<ResumeEnvironmentRequest>,
    ) -> Result<Response<ResumeEnvironmentResponse>, Status> {
        remember(&self.0.resumes, request.into_inner());
        let environment = next(&self.0.environment)?;
        Ok(Response::new(ResumeEnvironmentResponse { environment: Some(environment) }))
    }
}

fn push<T>(answers: &Answers<T>, answer: Result<T, Status>) {
    answers.lock().unwrap_or_else(PoisonError::into_inner).push_back(answer);
}

fn next<T>(answers: &Answers<T>) -> Result<T, Status> {
    let scripted = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    scripted.unwrap_or_else(|| Err(Status::internal("the script has no further answer")))
}

fn remember<T>(calls: &Mutex<Vec<T>>, call: T) {
    calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
}
