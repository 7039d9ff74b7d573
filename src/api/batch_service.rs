//! `BatchService`: shows batches, follows them, streams their results, steers them.

use std::{pin::Pin, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::{
    Services, batch_results, convert,
    deadline::Deadline,
    fields::{Fields, REASON_AT_MOST, TICKET_AT_MOST},
    permit::Permit,
    status::{self, ErrorReason},
};
use crate::{
    batch::{Batch, BatchNumber, State},
    device::EnvironmentId,
    proto::v1::{self, batch::State as Told, batch_service_server::BatchService},
    store::{BatchFilter, BatchKey, RetryWish},
};

/// Who watches looks this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[tonic::async_trait]
impl BatchService for Services {
    async fn get_batch(
        &self,
        request: Request<v1::GetBatchRequest>,
    ) -> Result<Response<v1::GetBatchResponse>, Status> {
        let permit = Permit::of(&request)?;
        let v1::GetBatchRequest { environment_id, batch_id } = request.into_inner();
        let batch = self.named(&permit, &environment_id, batch_id).await?;
        Ok(Response::new(v1::GetBatchResponse { batch: Some(self.view(&batch).await) }))
    }

    async fn list_batches(
        &self,
        request: Request<v1::ListBatchesRequest>,
    ) -> Result<Response<v1::ListBatchesResponse>, Status> {
        let permit = Permit::of(&request)?;
        let given = request.into_inner();
        permit.in_named(&given.environment_id)?;
        let mut fields = Fields::default();
        let environment = fields.environment(&given.environment_id);
        let states = fields.batch_states(&given.states);
        let size = fields.page_size(given.page_size);
        let filter = BatchFilter {
            environment: fields.done(environment)?,
            states,
            caller: Some(given.caller).filter(|caller| !caller.is_empty()),
            ticket: Some(given.ticket).filter(|ticket| !ticket.is_empty()),
        };
        let before = match given.page_token.as_str() {
            "" => None,
            text => Some(token(text).ok_or_else(|| {
                ErrorReason::PageTokenInvalid
                    .status("page_token: give the next_page_token of an earlier call, or none")
            })?),
        };
        let listed = self.store.list_batches(&filter, size, before).await;
        let (batches, next) = listed.map_err(|error| status::store(&error))?;
        Ok(Response::new(v1::ListBatchesResponse {
            batches: batches.iter().map(|batch| message(batch, None)).collect(),
            next_page_token: next.map(|next| format!("batches-{}", next.number())).unwrap_or_default(),
        }))
    }

    type WatchBatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchBatchResponse, Status>> + Send>>;

    async fn watch_batch(
        &self,
        request: Request<v1::WatchBatchRequest>,
    ) -> Result<Response<Self::WatchBatchStream>, Status> {
        let deadline = Deadline::of(&request);
        let permit = Permit::of(&request)?;
        let v1::WatchBatchRequest { environment_id, batch_id } = request.into_inner();
        let first = self.named(&permit, &environment_id, batch_id).await?;
        // One message in the pipe: a slow reader skips to the newest state.
        let (sender, receiver) = mpsc::channel(1);
        let services = self.clone();
        let following = async move {
            if let Err(end) = services.follow_batch(first, deadline, &sender).await {
                let _ = sender.send(Err(end)).await;
            }
        };
        tokio::spawn(following.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    type StreamBatchResultsStream = batch_results::Results;

    async fn stream_batch_results(
        &self,
        request: Request<v1::StreamBatchResultsRequest>,
    ) -> Result<Response<Self::StreamBatchResultsStream>, Status> {
        let permit = Permit::of(&request)?;
        let deadline = Deadline::of(&request);
        let given = request.into_inner();
        permit.in_named(&given.environment_id)?;
        let Ok(from) = u64::try_from(given.start_offset) else {
            let mut fields = Fields::default();
            fields.wrong("start_offset", "is negative: give the offset of a row, 0 for the first");
            return fields.done(None);
        };
        let batch = self.named(&permit, &given.environment_id, given.batch_id).await?;
        let wish = batch_results::Wish { from, failures_only: given.failures_only, follow: given.follow };
        Ok(Response::new(self.results(batch, wish, deadline)))
    }

    async fn pause_batch(
        &self,
        request: Request<v1::PauseBatchRequest>,
    ) -> Result<Response<v1::PauseBatchResponse>, Status> {
        let permit = Permit::of(&request)?;
        let v1::PauseBatchRequest { environment_id, batch_id, reason, ticket } = request.into_inner();
        let (batch, reason, _) = self.steered(&permit, &environment_id, batch_id, reason, ticket).await?;
        let paused = self.control.pause_batch(&batch, &permit.actor(), &reason).await;
        if !paused.map_err(|error| status::store(&error))? {
            return Err(self.conflict(&batch, "only what has not ended can be paused").await);
        }
        Ok(Response::new(v1::PauseBatchResponse { batch: Some(self.now(&batch).await?) }))
    }

    async fn resume_batch(
        &self,
        request: Request<v1::ResumeBatchRequest>,
    ) -> Result<Response<v1::ResumeBatchResponse>, Status> {
        let permit = Permit::of(&request)?;
        let v1::ResumeBatchRequest { environment_id, batch_id, reason, ticket } = request.into_inner();
        let (batch, reason, _) = self.steered(&permit, &environment_id, batch_id, reason, ticket).await?;
        let resumed = self
            .control
            .resume_batch(&batch, &permit.actor(), &reason)
            .await
            .map_err(|error| status::store(&error))?;
        let now = self.whole(&batch).await?;
        if !resumed && !matches!(now.state, State::Running | State::Uploading) {
            return Err(self.conflict(&batch, "only a paused batch can be resumed").await);
        }
        Ok(Response::new(v1::ResumeBatchResponse { batch: Some(self.view(&now).await) }))
    }

    async fn cancel_batch(
        &self,
        request: Request<v1::CancelBatchRequest>,
    ) -> Result<Response<v1::CancelBatchResponse>, Status> {
        let permit = Permit::of(&request)?;
        let v1::CancelBatchRequest { environment_id, batch_id, reason, ticket } = request.into_inner();
        let (batch, reason, _) = self.steered(&permit, &environment_id, batch_id, reason, ticket).await?;
        let cancelled = self.control.cancel_batch(&batch, &permit.actor(), &reason).await;
        if !cancelled.map_err(|error| status::store(&error))? {
            return Err(self.conflict(&batch, "there is nothing left to cancel").await);
        }
        Ok(Response::new(v1::CancelBatchResponse { batch: Some(self.now(&batch).await?) }))
    }

    async fn retry_batch(
        &self,
        request: Request<v1::RetryBatchRequest>,
    ) -> Result<Response<v1::RetryBatchResponse>, Status> {
        let permit = Permit::of(&request)?;
        let v1::RetryBatchRequest { environment_id, batch_id, reason, ticket } = request.into_inner();
        let (batch, reason, ticket) =
            self.steered(&permit, &environment_id, batch_id, reason, ticket).await?;
        let mut fields = Fields::default();
        permit.demand(&mut fields, "", batch.header.environment, (&reason, &ticket, None));
        fields.done(Some(()))?;
        let (control, of, actor) = (self.control.clone(), batch.clone(), permit.actor());
        // A caller that goes away does not stop it half-way.
        let retrying = tokio::spawn(async move {
            let wish = RetryWish { actor: &actor, reason: &reason, ticket: &ticket };
            control.retry_batch(&of, &wish).await
        });
        let begun = retrying.await.map_err(|_| ErrorReason::Internal.status("the retry died"))?;
        let Some(retried) = begun.map_err(|error| status::store(&error))? else {
            return Err(self
                .conflict(&batch, "what was cancelled is not sent again: make another batch")
                .await);
        };
        if let Some(over) = retried.over.filter(|_| retried.begun == 0) {
            return Err(permit.over_quota(batch.header.environment, over));
        }
        Ok(Response::new(v1::RetryBatchResponse {
            batch: Some(self.now(&batch).await?),
            left_count: i64::from(retried.left),
            left_reason: retried.over.map(|over| over.to_string()).unwrap_or_default(),
        }))
    }
}

impl Services {
    /// A batch that is there.
    pub(super) async fn batch(
        &self,
        permit: &Permit,
        environment: EnvironmentId,
        id: &str,
    ) -> Result<Batch, Status> {
        let found = self.store.find_batch(environment, id).await.map_err(|error| status::store(&error))?;
        found.ok_or_else(|| {
            let sentence = format!("there is no batch {id:?} in environment {environment}");
            permit.nothing_there(ErrorReason::BatchNotFound, sentence)
        })
    }

    async fn named(&self, permit: &Permit, environment: &str, id: String) -> Result<Batch, Status> {
        permit.in_named(environment)?;
        let mut fields = Fields::default();
        let environment = fields.environment(environment);
        let id = fields.batch_id("batch_id", id);
        let environment = fields.done(environment)?;
        self.batch(permit, environment, &id).await
    }

    async fn steered(
        &self,
        permit: &Permit,
        environment: &str,
        id: String,
        reason: String,
        ticket: String,
    ) -> Result<(Batch, String, String), Status> {
        permit.in_named(environment)?;
        let mut fields = Fields::default();
        let environment = fields.environment(environment);
        let id = fields.batch_id("batch_id", id);
        let reason = fields.text("reason", reason, REASON_AT_MOST);
        let ticket = fields.text("ticket", ticket, TICKET_AT_MOST);
        let environment = fields.done(environment)?;
        if self.draining.is_cancelled() {
            return Err(status::draining());
        }
        Ok((self.batch(permit, environment, &id).await?, reason, ticket))
    }

    /// The batch as it stands now.
    pub(super) async fn whole(&self, batch: &Batch) -> Result<Batch, Status> {
        let key = BatchKey { lane: batch.header.environment.lane(), number: batch.number };
        let found = self.store.find_batches(&[key]).await.map_err(|error| status::store(&error))?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| ErrorReason::BatchNotFound.status("the batch is not there any more"))
    }

    async fn now(&self, batch: &Batch) -> Result<v1::Batch, Status> {
        Ok(self.view(&self.whole(batch).await?).await)
    }

    async fn conflict(&self, batch: &Batch, remedy: &str) -> Status {
        let state = self.whole(batch).await.map_or(batch.state, |now| now.state);
        let state = format!("{state:?}").to_uppercase();
        ErrorReason::BatchStateConflict.status(format!("the batch is {state}: {remedy}"))
    }

    /// A batch, and what it waits for.
    async fn view(&self, batch: &Batch) -> v1::Batch {
        let waits = batch.state == State::Running && batch.counts.pending() > 0;
        let environment = match waits {
            true => self.store.find_environment(batch.header.environment).await.ok(),
            false => None,
        };
        message(batch, environment.as_ref())
    }

    /// The batch whenever it has changed, until it has ended.
    async fn follow_batch(
        &self,
        first: Batch,
        deadline: Option<Instant>,
        updates: &mpsc::Sender<Result<v1::WatchBatchResponse, Status>>,
    ) -> Result<(), Status> {
        let began = Instant::now();
        let mut batch = first;
        let mut sent = None;
        loop {
            let view = self.view(&batch).await;
            if sent.as_ref() != Some(&view) {
                sent = Some(view.clone());
                if updates.send(Ok(v1::WatchBatchResponse { batch: Some(view) })).await.is_err() {
                    return Ok(());
                }
            }
            if batch.state.is_final() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = updates.closed() => return Ok(()),
                end = self.stream_ends(began, deadline) => return Err(end),
            }
            batch = self.whole(&batch).await?;
        }
    }
}

pub(super) fn token(text: &str) -> Option<BatchNumber> {
    let number = text.strip_prefix("batches-")?.parse::<i64>().ok().filter(|number| *number > 1)?;
    Some(BatchNumber::from_stored(number))
}

/// A batch in the contract's terms. `environment`: where it waits for it.
pub(super) fn message(batch: &Batch, environment: Option<&crate::environment::Environment>) -> v1::Batch {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let (header, counts) = (&batch.header, &batch.counts);
    v1::Batch {
        batch_id: header.id.clone(),
        environment_id: header.environment.to_string(),
        state: match batch.state {
            State::Uploading => Told::Uploading,
            State::Running => Told::Running,
            State::Paused => Told::Paused,
            State::Done => Told::Done,
            State::Cancelled => Told::Cancelled,
            State::Cancelling => Told::Cancelling,
        }
        .into(),
        state_reason: batch.state_reason.clone(),
        target_count: count(batch.next_offset),
        pending_count: count(counts.pending()),
        succeeded_count: count(counts.succeeded),
        failed_count: count(counts.failed),
        cancelled_count: count(counts.cancelled),
        expired_count: count(counts.expired),
        rejected_count: count(counts.rejected),
        create_time: Some(convert::timestamp(batch.created_at)),
        complete_time: batch.completed_at.map(convert::timestamp),
        estimated_complete_time: estimate(batch, environment).map(convert::timestamp),
        caller: header.caller.clone(),
        reason: header.reason.clone(),
        ticket: header.ticket.clone(),
        next_offset: count(batch.next_offset),
        sealed: batch.sealed,
        running_count: i64::from(batch.running),
        expanded_count: count(counts.expanded),
        duplicate_count: count(counts.duplicate),
        current_rate: (batch.current_rate * 10.0).round() / 10.0,
        waiting_for: environment.map(waiting_for).unwrap_or_default(),
        expire_time: Some(convert::timestamp(batch.expires_at)),
        max_failure_ratio: header.max_failure_ratio,
        canary_count: i32::try_from(header.canary_count).unwrap_or(i32::MAX),
        on_behalf_of: header.on_behalf_of.clone(),
        start_when_sealed: header.start_when_sealed,
        paused_by_itself: batch.paused_by_itself && batch.state == State::Paused,
    }
}

/// What a running batch waits for: whatever its environment waits for, or its turn.
fn waiting_for(environment: &crate::environment::Environment) -> String {
    let status = environment.status.as_ref();
    match (environment.state, status.map(|status| status.effective_rate)) {
        (crate::environment::State::Sending, Some(rate)) if rate.is_finite() => {
            format!("the rate limit of its environment: {} requests/s", (rate * 10.0).round() / 10.0)
        }
        (crate::environment::State::Sending, _) => String::new(),
        _ => environment.state_reason.clone(),
    }
}

/// When it ends at the present rate; nothing where that is not known, or nothing is sent.
fn estimate(
    batch: &Batch,
    environment: Option<&crate::environment::Environment>,
) -> Option<time::OffsetDateTime> {
    if batch.state != State::Running || !batch.sealed {
        return None;
    }
    let allowed =
        environment?.status.as_ref().map(|status| status.effective_rate).filter(|rate| rate.is_finite());
    let rate = if batch.current_rate > 0.1 { batch.current_rate } else { allowed? };
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let seconds = batch.counts.pending() as f64 / rate;
    let whole = batch.now + Duration::try_from_secs_f64(seconds).ok()?;
    // Seconds are what it is good for: else every look would be news.
    whole.replace_nanosecond(0).ok()
}
