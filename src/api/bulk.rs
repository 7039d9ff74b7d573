//! Uploads of batches: by a stream, acknowledged message by message, or by single calls.

use std::{collections::HashMap, pin::Pin, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

use super::{
    Services, batch_service, deadline,
    fields::{Fields, ON_BEHALF_OF_AT_MOST, REASON_AT_MOST, TICKET_AT_MOST},
    permit::Permit,
    status::{self, ErrorReason},
};
use crate::{
    batch::{Header, Named, Refused, Target},
    device::{DeviceId, UserId},
    engine::Upload,
    proto::v1::{self, bulk_unblock_request::Kind},
    store::{Opened, Refusal, Unfit},
};

const TIME_TO_LIVE: Duration = Duration::from_secs(24 * 3600);
const TARGETS_AT_MOST: usize = 1000;
const REFERENCE_AT_MOST: usize = 100;
/// Of a wrong id so much is kept, in characters.
const GIVEN_AT_MOST: usize = 100;
/// Acknowledgements under way to a caller that does not read: then nothing more of it is read.
const ACKNOWLEDGED_AHEAD: usize = 4;

pub(super) type Acknowledgements =
    Pin<Box<dyn Stream<Item = Result<v1::BulkUnblockResponse, Status>> + Send>>;
type Sender = mpsc::Sender<Result<v1::BulkUnblockResponse, Status>>;

impl Services {
    pub(super) fn upload(
        &self,
        request: Request<Streaming<v1::BulkUnblockRequest>>,
        permit: Permit,
    ) -> Response<Acknowledgements> {
        let deadline = deadline::Deadline::of(&request);
        let (sender, receiver) = mpsc::channel(ACKNOWLEDGED_AHEAD);
        let services = self.clone();
        let uploading = async move {
            if let Err(status) = services.take_upload(request.into_inner(), &permit, deadline, &sender).await
            {
                // Who no longer listens is told nothing.
                let _ = sender.send(Err(status)).await;
            }
        };
        tokio::spawn(uploading.in_current_span());
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }

    /// One message in, one acknowledgement out.
    async fn take_upload(
        &self,
        mut messages: Streaming<v1::BulkUnblockRequest>,
        permit: &Permit,
        deadline: Option<Instant>,
        sender: &Sender,
    ) -> Result<(), Status> {
        let began = Instant::now();
        let mut upload: Option<Upload> = None;
        loop {
            let message = tokio::select! {
                message = messages.message() => message?,
                () = sender.closed() => return Ok(()),
                end = self.stream_ends(began, deadline) => return Err(end),
            };
            let Some(message) = message else { return Ok(()) };
            let answer = match (message.kind, &upload) {
                (Some(Kind::Header(given)), None) => {
                    let mut opened = self.open(header(given, permit)?, permit).await?;
                    let taken = self.control.take_upload(&mut opened).await;
                    taken.map_err(|error| status::store(&error))?;
                    let batch = batch_service::message(&self.whole(&opened.batch).await?, None);
                    let next_offset = batch.next_offset;
                    upload = Some(opened);
                    v1::BulkUnblockResponse { batch: Some(batch), next_offset, rejections: Vec::new() }
                }
                (Some(Kind::Targets(given)), Some(upload)) => {
                    self.take_targets(upload, permit, given).await?
                }
                (Some(Kind::Seal(given)), Some(upload)) => {
                    let batch = self.take_seal(upload, permit, &given).await?;
                    let next_offset = batch.next_offset;
                    v1::BulkUnblockResponse { batch: Some(batch), next_offset, rejections: Vec::new() }
                }
                (Some(Kind::Header(_)), Some(_)) => return Err(wrong("header", "comes first and once")),
                (Some(_), None) => {
                    return Err(wrong("header", "is missing: it is the first message of a stream"));
                }
                (None, _) => return Err(wrong("kind", "is missing: give a header, targets or the seal")),
            };
            if sender.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
        }
    }

    pub(super) async fn append(
        &self,
        given: v1::AppendBatchTargetsRequest,
        permit: &Permit,
    ) -> Result<v1::AppendBatchTargetsResponse, Status> {
        let Some(given_header) = given.header else {
            return Err(wrong("header", "is missing: it names the batch"));
        };
        // Whoever sends single calls writes beside others: the offsets keep them in order.
        let upload = self.open(header(given_header, permit)?, permit).await?;
        let mut rejections = Vec::new();
        if let Some(targets) = given.targets {
            rejections = self.take_targets(&upload, permit, targets).await?.rejections;
        }
        if let Some(seal) = given.seal {
            self.take_seal(&upload, permit, &seal).await?;
        }
        let batch = batch_service::message(&self.whole(&upload.batch).await?, None);
        let next_offset = batch.next_offset;
        Ok(v1::AppendBatchTargetsResponse { batch: Some(batch), next_offset, rejections })
    }

    async fn open(&self, header: Header, permit: &Permit) -> Result<Upload, Status> {
        if !self.control.serves(header.environment) {
            return Err(permit.not_served(header.environment));
        }
        if self.draining.is_cancelled() {
            return Err(status::draining());
        }
        let actor = permit.actor();
        match self.control.open_batch(&header, &actor).await.map_err(|error| status::store(&error))? {
            Opened::Open(batch) => Ok(Upload { batch: *batch, number: None, actor }),
            Opened::Differs("batch_id") => Err(ErrorReason::BatchIdReused
                .status("this batch_id stands for another caller's batch: take another")),
            Opened::Differs(field) => Err(ErrorReason::BatchIdReused.status(format!(
                "this batch_id stands for a batch with another {field}: send the same header, or take another batch_id"
            ))),
        }
    }

    async fn take_targets(
        &self,
        upload: &Upload,
        permit: &Permit,
        given: v1::BatchTargets,
    ) -> Result<v1::BulkUnblockResponse, Status> {
        if given.targets.len() > TARGETS_AT_MOST {
            let remedy = format!("has {} rows: give at most {TARGETS_AT_MOST}", given.targets.len());
            return Err(wrong("targets", &remedy));
        }
        let Ok(offset) = u64::try_from(given.offset) else {
            return Err(wrong("targets.offset", "is negative: count from 0 over the whole batch"));
        };
        let targets: Vec<Target> = given.targets.into_iter().map(target).collect();
        let appended = self.control.append(upload, offset, &targets).await;
        let appended = appended
            .map_err(|error| status::submit(&error))?
            .map_err(|unfit| refused(&unfit, upload, permit))?;
        let refusals: HashMap<u64, Refusal> = appended.refused.into_iter().collect();
        let rejections = (offset..).zip(&targets).filter_map(|(offset, target)| {
            let (reason, message) = match (&target.named, refusals.get(&offset)) {
                (Err(refused), _) => (&refused.reason, &refused.message),
                (Ok(_), Some(refusal)) => (&refusal.reason, &refusal.message),
                (Ok(_), None) => return None,
            };
            Some(v1::TargetRejection {
                offset: i64::try_from(offset).unwrap_or(i64::MAX),
                client_reference: target.client_reference.clone(),
                reason: reason.clone(),
                message: message.clone(),
            })
        });
        Ok(v1::BulkUnblockResponse {
            batch: None,
            next_offset: i64::try_from(appended.next_offset).unwrap_or(i64::MAX),
            rejections: rejections.collect(),
        })
    }

    async fn take_seal(
        &self,
        upload: &Upload,
        permit: &Permit,
        given: &v1::BatchSeal,
    ) -> Result<v1::Batch, Status> {
        let Ok(rows) = u64::try_from(given.target_count) else {
            return Err(wrong("seal.target_count", "is negative: give the number of rows"));
        };
        let sealed = self.control.seal(upload, rows).await.map_err(|error| status::store(&error))?;
        sealed.map_err(|unfit| refused(&unfit, upload, permit))?;
        Ok(batch_service::message(&self.whole(&upload.batch).await?, None))
    }
}

fn wrong(field: &str, remedy: &str) -> Status {
    let mut fields = Fields::default();
    fields.wrong(field, remedy);
    fields.done::<()>(None).err().unwrap_or_else(|| Status::internal("no field is wrong"))
}

fn refused(unfit: &Unfit, upload: &Upload, permit: &Permit) -> Status {
    match unfit {
        Unfit::Unknown => ErrorReason::BatchNotFound.status("the batch is not there any more"),
        Unfit::Superseded => ErrorReason::UploadSuperseded
            .status("a newer stream writes this batch: only one may, and the newest does"),
        Unfit::Gap { next_offset } => ErrorReason::OffsetGap
            .status(format!("rows are missing before these: go on from offset {next_offset}")),
        Unfit::Conflict { offset } => ErrorReason::OffsetConflict.status(format!(
            "row {offset} was recorded otherwise: a row never changes; put other rows into another batch"
        )),
        Unfit::Sealed { rows } => ErrorReason::BatchStateConflict
            .status(format!("the batch is sealed with {rows} rows: put more into another batch")),
        Unfit::Count { rows } => ErrorReason::CountMismatch.status(format!(
            "{rows} rows are recorded, not as many as the seal says: send what is missing first"
        )),
        Unfit::Cancelled => {
            ErrorReason::BatchStateConflict.status("the batch is cancelled: it takes no more rows")
        }
        Unfit::OverQuota(over) => permit.over_quota(upload.batch.header.environment, *over),
        Unfit::Expired => ErrorReason::BatchStateConflict
            .status("the time of the batch is over: put what is left into another batch"),
    }
}

fn header(given: v1::BatchHeader, permit: &Permit) -> Result<Header, Status> {
    permit.in_named(&given.environment_id)?;
    let mut fields = Fields::default();
    let environment = fields.filled_environment("header.environment_id", &given.environment_id);
    let id = fields.batch_id("header.batch_id", given.batch_id);
    let reason = fields.text("header.reason", given.reason, REASON_AT_MOST);
    let ticket = fields.text("header.ticket", given.ticket, TICKET_AT_MOST);
    let on_behalf_of = fields.text("header.on_behalf_of", given.on_behalf_of, ON_BEHALF_OF_AT_MOST);
    let on_behalf_of = permit.on_behalf_of(&mut fields, "header.on_behalf_of", on_behalf_of);
    let time_to_live = fields.time_to_live("header.time_to_live", given.time_to_live);
    if !(0.0..=1.0).contains(&given.max_failure_ratio) {
        fields.wrong("header.max_failure_ratio", "give 0 to 1, such as 0.05 for 5 %; 0: never");
    }
    let canary_count = u32::try_from(given.canary_count).ok();
    if canary_count.is_none() {
        fields.wrong("header.canary_count", "is negative: give how many are sent as a trial, or 0");
    }
    if let Some(environment) = environment {
        let said = (reason.as_str(), ticket.as_str(), Some(on_behalf_of.as_str()));
        permit.demand(&mut fields, "header.", environment, said);
    }
    let environment = fields.done(environment)?;
    Ok(Header {
        id,
        environment,
        caller: permit.caller().as_str().to_owned(),
        reason,
        ticket,
        on_behalf_of,
        time_to_live: time_to_live.unwrap_or(TIME_TO_LIVE),
        max_failure_ratio: given.max_failure_ratio,
        canary_count: canary_count.unwrap_or_default(),
        start_when_sealed: given.start_when_sealed,
    })
}

/// A row: what it names, or why it is refused. It never spoils the others.
fn target(given: v1::BatchTarget) -> Target {
    let user = UserId::parse(&given.user_id);
    let device = match given.device_id.as_str() {
        "" => Ok(DeviceId::EVERY),
        text => DeviceId::parse(text),
    };
    let mut wrong = Vec::new();
    if let Err(error) = &user {
        wrong.push(format!("user_id: {error}"));
    }
    match &device {
        Err(error) => wrong.push(format!("device_id: {error}")),
        Ok(DeviceId::EVERY) if !given.device_id.is_empty() => {
            wrong.push(
                "device_id: is no device's: give a device's id, or none for every blocked one".to_owned(),
            );
        }
        Ok(_) => {}
    }
    let length = given.client_reference.chars().count();
    if length > REFERENCE_AT_MOST || given.client_reference.chars().any(char::is_control) {
        wrong.push(format!("client_reference: give at most {REFERENCE_AT_MOST} printable characters"));
    }
    let shorten = |text: &str| text.chars().filter(|c| *c != '\0').take(GIVEN_AT_MOST).collect::<String>();
    let named = match (user, device) {
        (Ok(user), Ok(device)) if wrong.is_empty() => Ok(Named { user, device }),
        _ => Err(Refused {
            reason: ErrorReason::FieldInvalid.name().to_owned(),
            message: wrong.join("; "),
            user: shorten(&given.user_id),
            device: shorten(&given.device_id),
        }),
    };
    let client_reference = match named {
        Ok(_) => given.client_reference,
        Err(_) => {
            given.client_reference.chars().filter(|c| !c.is_control()).take(REFERENCE_AT_MOST).collect()
        }
    };
    Target { named, client_reference }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(user: &str, device: &str, reference: &str) -> Option<String> {
        let given = v1::BatchTarget {
            user_id: user.to_owned(),
            device_id: device.to_owned(),
            client_reference: reference.to_owned(),
        };
        target(given).named.err().map(|refused| refused.message)
    }

    #[test]
    fn a_row_says_all_that_is_wrong_with_it() {
        let id = "6697f628-7712-4e71-b52b-920ba0635020";
        assert_eq!(refusal(id, id, "row 1"), None);
        assert_eq!(refusal(id, "", ""), None, "every blocked device of the user");
        let both = refusal("x", "y\n", "").unwrap_or_default();
        assert!(both.contains("user_id") && both.contains("device_id"), "{both}");
        assert!(refusal(id, "00000000-0000-0000-0000-000000000000", "").is_some());
        assert!(
            refusal(id, id, &"r".repeat(101)).is_some_and(|message| message.contains("client_reference"))
        );
        assert!(refusal(id, id, "a\tb").is_some());
    }
}
