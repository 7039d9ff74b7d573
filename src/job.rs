//! One recorded request to unblock one device, or to list those of a user: its name, its states and what is known of it. Pure.

mod actor;
mod failure;
mod policy;
mod quota;
mod request;
mod verdict;
mod view;

use std::fmt;

use uuid::Uuid;

use crate::device::{InvalidId, Lane, parse_hyphenated};

pub use actor::{Actor, DeviceLimit, Limits};
pub use failure::{Failure, Reason, RetryHint};
pub use policy::{PolicyError, RetryPolicy};
pub use quota::{Bound, Counted, OverQuota, Room, Used};
pub use request::{Caller, NewJob, Priority};
pub use verdict::{Standing, Verdict, judge};
pub use view::{Attempt, Confirmed, Job, Phase, State, Turn, Wait};

/// Names a job: a version 7 UUID whose last byte is the job's lane, so that any id leads to its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Uuid);

impl JobId {
    /// A new id in `lane`.
    #[must_use]
    pub fn new(lane: Lane) -> Self {
        Self::in_lane(Uuid::now_v7(), lane)
    }

    /// An id in `lane` that is otherwise like `uuid`, of version 7.
    pub(crate) fn in_lane(uuid: Uuid, lane: Lane) -> Self {
        let mut bytes = *uuid.as_bytes();
        bytes[15] = lane.number().to_be_bytes()[1];
        Self(Uuid::from_bytes(bytes))
    }

    /// Reads an id that this service gave out.
    ///
    /// # Errors
    /// [`InvalidId`] for anything but a hyphenated UUID.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        parse_hyphenated(text).map(Self)
    }

    /// Before every other id.
    #[must_use]
    pub const fn first() -> Self {
        Self(Uuid::nil())
    }

    /// The lane the job lives in.
    #[must_use]
    pub fn lane(self) -> Lane {
        Lane::from_stored(i16::from(self.0.as_bytes()[15]))
    }

    /// The UUID itself.
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for JobId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_lane_and_sorts_by_time() {
        let lane = Lane::from_stored(0xA7);
        let first = JobId::new(lane);
        assert_eq!(first.lane(), lane);
        assert_eq!(first.as_uuid().get_version_num(), 7);
        assert_eq!(JobId::parse(&first.to_string()), Ok(first));
    }
}
