//! How a PingOne environment stands, as an operator sees it: read off what is recorded, never stored itself. Pure.

use std::{fmt, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::device::EnvironmentId;

/// Owners publish once a second: what is older than this was said by one who has stopped, or has nothing to do.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// Whether requests are sent. Of several reasons why not, the one that has to be dealt with first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// They are, within the limits.
    Sending,
    /// An operator paused it, or everything.
    Paused,
    /// PingOne asked to wait.
    Throttled,
    /// PingOne fails or cannot be reached.
    Unreachable,
    /// PingOne refuses the credential.
    CredentialRefused,
}

/// An operator's pause.
#[derive(Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub at: OffsetDateTime,
    /// Who asked for it.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

/// Without what the caller wrote.
impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pause").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Pause {
    /// What a pause of everything says, in one sentence.
    #[must_use]
    pub fn sentence_of_all(&self) -> String {
        format!("everything is {}", self.sentence())
    }

    fn sentence(&self) -> String {
        let why = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("paused by {} since {}{why}", self.by, at(self.at))
    }
}

/// PingOne refuses the credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it said.
    pub error: String,
    /// When the credential is tried again.
    pub retry_at: OffsetDateTime,
}

/// PingOne fails or cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Since when.
    pub since: OffsetDateTime,
    /// How it shows.
    pub error: String,
    /// When the next job finds out whether it is over.
    pub retry_at: OffsetDateTime,
}

/// The figures of an environment that works, as its owner knows them.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Which.
    pub environment: EnvironmentId,
    /// Requests per second allowed; infinite where unlimited.
    pub rate_limit: f64,
    /// The same after what PingOne taught: at most `rate_limit`.
    pub effective_rate: f64,
    /// Requests per second now.
    pub current_rate: f64,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests at once, at most.
    pub max_in_flight: u32,
    /// The licence whose rate it shares.
    pub limit_group: Option<String>,
    /// Interactive jobs that wait.
    pub pending_interactive: u64,
    /// Bulk jobs that wait.
    pub pending_bulk: u64,
    /// When the one that is due longest became due, by Postgres's clock.
    pub oldest_due_at: Option<OffsetDateTime>,
}

/// All that is recorded of an environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Which.
    pub id: EnvironmentId,
    /// An operator's pause of this environment alone.
    pub pause: Option<Pause>,
    /// That PingOne refuses the credential.
    pub refusal: Option<Refusal>,
    /// Until when PingOne asked to wait.
    pub hold_until: Option<OffsetDateTime>,
    /// Until when it asked the licence to wait that the environment shares.
    pub group_hold_until: Option<OffsetDateTime>,
    /// That PingOne fails.
    pub outage: Option<Outage>,
    /// The live replica that sends for it.
    pub owner: Option<Uuid>,
    /// When an owner published its figures last, and which.
    pub published: Option<(OffsetDateTime, Status)>,
}

/// An environment, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    /// Which.
    pub id: EnvironmentId,
    /// Whether requests are sent.
    pub state: State,
    /// Why not, in one sentence; empty while they are.
    pub state_reason: String,
    /// When sending is tried again; nothing while it sends, and while it is paused.
    pub resume_at: Option<OffsetDateTime>,
    /// The live replica that sends for it.
    pub owner: Option<Uuid>,
    /// When its figures were published last.
    pub published_at: Option<OffsetDateTime>,
    /// The figures; nothing where none were ever published. Those of the moment are zero where they are old.
    pub status: Option<Status>,
    /// How long the job that is due longest has been due.
    pub oldest_pending_age: Option<Duration>,
}

impl Recorded {
    /// An environment of which nothing is recorded.
    #[must_use]
    pub const fn nothing(id: EnvironmentId) -> Self {
        Self {
            id,
            pause: None,
            refusal: None,
            hold_until: None,
            group_hold_until: None,
            outage: None,
            owner: None,
            published: None,
        }
    }

    /// How the environment stands at `now`, where `everything` is paused or not.
    #[must_use]
    pub fn view(self, everything: Option<&Pause>, now: OffsetDateTime) -> Environment {
        let (state, state_reason, resume_at) = self.standing(everything, now);
        let (published_at, mut status) = self.published.unzip();
        if let (Some(at), Some(status)) = (published_at, &mut status)
            && now - at > FRESH_FOR
        {
            status.current_rate = 0.0;
            status.in_flight = 0;
        }
        let due = status.as_ref().and_then(|status| status.oldest_due_at);
        Environment {
            id: self.id,
            state,
            state_reason,
            resume_at,
            owner: self.owner,
            published_at,
            oldest_pending_age: due.map(|due| Duration::try_from(now - due).unwrap_or_default()),
            status,
        }
    }

    fn standing(
        &self,
        everything: Option<&Pause>,
        now: OffsetDateTime,
    ) -> (State, String, Option<OffsetDateTime>) {
        if let Some(pause) = everything {
            return (State::Paused, pause.sentence_of_all(), None);
        }
        if let Some(pause) = &self.pause {
            return (State::Paused, pause.sentence(), None);
        }
        if let Some(Refusal { error, retry_at }) = &self.refusal {
            let again = at(*retry_at);
            let sentence = format!("PingOne refuses the credential: {error}; tried again at {again}");
            return (State::CredentialRefused, sentence, Some(*retry_at));
        }
        let own = self.hold_until.filter(|until| *until > now);
        let shared = self.group_hold_until.filter(|until| *until > now);
        if let Some(until) = own.max(shared) {
            let whom = self.limit_group().filter(|_| shared > own);
            let whom = whom.map(|group| format!(" the limit group {group}")).unwrap_or_default();
            let sentence = format!("PingOne asked{whom} to wait until {}", at(until));
            return (State::Throttled, sentence, Some(until));
        }
        if let Some(Outage { since, error, retry_at }) = &self.outage {
            let (since, again) = (at(*since), at(*retry_at));
            let sentence = format!("PingOne fails since {since}: {error}; tried again at {again}");
            return (State::Unreachable, sentence, Some(*retry_at));
        }
        (State::Sending, String::new(), None)
    }

    fn limit_group(&self) -> Option<&str> {
        self.published.as_ref().and_then(|(_, status)| status.limit_group.as_deref())
    }
}

fn at(instant: OffsetDateTime) -> String {
    let whole_seconds = instant.replace_nanosecond(0).unwrap_or(instant);
    whole_seconds.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
