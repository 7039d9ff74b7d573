//! gRPC: the contract's services on top of the engine, the store and the watch.

mod batch_results;
mod batch_service;
mod bulk;
mod convert;
mod deadline;
mod device_service;
mod environment_service;
mod fields;
mod job_service;
mod normalise;
mod server;
mod status;
mod user_devices;
mod waiting;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    engine::{Control, Submitter},
    store::Store,
    watch::Watch,
};

pub use server::{Health, Options, Server};
pub use status::{DOMAIN, ErrorReason};

/// What all services work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    /// Records jobs.
    pub submitter: Submitter,
    /// Cancels and redrives them, pauses what they are sent to.
    pub control: Control,
    /// Reads them.
    pub store: Store,
    /// Tells of their changes.
    pub watch: Arc<Watch>,
    /// Set when this replica stops: nothing new is taken, what waits is answered.
    pub draining: CancellationToken,
}

/// A reply waits at most this long for a final state.
const WAIT_AT_MOST: Duration = Duration::from_secs(30);
/// Streams end politely after this long, so that load spreads over replicas.
const STREAM_AT_MOST: Duration = Duration::from_secs(30 * 60);
