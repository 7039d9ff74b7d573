//! The side that shows batches and steers them.

use std::pin::Pin;

use pingone_unblock::proto::v1::{
    Batch, CancelBatchRequest, CancelBatchResponse, GetBatchRequest, GetBatchResponse, ListBatchesRequest,
    ListBatchesResponse, PauseBatchRequest, PauseBatchResponse, ResumeBatchRequest, ResumeBatchResponse,
    RetryBatchRequest, RetryBatchResponse, StreamBatchResultsRequest, StreamBatchResultsResponse,
    TargetResult, WatchBatchRequest, WatchBatchResponse, batch::State, batch_service_server::BatchService,
    target_result::Outcome,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, async_trait};

use super::{Shared, batch, results};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl BatchService for Shared {
    type WatchBatchStream = Answers<WatchBatchResponse>;
    type StreamBatchResultsStream = Answers<StreamBatchResultsResponse>;

    async fn get_batch(
        &self,
        request: Request<GetBatchRequest>,
    ) -> Result<Response<GetBatchResponse>, Status> {
        let GetBatchRequest { environment_id, batch_id } = request.into_inner();
        let batch = self.batch(&environment_id, &batch_id)?;
        Ok(Response::new(GetBatchResponse { batch: Some(batch) }))
    }

    async fn list_batches(
        &self,
        request: Request<ListBatchesRequest>,
    ) -> Result<Response<ListBatchesResponse>, Status> {
        let mut kept = self.lock();
        kept.lists.push(request.into_inner());
        let batches = kept.batches.values().map(|stored| batch(stored, None)).collect();
        Ok(Response::new(ListBatchesResponse { batches, next_page_token: String::new() }))
    }

    async fn watch_batch(
        &self,
        request: Request<WatchBatchRequest>,
    ) -> Result<Response<Self::WatchBatchStream>, Status> {
        let WatchBatchRequest { environment_id, batch_id } = request.into_inner();
        let now = self.batch(&environment_id, &batch_id)?;
        let running =
            Batch { state: State::Running.into(), waiting_for: "a token".to_owned(), ..now.clone() };
        let view = |batch| Ok(WatchBatchResponse { batch: Some(batch) });
        Ok(Response::new(if self.lock().watches_hang {
            Box::pin(tokio_stream::once(view(running)).chain(tokio_stream::pending()))
        } else {
            Box::pin(tokio_stream::iter([view(running), view(now)]))
        }))
    }

    async fn stream_batch_results(
        &self,
        request: Request<StreamBatchResultsRequest>,
    ) -> Result<Response<Self::StreamBatchResultsStream>, Status> {
        let request = request.into_inner();
        self.batch(&request.environment_id, &request.batch_id)?;
        let mut kept = self.lock();
        kept.results.push(request.clone());
        let stored = kept.batches[&(request.environment_id, request.batch_id)].clone();
        let mut messages = Vec::new();
        for (offset, target) in
            (0..).zip(&stored.targets).filter(|(offset, _)| *offset >= request.start_offset)
        {
            let mut results = results(offset, target);
            let fine =
                |result: &TargetResult| matches!(result.outcome(), Outcome::Unblocked | Outcome::Duplicate);
            results.retain(|result| !(request.failures_only && fine(result)));
            if !results.is_empty() {
                messages.push(Ok(StreamBatchResultsResponse { results, next_offset: offset + 1 }));
            }
        }
        if let Some(after) = kept.results_break.take() {
            messages.truncate(after);
            messages.push(Err(Status::unavailable("The server goes away.")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }

    async fn pause_batch(
        &self,
        request: Request<PauseBatchRequest>,
    ) -> Result<Response<PauseBatchResponse>, Status> {
        let asked = request.into_inner();
        let batch =
            self.steer("pause", [asked.environment_id, asked.batch_id, asked.reason, asked.ticket])?;
        Ok(Response::new(PauseBatchResponse { batch }))
    }

    async fn resume_batch(
        &self,
        request: Request<ResumeBatchRequest>,
    ) -> Result<Response<ResumeBatchResponse>, Status> {
        let asked = request.into_inner();
        let batch =
            self.steer("resume", [asked.environment_id, asked.batch_id, asked.reason, asked.ticket])?;
        Ok(Response::new(ResumeBatchResponse { batch }))
    }

    async fn cancel_batch(
        &self,
        request: Request<CancelBatchRequest>,
    ) -> Result<Response<CancelBatchResponse>, Status> {
        let asked = request.into_inner();
        let batch =
            self.steer("cancel", [asked.environment_id, asked.batch_id, asked.reason, asked.ticket])?;
        Ok(Response::new(CancelBatchResponse { batch }))
    }

    async fn retry_batch(
        &self,
        request: Request<RetryBatchRequest>,
    ) -> Result<Response<RetryBatchResponse>, Status> {
        let asked = request.into_inner();
        let batch =
            self.steer("retry", [asked.environment_id, asked.batch_id, asked.reason, asked.ticket])?;
        Ok(Response::new(RetryBatchResponse { batch, ..RetryBatchResponse::default() }))
    }
}
