//! `BatchService`.

use std::pin::Pin;

use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::Services;
use crate::proto::v1::{self, batch_service_server::BatchService};

#[tonic::async_trait]
impl BatchService for Services {
    type WatchBatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchBatchResponse, Status>> + Send>>;
    type StreamBatchResultsStream =
        Pin<Box<dyn Stream<Item = Result<v1::StreamBatchResultsResponse, Status>> + Send>>;

    async fn get_batch(
        &self,
        _: Request<v1::GetBatchRequest>,
    ) -> Result<Response<v1::GetBatchResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn list_batches(
        &self,
        _: Request<v1::ListBatchesRequest>,
    ) -> Result<Response<v1::ListBatchesResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn pause_batch(
        &self,
        _: Request<v1::PauseBatchRequest>,
    ) -> Result<Response<v1::PauseBatchResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn resume_batch(
        &self,
        _: Request<v1::ResumeBatchRequest>,
    ) -> Result<Response<v1::ResumeBatchResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn cancel_batch(
        &self,
        _: Request<v1::CancelBatchRequest>,
    ) -> Result<Response<v1::CancelBatchResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn retry_batch(
        &self,
        _: Request<v1::RetryBatchRequest>,
    ) -> Result<Response<v1::RetryBatchResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn watch_batch(
        &self,
        _: Request<v1::WatchBatchRequest>,
    ) -> Result<Response<Self::WatchBatchStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn stream_batch_results(
        &self,
        _: Request<v1::StreamBatchResultsRequest>,
    ) -> Result<Response<Self::StreamBatchResultsStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }
}
