//! A gRPC server that keeps batches in memory: takes uploads, breaks where it is told to, and has every row done at once.

mod serve;
mod upload;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pingone_unblock::proto::v1::{
    Batch, BatchHeader, BatchTarget, JobError, ListBatchesRequest, StreamBatchResultsRequest, TargetResult,
    batch::State, batch_service_server::BatchServiceServer, device_service_server::DeviceServiceServer,
    target_result::Outcome,
};
use tokio::{net::TcpListener, task::AbortHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::harness::JOB;

/// What goes wrong with one upload stream.
pub(crate) enum Fault {
    /// Refused before the header is looked at.
    Refused(Status),
    /// So many messages of targets are stored, half of them acknowledged; then the stream breaks.
    BreaksAfter(usize),
    /// Nothing is acknowledged until nothing more comes.
    Waits,
}

/// What is kept of a batch.
#[derive(Default, Clone)]
pub(crate) struct Stored {
    pub(crate) header: BatchHeader,
    pub(crate) targets: Vec<BatchTarget>,
    pub(crate) sealed: bool,
}

#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) batches: BTreeMap<(String, String), Stored>,
    /// For the next streams, one each.
    pub(crate) faults: VecDeque<Fault>,
    /// What each stream sent: offset and length of its messages.
    pub(crate) streams: Vec<Vec<(i64, usize)>>,
    /// How many messages came before any was acknowledged.
    pub(crate) most_unacknowledged: usize,
    /// Every batch is PAUSED, and says this.
    pub(crate) paused: Option<String>,
    /// A watch gives one view and then no more.
    pub(crate) watches_hang: bool,
    /// A stream of results breaks after so many messages, once.
    pub(crate) results_break: Option<usize>,
    pub(crate) results: Vec<StreamBatchResultsRequest>,
    pub(crate) lists: Vec<ListBatchesRequest>,
    /// The verb, reason and ticket of each.
    pub(crate) steered: Vec<(&'static str, String, String)>,
}

/// A running server; ends when dropped.
pub(crate) struct Batches {
    kept: Shared,
    pub(crate) url: String,
    task: AbortHandle,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Kept>>);

impl Drop for Batches {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Batches {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let kept = Shared::default();
        let serving = Server::builder()
            .add_service(DeviceServiceServer::new(kept.clone()))
            .add_service(BatchServiceServer::new(kept.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(serving).abort_handle();
        Ok(Self { kept, url, task })
    }

    pub(crate) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock()
    }

    /// The only batch there is.
    pub(crate) fn only(&self) -> Stored {
        let kept = self.kept();
        assert_eq!(kept.batches.len(), 1, "one batch");
        kept.batches.values().next().cloned().unwrap_or_default()
    }
}

/// The server's queue is full for a moment.
pub(crate) fn full() -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(50)));
    Status::with_error_details(Code::ResourceExhausted, "The queue is full.", details)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self, environment_id: &str, batch_id: &str) -> Result<Batch, Status> {
        let kept = self.lock();
        let stored = kept.batches.get(&(environment_id.to_owned(), batch_id.to_owned()));
        let stored = stored.ok_or_else(|| {
            let details = ErrorDetails::with_error_info("BATCH_NOT_FOUND", "pingone-unblock", []);
            Status::with_error_details(Code::NotFound, "There is no such batch.", details)
        })?;
        Ok(batch(stored, kept.paused.as_deref()))
    }

    fn steer(&self, verb: &'static str, named: [String; 4]) -> Result<Option<Batch>, Status> {
        let [environment_id, batch_id, reason, ticket] = named;
        self.lock().steered.push((verb, reason, ticket));
        self.batch(&environment_id, &batch_id).map(Some)
    }
}

/// A batch with every row done.
fn batch(stored: &Stored, paused: Option<&str>) -> Batch {
    let outcomes: Vec<_> = (0..).zip(&stored.targets).flat_map(|(at, target)| results(at, target)).collect();
    let count = |outcome| {
        let count = outcomes.iter().filter(|result| result.outcome() == outcome).count();
        i64::try_from(count).unwrap_or_default()
    };
    let target_count = i64::try_from(stored.targets.len()).unwrap_or_default();
    let state = match paused {
        Some(_) => State::Paused,
        None if stored.sealed => State::Done,
        None => State::Running,
    };
    Batch {
        batch_id: stored.header.batch_id.clone(),
        environment_id: stored.header.environment_id.clone(),
        state: state.into(),
        state_reason: paused.unwrap_or_default().to_owned(),
        target_count,
        next_offset: target_count,
        sealed: stored.sealed,
        succeeded_count: count(Outcome::Unblocked),
        failed_count: count(Outcome::Failed) + count(Outcome::NoneBlocked),
        duplicate_count: count(Outcome::Duplicate),
        canary_count: stored.header.canary_count,
        ticket: stored.header.ticket.clone(),
        ..Batch::default()
    }
}

/// What becomes of a row stands in its reference.
fn results(offset: i64, target: &BatchTarget) -> Vec<TargetResult> {
    let one = |outcome: Outcome, sub_index: i32| TargetResult {
        offset,
        target: Some(target.clone()),
        job_id: JOB.to_owned(),
        attempt_count: 1,
        outcome: outcome.into(),
        sub_index,
        block_status: if outcome == Outcome::Unblocked { "UNBLOCKED".to_owned() } else { String::new() },
        error: (outcome == Outcome::Failed).then(|| JobError {
            reason: "UPSTREAM_NOT_FOUND".to_owned(),
            message: "PingOne knows no such device.".to_owned(),
            ..JobError::default()
        }),
        device_id: if sub_index == 0 { String::new() } else { format!("device {sub_index}") },
        ..TargetResult::default()
    };
    match target.client_reference.as_str() {
        "fail" => vec![one(Outcome::Failed, 0)],
        "twice" => vec![one(Outcome::Duplicate, 0)],
        "none" => vec![one(Outcome::NoneBlocked, 0)],
        "two" => vec![one(Outcome::Unblocked, 1), one(Outcome::Unblocked, 2)],
        _ => vec![one(Outcome::Unblocked, 0)],
    }
}
