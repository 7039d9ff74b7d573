//! The audit trail: what an event says, and the bytes of it that a seal covers. Pure.

mod chain;
mod personal;
mod verify;

use std::{fmt, net::IpAddr, sync::Arc};

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    device::{EnvironmentId, Lane},
    job::{Caller, JobId, State},
};

pub use chain::{BEGINNING, Hash, Head, Seal, Unnamed, first_id, hash, millis_at, millis_of};
pub use personal::{Packed, Personal};
pub use verify::{Chain, Finding, Kind, SETTLED_MS, Verdict};

/// Who acts where nobody asked for it.
pub const SERVICE: &str = "pingone-unblock";
/// Leads the bytes of an event: another order or another set of fields would be another version.
const VERSION: u8 = 1;

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal),+ $(,)?) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[$doc])* $name),+
        }

        impl Action {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its number in the store.
            #[must_use]
            pub const fn number(self) -> i16 {
                match self { $(Self::$name => $number),+ }
            }

            /// The action of that number.
            #[must_use]
            pub const fn from_number(number: i16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }

            /// Its name for people.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }
        }
    };
}

actions! {
    /// One device was to be unblocked.
    Requested = 1 "requested",
    /// A user's devices were listed.
    Listed = 2 "listed devices",
    /// A batch was to unblock one device, or whatever is blocked of a user.
    RowRequested = 3 "row requested",
    /// A job was to end.
    CancelAsked = 4 "cancel asked",
    /// A job was given new attempts.
    Redriven = 5 "redriven",
    /// A run of a job ended.
    Finished = 6 "finished",
    /// A batch was made.
    BatchOpened = 7 "batch opened",
    /// A batch was closed to more rows.
    BatchSealed = 8 "batch sealed",
    /// Nothing more of a batch was to be sent.
    BatchPaused = 9 "batch paused",
    /// A batch was to go on.
    BatchResumed = 10 "batch resumed",
    /// What was not sent of a batch was to end.
    BatchCancelled = 11 "batch cancelled",
    /// What failed of a batch was to be tried again.
    BatchRetried = 12 "batch retried",
    /// A batch came to its end.
    BatchEnded = 13 "batch ended",
    /// Nothing more was to be sent to an environment, or to any.
    Paused = 14 "paused",
    /// Sending was to go on.
    Resumed = 15 "resumed",
    /// A call was refused.
    Denied = 16 "denied",
    /// The trail was read.
    TrailRead = 17 "audit read",
    /// A person was erased.
    Erased = 18 "erased",
}

/// Who was refused something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// A caller that is known.
    Caller(Caller),
    /// Somebody who has not proven who it is, by its address.
    Peer(IpAddr),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller(caller) => f.write_str(caller.as_str()),
            Self::Peer(address) => write!(f, "unauthenticated {address}"),
        }
    }
}

/// A call that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    /// Where, if that is known.
    pub environment: Option<EnvironmentId>,
    /// To whom.
    pub who: Who,
    /// What was called.
    pub method: Arc<str>,
    /// Why, by the name that the caller was told.
    pub reason: &'static str,
    /// By which version of the policy, where it came to that.
    pub policy: Option<Arc<str>>,
    /// The trace of the call, 32 hexadecimal digits, where there is one.
    pub trace_id: Option<Arc<str>>,
}

/// A new id for an event of `lane`.
#[must_use]
pub fn event_id(lane: Lane) -> Uuid {
    JobId::new(lane).as_uuid()
}

/// The same, made in that millisecond.
#[must_use]
pub fn event_id_at(lane: Lane, millis: u64) -> Uuid {
    const BELOW_TIME: u128 = (1 << 80) - 1;
    Uuid::from_u128(first_id(millis).as_u128() | event_id(lane).as_u128() & BELOW_TIME)
}

/// The trace of a call as the trail keeps it; nothing where it is none.
#[must_use]
pub fn trace_id(hexadecimal: &str) -> Option<Uuid> {
    Uuid::try_parse(hexadecimal).ok()
}

/// An entry of the trail as it is stored, with nothing left out and nothing interpreted: a seal must also tell of what this
/// version does not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whose chain it is in.
    pub lane: i16,
    /// Its name in the lane.
    pub id: Uuid,
    /// When.
    pub at: OffsetDateTime,
    /// What, by number.
    pub action: i16,
    /// Where; nothing: everywhere, or nowhere known.
    pub environment: Option<Uuid>,
    /// Of which job; see [`Event::job`].
    pub job: Option<Uuid>,
    /// In which trace.
    pub trace: Option<Uuid>,
    /// Of which run of the job.
    pub run: Option<i32>,
    /// After so many attempts.
    pub attempts: Option<i32>,
    /// So many calls, rows or entries.
    pub count: Option<i64>,
    /// How the run ended, by number.
    pub outcome: Option<i16>,
    /// What PingOne answered with.
    pub http_status: Option<i16>,
    /// Who.
    pub caller: String,
    /// By which version of the policy.
    pub policy: Option<String>,
    /// Of which batch.
    pub batch: Option<String>,
    /// Why, as a name.
    pub reason: Option<String>,
    /// What was called, or why the service did it.
    pub detail: Option<String>,
    /// PingOne's name for the request.
    pub correlation: Option<String>,
    /// SHA-256 of what is personal.
    pub personal_digest: Option<Vec<u8>>,
    /// What is personal: of whom, for whom, why. Nothing: there was nothing, or it was erased. No part of [`Event::canonical`].
    pub personal: Option<Vec<u8>>,
    /// Which events were erased.
    pub erased: Option<Vec<Uuid>>,
}

impl Event {
    /// What was done; nothing where this version does not know it.
    #[must_use]
    pub const fn action(&self) -> Option<Action> {
        Action::from_number(self.action)
    }

    /// The job it is about.
    #[must_use]
    pub fn job(&self) -> Option<JobId> {
        let own = matches!(self.action(), Some(Action::Requested | Action::Listed)).then_some(self.id);
        self.job.or(own).map(JobId::from)
    }

    /// How the run ended.
    #[must_use]
    pub fn outcome(&self) -> Option<State> {
        self.outcome.and_then(State::from_number)
    }

    /// Whether what was personal is gone.
    #[must_use]
    pub const fn is_erased(&self) -> bool {
        self.personal.is_none() && self.personal_digest.is_some()
    }

    /// Whether what is personal is still what it was; nothing where it is gone, or there was nothing.
    #[must_use]
    pub fn personal_is_genuine(&self) -> Option<bool> {
        let personal = self.personal.as_ref()?;
        Some(self.personal_digest.as_deref() == Some(&personal::digest(personal)[..]))
    }

    /// The bytes a seal covers: a version, then every field in one order, numbers with the highest byte first, what may be
    /// missing after a 1 or as a 0, texts and lists after their length in four bytes. Two events that differ differ here; what is
    /// personal is covered by its digest.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut bytes = Canonical(Vec::with_capacity(256));
        bytes.raw(&[VERSION]);
        bytes.raw(&self.lane.to_be_bytes());
        bytes.raw(self.id.as_bytes());
        let micros = self.at.unix_timestamp_nanos() / 1000;
        bytes.raw(&i64::try_from(micros).unwrap_or_default().to_be_bytes());
        bytes.raw(&self.action.to_be_bytes());
        bytes.fixed(self.environment.map(Uuid::into_bytes));
        bytes.fixed(self.job.map(Uuid::into_bytes));
        bytes.fixed(self.trace.map(Uuid::into_bytes));
        bytes.fixed(self.run.map(i32::to_be_bytes));
        bytes.fixed(self.attempts.map(i32::to_be_bytes));
        bytes.fixed(self.count.map(i64::to_be_bytes));
        bytes.fixed(self.outcome.map(i16::to_be_bytes));
        bytes.fixed(self.http_status.map(i16::to_be_bytes));
        bytes.long(Some(self.caller.as_bytes()));
        bytes.long(self.policy.as_deref().map(str::as_bytes));
        bytes.long(self.batch.as_deref().map(str::as_bytes));
        bytes.long(self.reason.as_deref().map(str::as_bytes));
        bytes.long(self.detail.as_deref().map(str::as_bytes));
        bytes.long(self.correlation.as_deref().map(str::as_bytes));
        bytes.long(self.personal_digest.as_deref());
        let erased: Option<Vec<u8>> =
            self.erased.as_ref().map(|events| events.iter().flat_map(|id| *id.as_bytes()).collect());
        bytes.long(erased.as_deref());
        bytes.0
    }
}

struct Canonical(Vec<u8>);

impl Canonical {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn fixed<const N: usize>(&mut self, value: Option<[u8; N]>) {
        self.raw(&[u8::from(value.is_some())]);
        value.into_iter().for_each(|value| self.raw(&value));
    }

    fn long(&mut self, value: Option<&[u8]>) {
        self.raw(&[u8::from(value.is_some())]);
        let Some(value) = value else { return };
        // Postgres keeps no value of 4 GB.
        self.raw(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.raw(value);
    }
}

#[cfg(test)]
mod tests;
