//! All SQL, one statement per function, named by its verb. Knows the domain and nothing above it.

mod audit;
mod batch;
mod claim;
mod complete;
mod connect;
mod environment;
mod environments_list;
mod erase;
mod error;
mod fail;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod lanes;
mod list;
mod packed;
mod pause;
mod publish;
mod quota;
mod read;
mod retention;
mod seal;
mod steer;
mod submit;
mod trail;
mod vault;

use time::OffsetDateTime;
use uuid::Uuid;

pub use audit::NOWHERE;
pub use batch::{
    Appended, BatchFilter, BatchKey, Found, Opened, Place as TargetPlace, Published, Refusal, Retried,
    RetryWish, TargetRow, Unfit,
};
pub use claim::{Candidate, Claim, Head, LEASE, Place, SEND_WINDOW, Stretch, Swept};
pub use complete::{ReadFirst, Succeeded, Unsent};
pub use connect::{Access, Migrated, PLANNING, Store};
pub use environment::{EnvironmentFacts, Slots};
pub use environments_list::{EnvironmentsPage, EnvironmentsToken};
pub use erase::{Erased, Erasure, NotErased};
pub use error::StoreError;
pub use fail::{Ending, Failed};
pub use lanes::{LaneOwner, Membership, Role};
pub use list::{JobFilter, JobPage, PageToken};
pub use pause::Pauses;
pub use read::{DeviceView, Progress};
pub use retention::OldJobs;
pub use seal::{EventRange, NewEvents};
pub use steer::{Cancelled, Redrive, Redriven};
pub use submit::{Recorded, Submission};
pub use trail::{TrailFilter, TrailPage, TrailToken};
pub use vault::{KeysError, SnapshotKeys, Wrapped};

use crate::{
    job::{Failure, Reason, RetryHint},
    redact::Redacted,
};

/// A failure as the store keeps it.
#[derive(Debug)]
struct StoredFailure {
    reason: Option<String>,
    message: Option<String>,
    http_status: Option<i16>,
    pingone_code: Option<String>,
    pingone_id: Option<String>,
    correlation_id: Option<String>,
}

impl StoredFailure {
    /// Nothing where the attempt did not fail. What to do next was decided when it was stored.
    fn into_failure(self) -> Option<Failure> {
        Some(Failure {
            reason: Reason::from_name(self.reason.as_deref()?)?,
            message: self.message.map(Redacted::from_stored).unwrap_or_default(),
            hint: RetryHint::Never,
            http_status: self.http_status.and_then(|status| u16::try_from(status).ok()),
            pingone_code: self.pingone_code,
            pingone_id: self.pingone_id,
            correlation_id: self.correlation_id,
        })
    }
}

/// HTTP statuses are below 1000, so they always fit.
fn stored_status(status: Option<u16>) -> Option<i16> {
    status.and_then(|status| i16::try_from(status).ok())
}

/// Counters that a constraint keeps from being negative.
fn count(stored: i32) -> u32 {
    u32::try_from(stored).unwrap_or_default()
}

/// The inverse of [`count`].
fn stored_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// How long from `start` to `end`; nothing if it is not later.
fn between(start: OffsetDateTime, end: OffsetDateTime) -> std::time::Duration {
    std::time::Duration::try_from(end - start).unwrap_or_default()
}

/// Microseconds, for `now() + us * interval '1 microsecond'`.
fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Parallel arrays of a batch, one element per row.
fn column<T, V>(rows: &[T], value: impl FnMut(&T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// The first two columns of nearly every statement.
fn keys<T>(rows: &[T], id: impl Fn(&T) -> crate::job::JobId) -> (Vec<i16>, Vec<Uuid>) {
    rows.iter().map(|row| (id(row).lane().number(), id(row).as_uuid())).unzip()
}
