//! Streams what became of each row of a batch, in the order of their offsets.

use std::{pin::Pin, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::Status;
use tracing::Instrument as _;

use super::{Services, contacts::Contacts, convert, status};
use crate::{
    batch::{Batch, Target},
    device::{DeviceId, DeviceRef},
    job::{Reason, State},
    proto::v1::{self, target_result::Outcome},
    store::{BatchKey, TargetPlace, TargetRow},
};

/// Rows read at once.
const AT_ONCE: u32 = 500;
/// Who follows looks this often for what has not ended.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) type Results = Pin<Box<dyn Stream<Item = Result<v1::StreamBatchResultsResponse, Status>> + Send>>;
type Sender = mpsc::Sender<Result<v1::StreamBatchResultsResponse, Status>>;

/// Which results.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) from: u64,
    pub(super) failures_only: bool,
    pub(super) follow: bool,
}

impl Services {
    pub(super) fn results(&self, batch: Batch, wish: Wish, deadline: Option<Instant>) -> Results {
        let (sender, receiver) = mpsc::channel(2);
        let services = self.clone();
        let sending = async move {
            if let Err(end) = services.send_results(batch, wish, deadline, &sender).await {
                let _ = sender.send(Err(end)).await;
            }
        };
        tokio::spawn(sending.in_current_span());
        Box::pin(ReceiverStream::new(receiver))
    }

    async fn send_results(
        &self,
        mut batch: Batch,
        wish: Wish,
        deadline: Option<Instant>,
        sender: &Sender,
    ) -> Result<(), Status> {
        let began = Instant::now();
        let environment = batch.header.environment;
        let key = BatchKey { lane: environment.lane(), number: batch.number };
        let mut from: TargetPlace = (wish.from, 0);
        loop {
            let rows = self.store.find_target_rows(environment, key, from, AT_ONCE).await;
            let rows = rows.map_err(|error| status::store(&error))?;
            let full = rows.len() == AT_ONCE as usize;
            let ready = whole_rows(&rows, wish.follow, full);
            let whole = ready == rows.len();
            if let Some(last) = rows[..ready].last() {
                from = (last.place.0, last.place.1 + 1);
            }
            let last = !(wish.follow && !(whole && batch.state.is_final()) || full);
            // A full page that is all told is part of one row: whoever resumes gets that row from its start.
            let next = from.0 + u64::from(from.1 > 0 && !(full && whole));
            let answer = page(&batch, &rows[..ready], next, wish.failures_only);
            if (last || !answer.results.is_empty()) && sender.send(Ok(answer)).await.is_err() {
                return Ok(());
            }
            if last {
                return Ok(());
            }
            if full && ready > 0 {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = sender.closed() => return Ok(()),
                end = self.stream_ends(began, deadline) => return Err(end),
            }
            // Read before the rows: once it has ended, no row can come that is not seen.
            batch = self.whole(&batch).await?;
        }
    }
}

/// How many of `rows` are told now: up to the first without its result where it is waited for, and all of an offset at once.
fn whole_rows(rows: &[TargetRow], follow: bool, more: bool) -> usize {
    let ended = match follow {
        true => rows.iter().take_while(|row| row.has_ended()).count(),
        false => rows.len(),
    };
    let offset = |row: &TargetRow| row.place.0;
    let waits_for_rest = rows.get(ended).or_else(|| rows.last().filter(|_| more)).map(offset);
    match waits_for_rest.map(|of| rows.partition_point(|row| offset(row) < of)) {
        // All devices of one user, more than fit: they come in several messages.
        Some(0) if more && ended == rows.len() => ended,
        Some(before) => before,
        None => ended,
    }
}

fn page(batch: &Batch, rows: &[TargetRow], next: u64, failures_only: bool) -> v1::StreamBatchResultsResponse {
    let results = rows
        .iter()
        .filter(|row| !row.stands_for_others())
        .map(|row| result(batch, row))
        .filter(|result| !failures_only || !went_well(result))
        .collect();
    v1::StreamBatchResultsResponse { results, next_offset: i64::try_from(next).unwrap_or(i64::MAX) }
}

fn went_well(result: &v1::TargetResult) -> bool {
    result.state() == v1::job::State::Succeeded
}

fn result(batch: &Batch, row: &TargetRow) -> v1::TargetResult {
    let Target { named, client_reference } = &row.target;
    let (user_id, device_id) = match named {
        Ok(named) if named.device == DeviceId::EVERY => (named.user.to_string(), String::new()),
        Ok(named) => (named.user.to_string(), named.device.to_string()),
        Err(refused) => (refused.user.clone(), refused.device.clone()),
    };
    let error = match named {
        Err(refused) => Some(v1::JobError {
            reason: refused.reason.clone(),
            message: refused.message.clone(),
            ..v1::JobError::default()
        }),
        Ok(_) => row.error.clone().map(convert::error),
    };
    let device = named.as_ref().ok().zip(row.snapshot.as_ref()).map(|(named, snapshot)| {
        let named =
            DeviceRef { environment: batch.header.environment, user: named.user, device: named.device };
        // Only how it stands is told of it.
        convert::device(&named, snapshot, Contacts::Masked)
    });
    // Of a row by user, the device is none that was sent.
    let (sent_device, found_device) = match row.place.1 {
        0 => (device_id, String::new()),
        _ => (String::new(), device_id),
    };
    v1::TargetResult {
        offset: i64::try_from(row.place.0).unwrap_or(i64::MAX),
        target: Some(v1::BatchTarget {
            user_id,
            device_id: sent_device,
            client_reference: client_reference.clone(),
        }),
        job_id: row.job.map(|job| job.to_string()).unwrap_or_default(),
        state: row.state.map_or(0, |state| i32::from(state.number())),
        error,
        attempt_count: i32::try_from(row.attempts).unwrap_or(i32::MAX),
        complete_time: row.completed_at.map(convert::timestamp),
        block_status: device.as_ref().map(|device| device.block_status.clone()).unwrap_or_default(),
        lock_status: device.as_ref().map(|device| device.lock_status.clone()).unwrap_or_default(),
        lock_expire_time: device.and_then(|device| device.lock_expire_time),
        outcome: outcome(row).into(),
        device_id: found_device,
        sub_index: i32::try_from(row.place.1).unwrap_or(i32::MAX),
    }
}

fn outcome(row: &TargetRow) -> Outcome {
    if row.target.named.is_err() {
        return Outcome::Rejected;
    }
    let none_blocked = row.error.as_ref().is_some_and(|error| error.reason == Reason::NoBlockedDevice);
    match row.state {
        Some(_) if row.duplicate => Outcome::Duplicate,
        None | Some(State::Pending | State::Running) => Outcome::Pending,
        Some(State::Succeeded) => Outcome::Unblocked,
        Some(State::Failed) if none_blocked => Outcome::NoneBlocked,
        Some(State::Failed) => Outcome::Failed,
        Some(State::Cancelled) => Outcome::Cancelled,
        Some(State::Expired) => Outcome::Expired,
    }
}
