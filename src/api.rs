//! gRPC: the contract's services on top of the engine, the store and the watch.

mod audit_service;
mod batch_results;
mod batch_service;
mod bulk;
mod contacts;
mod convert;
mod deadline;
mod denials;
mod device_service;
mod environment_service;
mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod gate;
mod job_service;
mod measure;
mod method;
mod normalise;
mod permit;
mod server;
mod status;
mod user_devices;
mod waiting;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    engine::{Control, Submitter},
    store::Store,
    watch::Watch,
};

pub use denials::Denials;
pub use gate::Admission;
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

impl Services {
    /// Waits until a stream that began at `began` has to end though there is more to say; says why.
    async fn stream_ends(&self, began: Instant, deadline: Option<Instant>) -> Status {
        let polite_end = began + STREAM_AT_MOST;
        tokio::select! {
            () = self.draining.cancelled() => status::draining(),
            () = tokio::time::sleep_until(deadline.map_or(polite_end, |at| at.min(polite_end))) => {
                if deadline.is_some_and(|at| at <= polite_end) { deadline::passed() } else { status::draining() }
            }
        }
    }
}
