//! One batch of a test: made, uploaded, looked at, steered; and whether its counts are those of its results.

use std::{collections::BTreeSet, net::SocketAddr};

use pingone_unblock::proto::v1::{
    self, BatchHeader, BatchTarget, TargetResult, batch::State, batch_service_client::BatchServiceClient,
    bulk_unblock_request::Kind, device_service_client::DeviceServiceClient, target_result::Outcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use uuid::Uuid;

use super::{
    Result,
    service::{Service, eventually},
};

/// A batch, asked for at one replica.
#[derive(Clone)]
pub(crate) struct Bulk {
    pub(crate) devices: DeviceServiceClient<Channel>,
    pub(crate) batches: BatchServiceClient<Channel>,
    pub(crate) header: BatchHeader,
}

/// A header of a new batch in a new environment, with nothing special to it.
pub(crate) fn header() -> BatchHeader {
    BatchHeader {
        batch_id: format!("batch-{}", Uuid::new_v4().simple()),
        environment_id: Uuid::new_v4().to_string(),
        ..BatchHeader::default()
    }
}

/// A row that names a new device of a new user.
pub(crate) fn row() -> BatchTarget {
    row_of(Uuid::new_v4(), Some(Uuid::new_v4()))
}

pub(crate) fn rows(count: usize) -> Vec<BatchTarget> {
    (0..count).map(|_| row()).collect()
}

pub(crate) fn row_of(user: Uuid, device: Option<Uuid>) -> BatchTarget {
    BatchTarget {
        user_id: user.to_string(),
        device_id: device.map(|device| device.to_string()).unwrap_or_default(),
        client_reference: String::new(),
    }
}

/// An upload, message by message.
pub(crate) struct Upload {
    messages: mpsc::Sender<v1::BulkUnblockRequest>,
    answers: Streaming<v1::BulkUnblockResponse>,
}

impl Upload {
    /// Says one message; its acknowledgement.
    pub(crate) async fn say(&mut self, kind: Kind) -> Result<v1::BulkUnblockResponse, Status> {
        // Where it fails the stream has ended, and reading says why.
        let _ = self.messages.send(v1::BulkUnblockRequest { kind: Some(kind) }).await;
        self.answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))
    }

    pub(crate) async fn targets(
        &mut self,
        offset: usize,
        targets: &[BatchTarget],
    ) -> Result<v1::BulkUnblockResponse, Status> {
        self.say(Kind::Targets(stretch(offset, targets))).await
    }

    pub(crate) async fn seal(&mut self, rows: usize) -> Result<v1::BulkUnblockResponse, Status> {
        self.say(Kind::Seal(seal(rows))).await
    }
}

pub(crate) fn stretch(offset: usize, targets: &[BatchTarget]) -> v1::BatchTargets {
    v1::BatchTargets { offset: number(offset), targets: targets.to_vec() }
}

pub(crate) fn seal(rows: usize) -> v1::BatchSeal {
    v1::BatchSeal { target_count: number(rows) }
}

pub(crate) fn number(count: usize) -> i64 {
    i64::try_from(count).expect("a small number")
}

pub(crate) fn channel_to(address: SocketAddr) -> Result<Channel> {
    Ok(Channel::from_shared(format!("http://{address}"))?.connect_lazy())
}

impl Bulk {
    pub(crate) fn at(service: &Service, header: BatchHeader) -> Result<Self> {
        Ok(Self::over(&channel_to(service.address)?, header))
    }

    pub(crate) fn over(channel: &Channel, header: BatchHeader) -> Self {
        Self {
            devices: DeviceServiceClient::new(channel.clone()),
            batches: BatchServiceClient::new(channel.clone()),
            header,
        }
    }

    /// A stream whose first message has not been said.
    pub(crate) async fn silent(&self) -> Result<Upload, Status> {
        let (messages, given) = mpsc::channel(16);
        let answers = self.devices.clone().bulk_unblock(ReceiverStream::new(given)).await?.into_inner();
        Ok(Upload { messages, answers })
    }

    /// A stream, and the answer to its header.
    pub(crate) async fn open(&self) -> Result<(Upload, v1::BulkUnblockResponse), Status> {
        let mut upload = self.silent().await?;
        let answer = upload.say(Kind::Header(self.header.clone())).await?;
        Ok((upload, answer))
    }

    /// Uploads all of `rows` and seals.
    pub(crate) async fn upload(&self, rows: &[BatchTarget]) -> Result<v1::Batch> {
        let mut upload = self.fill(rows).await?;
        Ok(upload.seal(rows.len()).await?.batch.ok_or("a seal without a batch")?)
    }

    /// Uploads all of `rows`.
    pub(crate) async fn fill(&self, rows: &[BatchTarget]) -> Result<Upload> {
        let (mut upload, _) = self.open().await?;
        for (number, part) in rows.chunks(1000).enumerate() {
            upload.targets(number * 1000, part).await?;
        }
        Ok(upload)
    }

    /// Rows by a single call.
    pub(crate) async fn append(
        &self,
        offset: usize,
        targets: &[BatchTarget],
        sealed_at: Option<usize>,
    ) -> Result<v1::AppendBatchTargetsResponse, Status> {
        let asked = v1::AppendBatchTargetsRequest {
            header: Some(self.header.clone()),
            targets: (!targets.is_empty()).then(|| stretch(offset, targets)),
            seal: sealed_at.map(seal),
        };
        Ok(self.devices.clone().append_batch_targets(asked).await?.into_inner())
    }

    pub(crate) async fn get(&self) -> Result<v1::Batch, Status> {
        let BatchHeader { environment_id, batch_id, .. } = self.header.clone();
        let asked = v1::GetBatchRequest { environment_id, batch_id };
        let answer = self.batches.clone().get_batch(asked).await?.into_inner();
        answer.batch.ok_or_else(|| Status::internal("a reply without a batch"))
    }

    /// The batch once `so` holds.
    pub(crate) async fn when(&self, what: &str, so: impl Fn(&v1::Batch) -> bool) -> Result<v1::Batch> {
        let mut last = None;
        let reached = eventually(what, async || {
            let batch = self.get().await?;
            let there = so(&batch);
            last = Some(batch);
            Ok(there)
        })
        .await;
        reached.map_err(|error| format!("{error}; it is {last:?}"))?;
        Ok(last.ok_or("no batch")?)
    }

    pub(crate) async fn when_in(&self, state: State) -> Result<v1::Batch> {
        self.when(state.as_str_name(), |batch| batch.state() == state).await
    }

    /// The batch in this final state and its results, which agree.
    pub(crate) async fn ended(&self, state: State) -> Result<(v1::Batch, Vec<TargetResult>)> {
        self.when_in(state).await?;
        let (batch, results) = self.exact().await?;
        assert_eq!((batch.pending_count, batch.running_count), (0, 0), "{batch:?}");
        assert!(batch.complete_time.is_some(), "{batch:?}");
        Ok((batch, results))
    }

    /// The batch and its results, which agree: of a moment when nothing changed.
    pub(crate) async fn exact(&self) -> Result<(v1::Batch, Vec<TargetResult>)> {
        let ended = |batch: &v1::Batch| batch.target_count - batch.pending_count;
        let mut seen = None;
        eventually("nothing changes", async || {
            let (before, results, after) = (self.get().await?, self.results().await?, self.get().await?);
            let still = (before.state, ended(&before)) == (after.state, ended(&after));
            seen = Some((after, results));
            Ok(still)
        })
        .await?;
        let (batch, results) = seen.ok_or("nothing was seen")?;
        agree(&batch, &results);
        Ok((batch, results))
    }

    pub(crate) fn asks_results(&self) -> v1::StreamBatchResultsRequest {
        let BatchHeader { environment_id, batch_id, .. } = self.header.clone();
        v1::StreamBatchResultsRequest { environment_id, batch_id, ..Default::default() }
    }

    /// Every message of a stream of results, to its end.
    pub(crate) async fn stream(
        &self,
        asked: v1::StreamBatchResultsRequest,
    ) -> Result<Vec<v1::StreamBatchResultsResponse>, Status> {
        let mut stream = self.batches.clone().stream_batch_results(asked).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// All results as they are now, in their order, each once.
    pub(crate) async fn results(&self) -> Result<Vec<TargetResult>> {
        let messages = self.stream(self.asks_results()).await?;
        Ok(in_order(&messages))
    }

    pub(crate) async fn pause(&self) -> Result<v1::Batch, Status> {
        let BatchHeader { environment_id, batch_id, .. } = self.header.clone();
        let asked = v1::PauseBatchRequest { environment_id, batch_id, ..Default::default() };
        let answer = self.batches.clone().pause_batch(asked).await?.into_inner();
        answer.batch.ok_or_else(|| Status::internal("a reply without a batch"))
    }

    pub(crate) async fn resume(&self) -> Result<v1::Batch, Status> {
        let BatchHeader { environment_id, batch_id, .. } = self.header.clone();
        let asked = v1::ResumeBatchRequest { environment_id, batch_id, ..Default::default() };
        let answer = self.batches.clone().resume_batch(asked).await?.into_inner();
        answer.batch.ok_or_else(|| Status::internal("a reply without a batch"))
    }

    pub(crate) async fn cancel(&self) -> Result<v1::Batch, Status> {
        let BatchHeader { environment_id, batch_id, .. } = self.header.clone();
        let asked = v1::CancelBatchRequest { environment_id, batch_id, ..Default::default() };
        let answer = self.batches.clone().cancel_batch(asked).await?.into_inner();
        answer.batch.ok_or_else(|| Status::internal("a reply without a batch"))
    }

    pub(crate) async fn retry(&self) -> Result<v1::Batch, Status> {
        let BatchHeader { environment_id, batch_id, .. } = self.header.clone();
        let asked = v1::RetryBatchRequest { environment_id, batch_id, ..Default::default() };
        let answer = self.batches.clone().retry_batch(asked).await?.into_inner();
        answer.batch.ok_or_else(|| Status::internal("a reply without a batch"))
    }
}

/// The results of a stream's messages, whose order is right and in which none stands twice.
pub(crate) fn in_order(messages: &[v1::StreamBatchResultsResponse]) -> Vec<TargetResult> {
    let results: Vec<_> = messages.iter().flat_map(|message| message.results.clone()).collect();
    let place = |result: &TargetResult| (result.offset, result.sub_index);
    assert!(results.windows(2).all(|two| place(&two[0]) < place(&two[1])), "the order of their offsets");
    for message in messages {
        let beyond = message.results.iter().any(|result| result.offset >= message.next_offset);
        assert!(!beyond, "next_offset {} stands behind what was told", message.next_offset);
    }
    results
}

pub(crate) fn having(results: &[TargetResult], outcome: Outcome) -> Vec<&TargetResult> {
    results.iter().filter(|result| result.outcome() == outcome).collect()
}

/// Each row is in exactly one count, and each count is that of the results.
pub(crate) fn agree(batch: &v1::Batch, results: &[TargetResult]) {
    let count = |outcome| number(having(results, outcome).len());
    let expanded = results.iter().filter(|result| {
        result.sub_index > 0 && !matches!(result.outcome(), Outcome::Rejected | Outcome::Duplicate)
    });
    let offsets: BTreeSet<i64> = results.iter().map(|result| result.offset).collect();
    let of_results = [
        ("rows", number(offsets.len())),
        ("pending", count(Outcome::Pending)),
        ("succeeded", count(Outcome::Unblocked)),
        ("failed", count(Outcome::Failed) + count(Outcome::NoneBlocked)),
        ("cancelled", count(Outcome::Cancelled)),
        ("expired", count(Outcome::Expired)),
        ("rejected", count(Outcome::Rejected)),
        ("duplicate", count(Outcome::Duplicate)),
        ("expanded", number(expanded.count())),
    ];
    let of_batch = [
        ("rows", batch.target_count),
        ("pending", batch.pending_count),
        ("succeeded", batch.succeeded_count),
        ("failed", batch.failed_count),
        ("cancelled", batch.cancelled_count),
        ("expired", batch.expired_count),
        ("rejected", batch.rejected_count),
        ("duplicate", batch.duplicate_count),
        ("expanded", batch.expanded_count),
    ];
    assert_eq!(of_batch, of_results, "the counts of the batch and those of its results");
    assert_eq!(batch.next_offset, batch.target_count);
}
