//! A job as its callers see it: read off what is recorded, never stored itself.

use std::{fmt, time::Duration};

use time::OffsetDateTime;

use crate::device::{DeviceRef, Snapshot};

use super::{Failure, JobId, NewJob, Priority};

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
    /// Whether the device was only read.
    pub read: bool,
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
#[derive(Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What to unblock, or whose devices to list.
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
    /// PingOne's answer: the device, or the list of devices.
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
    /// The job whose request answered this one too.
    pub answered_by: Option<JobId>,
    /// The batch it is a target of, by the caller's name for it.
    pub batch_id: Option<String>,
}

/// Without what the caller wrote.
impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("state", &self.state)
            .field("run", &self.run)
            .field("attempt_count", &self.attempt_count)
            .finish_non_exhaustive()
    }
}

/// What PingOne's confirmation made of a job.
#[derive(Debug, Clone)]
pub struct Confirmed {
    /// When the job ended.
    pub completed_at: OffsetDateTime,
    /// The attempt that was confirmed.
    pub attempt: Attempt,
    /// The device, or the list of devices, as PingOne described it.
    pub snapshot: Snapshot,
}

impl Job {
    /// A job just recorded at `created_at`; `running` where its first attempt was claimed with it.
    #[must_use]
    pub fn recorded(new: NewJob, created_at: OffsetDateTime, running: bool) -> Self {
        let attempt = u32::from(running);
        let phase = Phase { run: 1, attempt, leased: running, cancel_requested: false, ended: false };
        let (state, wait) = match running {
            true => (State::Running, None),
            false => (State::Pending, Some(Wait::Turn(new.priority.flow()))),
        };
        Self {
            id: new.id,
            device: new.device,
            caller: new.actor.caller.as_str().to_owned(),
            request_id: new.request_id,
            reason: new.reason,
            ticket: new.ticket,
            on_behalf_of: new.on_behalf_of,
            priority: new.priority,
            time_to_live: new.time_to_live,
            created_at,
            expires_at: created_at + new.time_to_live,
            updated_at: created_at,
            completed_at: None,
            next_attempt_at: (!running).then_some(created_at),
            cancel_requested_at: None,
            state,
            snapshot: None,
            error: None,
            attempt_count: attempt,
            run: 1,
            wait,
            revision: phase.revision(),
            success: None,
            answered_by: None,
            batch_id: None,
        }
    }

    /// The same job once PingOne has confirmed it at the first attempt of its first run, with no cancel in between.
    #[must_use]
    pub fn confirmed(self, confirmed: &Confirmed) -> Self {
        let phase = Phase { run: 1, attempt: 1, leased: false, cancel_requested: false, ended: true };
        Self {
            state: State::Succeeded,
            completed_at: Some(confirmed.completed_at),
            updated_at: confirmed.completed_at,
            next_attempt_at: None,
            snapshot: Some(confirmed.snapshot.clone()),
            attempt_count: 1,
            wait: None,
            revision: phase.revision(),
            success: Some(confirmed.attempt.clone()),
            ..self
        }
    }
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
    /// An operator paused its environment, or everything.
    Paused {
        /// Since when.
        since: OffsetDateTime,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// PingOne fails or cannot be reached.
    Circuit {
        /// Since when.
        since: OffsetDateTime,
        /// How it failed.
        error: String,
        /// When it is tried again.
        retry_at: OffsetDateTime,
    },
    /// Its turn in this flow: the limits of its environment.
    Turn(i64),
}

/// Whose turn comes before a job's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Turn {
    /// Jobs that are sent before it.
    pub ahead: u64,
    /// How many a second its environment sends, where that is known.
    pub rate: Option<f64>,
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
