//! A job as its callers see it: read off what is recorded, never stored itself.

use std::time::Duration;

use time::OffsetDateTime;

use crate::device::{DeviceRef, Snapshot};

use super::{Failure, JobId, Priority};

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Waiting to be sent, for the first time or again.
    Pending,
    /// An attempt holds the lease.
    Running,
    /// PingOne confirmed the unblock.
    Succeeded,
    /// PingOne refused for good, or the attempts ran out.
    Failed,
    /// Ended by a cancel.
    Cancelled,
    /// Its time came before success.
    Expired,
}

impl State {
    /// Its number in the contract and in the store.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Pending => 1,
            Self::Running => 2,
            Self::Succeeded => 3,
            Self::Failed => 4,
            Self::Cancelled => 5,
            Self::Expired => 6,
        }
    }

    /// The state of that number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::Pending),
            2 => Some(Self::Running),
            3 => Some(Self::Succeeded),
            4 => Some(Self::Failed),
            5 => Some(Self::Cancelled),
            6 => Some(Self::Expired),
            _ => None,
        }
    }

    /// Whether only a redrive can change it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// One request to PingOne, as recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The run it belongs to.
    pub run: u32,
    /// Counted from 1 within the run.
    pub number: u32,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// PingOne's status, where it answered.
    pub http_status: Option<u16>,
    /// The `Correlation-Id` of the answer.
    pub correlation_id: Option<String>,
    /// Why it failed; nothing where it succeeded.
    pub error: Option<Failure>,
}

/// A job, whole.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What to unblock.
    pub device: DeviceRef,
    /// Who asked.
    pub caller: String,
    /// The caller's idempotency key.
    pub request_id: Option<String>,
    /// Why.
    pub reason: String,
    /// For which case.
    pub ticket: String,
    /// For whom.
    pub on_behalf_of: String,
    /// How urgent.
    pub priority: Priority,
    /// How long it was given at first.
    pub time_to_live: Duration,
    /// When it was recorded.
    pub created_at: OffsetDateTime,
    /// When its present run ends unsent.
    pub expires_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
    /// When it ended.
    pub completed_at: Option<OffsetDateTime>,
    /// While pending: not before this.
    pub next_attempt_at: Option<OffsetDateTime>,
    /// When the cancel of the present run was asked for.
    pub cancel_requested_at: Option<OffsetDateTime>,
    /// How far it has come.
    pub state: State,
    /// PingOne's answer to the unblock.
    pub snapshot: Option<Snapshot>,
    /// The last failure of this run, unless it succeeded.
    pub error: Option<Failure>,
    /// Attempts of this run that count.
    pub attempt_count: u32,
    /// 1, and one more with every redrive.
    pub run: u32,
    /// While pending: what it waits for.
    pub wait: Option<Wait>,
    /// Rises with every visible change.
    pub revision: i64,
    /// The attempt of the present run that succeeded.
    pub success: Option<Attempt>,
}

/// What a pending job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// PingOne refuses the credential of the environment.
    Credential {
        /// What PingOne said.
        error: String,
        /// When it is tried again.
        retry_at: OffsetDateTime,
    },
    /// PingOne asked to wait.
    Hold(OffsetDateTime),
    /// The wait after a failed attempt.
    Backoff(OffsetDateTime),
    /// No live replica schedules its lane.
    Worker,
    /// Its turn: the limits of its environment.
    Turn,
}

/// How far a run has come between two visible changes: what [`revision`](Phase::revision) is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// 1, and one more with every redrive.
    pub run: u32,
    /// Claims so far.
    pub attempt: u32,
    /// Whether the last of them holds the lease.
    pub leased: bool,
    /// Whether a cancel waits for its end.
    pub cancel_requested: bool,
    /// Whether the run has ended.
    pub ended: bool,
}

impl Phase {
    /// A number that rises with every visible change, whichever replica computes it.
    #[must_use]
    pub fn revision(self) -> i64 {
        let run = i64::from(self.run) << 32;
        if self.ended {
            return run + i64::from(u32::MAX);
        }
        // Within one attempt: leased, leased with a cancel waiting, lease over, over with a cancel waiting.
        let step = i64::from(self.attempt > 0 && !self.leased) * 2 + i64::from(self.cancel_requested);
        run + i64::from(self.attempt) * 4 + step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_change_raises_the_revision() {
        let phase = |run, attempt, leased, cancel_requested, ended| {
            Phase { run, attempt, leased, cancel_requested, ended }.revision()
        };
        let story = [
            phase(1, 0, false, false, false),
            phase(1, 1, true, false, false),
            phase(1, 1, false, false, false),
            phase(1, 2, true, false, false),
            phase(1, 2, true, true, false),
            phase(1, 2, false, true, false),
            phase(1, 2, false, true, true),
            phase(2, 0, false, false, false),
            phase(2, 1, true, false, false),
            phase(2, 1, false, false, true),
        ];
        assert!(story.is_sorted_by(|earlier, later| earlier < later), "{story:?}");
    }
}
