//! What is handed to a desk, and what it hands out.

use tokio::time::Instant;

use crate::{
    device::{DeviceId, UserId},
    engine::gate::Started,
    job::Priority,
};

/// A claimed job that waits for its token and its slot.
#[derive(Debug)]
pub(in crate::engine) struct Staged<A> {
    /// Later, it may not start: whoever cancels relies on it.
    pub(in crate::engine) start_by: Instant,
    pub(in crate::engine) target: (UserId, DeviceId),
    pub(in crate::engine) attempt: A,
}

/// What is to be done now.
#[derive(Debug)]
pub(in crate::engine) struct Due<A> {
    /// These start.
    pub(in crate::engine) start: Vec<(A, Started, Priority)>,
    /// These came too late to start.
    pub(in crate::engine) late: Vec<A>,
    /// Look again then; nothing where a timer runs already.
    pub(in crate::engine) wake: Option<Instant>,
    /// More should be claimed.
    pub(in crate::engine) hungry: bool,
}

/// How many jobs may be claimed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Room {
    pub(in crate::engine) interactive: usize,
    pub(in crate::engine) bulk: usize,
}
