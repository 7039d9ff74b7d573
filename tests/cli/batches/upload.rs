//! The side that takes uploads.

use std::time::Duration;

use pingone_unblock::proto::v1::{
    AppendBatchTargetsRequest, AppendBatchTargetsResponse, BatchHeader, BatchTarget, BulkUnblockRequest,
    BulkUnblockResponse, GetDeviceRequest, GetDeviceResponse, ListUserDevicesRequest,
    ListUserDevicesResponse, UnblockRequest, UnblockResponse, bulk_unblock_request::Kind,
    device_service_server::DeviceService,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Fault, Shared, batch};

#[async_trait]
impl DeviceService for Shared {
    type BulkUnblockStream = ReceiverStream<Result<BulkUnblockResponse, Status>>;

    async fn bulk_unblock(
        &self,
        request: Request<Streaming<BulkUnblockRequest>>,
    ) -> Result<Response<Self::BulkUnblockStream>, Status> {
        let fault = self.lock().faults.pop_front();
        if let Some(Fault::Refused(status)) = fault {
            return Err(status);
        }
        let (answers, stream) = mpsc::channel(64);
        let (shared, messages) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = shared.take(messages, fault, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn unblock(&self, _: Request<UnblockRequest>) -> Result<Response<UnblockResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn append_batch_targets(
        &self,
        _: Request<AppendBatchTargetsRequest>,
    ) -> Result<Response<AppendBatchTargetsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_user_devices(
        &self,
        _: Request<ListUserDevicesRequest>,
    ) -> Result<Response<ListUserDevicesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_device(&self, _: Request<GetDeviceRequest>) -> Result<Response<GetDeviceResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

type Acknowledgements = mpsc::Sender<Result<BulkUnblockResponse, Status>>;

impl Shared {
    /// Takes one upload stream to its end.
    async fn take(
        &self,
        mut messages: Streaming<BulkUnblockRequest>,
        fault: Option<Fault>,
        answers: &Acknowledgements,
    ) -> Result<(), Status> {
        let Some(BulkUnblockRequest { kind: Some(Kind::Header(header)) }) = messages.message().await? else {
            return Err(Status::invalid_argument("The header comes first."));
        };
        let key = (header.environment_id.clone(), header.batch_id.clone());
        {
            let mut kept = self.lock();
            kept.streams.push(Vec::new());
            let stored = kept.batches.entry(key.clone()).or_default();
            if stored.header != BatchHeader::default() && stored.header != header {
                return Err(Status::invalid_argument("The batch has another header."));
            }
            stored.header = header;
        }
        self.acknowledge(&key, true, answers).await;
        let mut waiting = matches!(fault, Some(Fault::Waits));
        let mut unacknowledged = 0;
        let mut taken = 0;
        loop {
            let message = match timeout(Duration::from_millis(100), messages.message()).await {
                Ok(message) => message?,
                Err(_) if waiting => {
                    waiting = false;
                    self.lock().most_unacknowledged = unacknowledged;
                    for _ in 0..unacknowledged {
                        self.acknowledge(&key, false, answers).await;
                    }
                    continue;
                }
                Err(_) => messages.message().await?,
            };
            match message.and_then(|message| message.kind) {
                Some(Kind::Targets(targets)) => {
                    self.store(&key, targets.offset, targets.targets)?;
                    taken += 1;
                    if waiting {
                        unacknowledged += 1;
                        continue;
                    }
                    match fault {
                        Some(Fault::BreaksAfter(at)) if taken == at => {
                            return Err(Status::unavailable("The server goes away."));
                        }
                        Some(Fault::BreaksAfter(at)) if taken > at / 2 => {}
                        _ => self.acknowledge(&key, false, answers).await,
                    }
                }
                Some(Kind::Seal(seal)) => {
                    let count = {
                        let mut kept = self.lock();
                        let stored = kept.batches.entry(key.clone()).or_default();
                        stored.sealed = true;
                        stored.targets.len()
                    };
                    if usize::try_from(seal.target_count) != Ok(count) {
                        return Err(Status::failed_precondition("The count is another."));
                    }
                    self.acknowledge(&key, true, answers).await;
                }
                Some(Kind::Header(_)) => return Err(Status::invalid_argument("One header is enough.")),
                None => return Ok(()),
            }
        }
    }

    fn store(&self, key: &(String, String), offset: i64, targets: Vec<BatchTarget>) -> Result<(), Status> {
        let mut kept = self.lock();
        if let Some(stream) = kept.streams.last_mut() {
            stream.push((offset, targets.len()));
        }
        let stored = kept.batches.entry(key.clone()).or_default();
        if usize::try_from(offset) != Ok(stored.targets.len()) {
            return Err(Status::out_of_range("There is a gap."));
        }
        stored.targets.extend(targets);
        Ok(())
    }

    async fn acknowledge(&self, key: &(String, String), with_batch: bool, answers: &Acknowledgements) {
        let answer = {
            let kept = self.lock();
            let stored = &kept.batches[key];
            BulkUnblockResponse {
                batch: with_batch.then(|| batch(stored, None)),
                next_offset: i64::try_from(stored.targets.len()).unwrap_or_default(),
                rejections: Vec::new(),
            }
        };
        let _ = answers.send(Ok(answer)).await;
    }
}
