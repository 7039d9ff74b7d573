//! Many targets of one environment, recorded once and sent inside its limits: their counts, and what becomes of the batch. Pure.

mod judge;

use std::{fmt, time::Duration};

use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    device::{DeviceId, EnvironmentId, Lane, UserId},
    job::JobId,
};

pub use judge::{Judgement, Pause, judge};

/// Names a batch within its lane: even, and rising with the time it was made. Its jobs wait in two flows, the canary first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchNumber(i64);

impl BatchNumber {
    /// For a batch made now.
    #[must_use]
    pub fn now() -> Self {
        let micros = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000;
        Self(i64::try_from(micros).unwrap_or_default().max(1) * 2)
    }

    /// A number read from the store, whose constraint keeps it even.
    #[must_use]
    pub const fn from_stored(number: i64) -> Self {
        Self(number)
    }

    /// As the store keeps it.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The flow of the jobs that are sent first, as a trial.
    #[must_use]
    pub const fn canary_flow(self) -> i64 {
        self.0
    }

    /// The flow of all others.
    #[must_use]
    pub const fn flow(self) -> i64 {
        self.0 + 1
    }

    /// The batch whose jobs wait in `flow`; nothing where they are of none.
    #[must_use]
    pub const fn of_flow(flow: i64) -> Option<Self> {
        if flow > 1 { Some(Self(flow - flow % 2)) } else { None }
    }

    /// The id of the batch's job for that device: always the same, so that a device that stands in two rows has one job.
    #[must_use]
    pub fn job(self, lane: Lane, user: UserId, device: DeviceId) -> JobId {
        let mut hash = Sha256::new();
        hash.update(self.0.to_be_bytes());
        hash.update(user.as_uuid());
        hash.update(device.as_uuid());
        let mut random = [0; 10];
        random.copy_from_slice(&hash.finalize()[..10]);
        let millis = u64::try_from(self.0 / 2000).unwrap_or_default();
        JobId::in_lane(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid(), lane)
    }

    /// The ids of all its jobs lie from the first of these on and before the second.
    #[must_use]
    pub fn job_ids(self) -> (Uuid, Uuid) {
        let first = |millis| uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
        let millis = u64::try_from(self.0 / 2000).unwrap_or_default();
        (first(millis), first(millis + 1))
    }
}

/// How far a batch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Waits for its seal before anything is sent.
    Uploading,
    /// Is sent.
    Running,
    /// Nothing is sent.
    Paused,
    /// Every target has its final result.
    Done,
    /// Cancelled, and nothing is at PingOne any more.
    Cancelled,
    /// Cancelled; what is at PingOne already is waited for.
    Cancelling,
}

impl State {
    /// Its number in the contract and in the store.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Uploading => 1,
            Self::Running => 2,
            Self::Paused => 3,
            Self::Done => 4,
            Self::Cancelled => 5,
            Self::Cancelling => 6,
        }
    }

    /// The state of that number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::Uploading),
            2 => Some(Self::Running),
            3 => Some(Self::Paused),
            4 => Some(Self::Done),
            5 => Some(Self::Cancelled),
            6 => Some(Self::Cancelling),
            _ => None,
        }
    }

    /// Whether only new attempts can change it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}

/// What a caller says of a batch when it is made.
#[derive(Clone, PartialEq)]
pub struct Header {
    /// The caller's name for it, unique within the environment.
    pub id: String,
    /// Where all its targets live.
    pub environment: EnvironmentId,
    /// Who asks.
    pub caller: String,
    /// Why.
    pub reason: String,
    /// For which case.
    pub ticket: String,
    /// For whom.
    pub on_behalf_of: String,
    /// How long its targets may wait, from its making on.
    pub time_to_live: Duration,
    /// The share of finished targets that may fail before it pauses by itself; 0: any.
    pub max_failure_ratio: f64,
    /// How many are sent first, before it pauses; 0: no trial.
    pub canary_count: u32,
    /// Nothing is sent before the seal.
    pub start_when_sealed: bool,
}

/// Without what the caller wrote.
impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl Header {
    /// The first field in which `other` differs.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Option<&'static str> {
        let fields = [
            ("batch_id", self.caller == other.caller),
            ("reason", self.reason == other.reason),
            ("ticket", self.ticket == other.ticket),
            ("on_behalf_of", self.on_behalf_of == other.on_behalf_of),
            ("time_to_live", self.time_to_live.as_micros() == other.time_to_live.as_micros()),
            ("max_failure_ratio", self.max_failure_ratio.to_bits() == other.max_failure_ratio.to_bits()),
            ("canary_count", self.canary_count == other.canary_count),
            ("start_when_sealed", self.start_when_sealed == other.start_when_sealed),
        ];
        fields.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
    }
}

/// How many rows and jobs of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs in all.
    pub jobs: u64,
    /// Rows refused at upload.
    pub rejected: u64,
    /// Rows whose device stands in an earlier one.
    pub duplicate: u64,
    /// Jobs made from rows by user.
    pub expanded: u64,
    /// Rows by user that became others.
    pub looked_up: u64,
    /// Unblocked.
    pub succeeded: u64,
    /// Failed for good.
    pub failed: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Too late.
    pub expired: u64,
}

impl Counts {
    /// Jobs with a final result.
    #[must_use]
    pub const fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.expired
    }

    /// Jobs without one.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.jobs.saturating_sub(self.finished() + self.looked_up)
    }
}

/// A batch, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Which, within its lane.
    pub number: BatchNumber,
    /// What was said of it.
    pub header: Header,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When what still waits ends unsent.
    pub expires_at: OffsetDateTime,
    /// Since when nothing was uploaded.
    pub uploaded_at: OffsetDateTime,
    /// Where its upload goes on.
    pub next_offset: u64,
    /// No more will come.
    pub sealed: bool,
    /// The trial is over.
    pub canary_passed: bool,
    /// How far it has come.
    pub state: State,
    /// Why.
    pub state_reason: String,
    /// Paused by its canary or its failure ratio.
    pub paused_by_itself: bool,
    /// When it ended.
    pub completed_at: Option<OffsetDateTime>,
    /// Rises with every change that no completion made.
    pub revision: i64,
    /// What had finished and failed when it was last resumed.
    pub before: (u64, u64),
    /// How many of each kind.
    pub counts: Counts,
    /// Jobs finished per second.
    pub current_rate: f64,
    /// Requests at PingOne now.
    pub running: u32,
    /// Postgres's clock when this was read.
    pub now: OffsetDateTime,
}

impl Batch {
    /// Whether its trial, and whether the rest may be sent.
    #[must_use]
    pub const fn sends(&self) -> (bool, bool) {
        let running = matches!(self.state, State::Running);
        (running, running && (self.header.canary_count == 0 || self.canary_passed))
    }
}

/// One row to record.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// What it names, or why it is refused.
    pub named: Result<Named, Refused>,
    /// Given back in the result.
    pub client_reference: String,
}

/// Without what the caller wrote.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("named", &self.named).finish_non_exhaustive()
    }
}

/// A row that is refused by itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused {
    /// As `ErrorInfo.reason`.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
    /// What was given as a user id.
    pub user: String,
    /// What was given as a device id.
    pub device: String,
}

/// Without what the caller wrote.
impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// Whom a row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Named {
    /// The user.
    pub user: UserId,
    /// The device; [`DeviceId::EVERY`]: every blocked one.
    pub device: DeviceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_job_in_a_batch_and_another_in_the_next() {
        let lane = Lane::from_stored(7);
        let (user, device) = (UserId::from(Uuid::from_u128(1)), DeviceId::from(Uuid::from_u128(2)));
        let (first, second) = (BatchNumber(2_000_000_000_000_000), BatchNumber(2_000_000_000_002_000));
        assert_eq!(first.job(lane, user, device), first.job(lane, user, device));
        assert_ne!(first.job(lane, user, device), second.job(lane, user, device));
        assert_ne!(first.job(lane, user, device), first.job(lane, user, DeviceId::EVERY));
        assert_eq!(first.job(lane, user, device).lane(), lane);
        let (from, to) = first.job_ids();
        assert!((from..to).contains(&first.job(lane, user, device).as_uuid()));
        assert!(!(from..to).contains(&second.job(lane, user, device).as_uuid()));
    }

    #[test]
    fn a_batch_has_two_flows() {
        let number = BatchNumber::now();
        assert_eq!(BatchNumber::of_flow(number.canary_flow()), Some(number));
        assert_eq!(BatchNumber::of_flow(number.flow()), Some(number));
        assert_eq!((BatchNumber::of_flow(0), BatchNumber::of_flow(1)), (None, None));
    }
}
