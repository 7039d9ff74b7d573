//! What a list of a user's devices means for the batch that asked for it.

use time::Duration;

use super::flow::Waiting;
use crate::{
    batch::BatchNumber,
    device::{DeviceId, Devices, Snapshot},
    job::{Failure, Reason, RetryHint},
    store::Found,
};

/// The service's clock and PingOne's differ by this much at most, as for any other job.
const CLOCKS_DIFFER: Duration = Duration::seconds(5);

/// Whether a job looks a user's devices up for a batch.
pub(super) fn is_of_batch(job: &Waiting) -> bool {
    job.device.device == DeviceId::EVERY && BatchNumber::of_flow(job.flow).is_some()
}

/// The devices to unblock, by the list. What was blocked after the row was recorded is not what was meant.
pub(super) fn found(job: &Waiting, list: &Snapshot) -> Vec<Found> {
    let devices = Devices::of(list).unwrap_or_default();
    let newer =
        |device: &Snapshot| device.blocked_at().is_some_and(|at| at > job.requested_at + CLOCKS_DIFFER);
    devices
        .blocked()
        .map(|(device, snapshot)| Found { device: *device, reblocked: newer(snapshot) })
        .collect()
}

/// Why a lookup of a batch fails all the same: the user has nothing to unblock.
pub(super) fn nothing_to_unblock(
    job: &Waiting,
    list: &Snapshot,
    http_status: Option<u16>,
    correlation_id: Option<String>,
) -> Option<Failure> {
    let nothing = is_of_batch(job) && found(job, list).is_empty();
    nothing.then(|| Failure {
        reason: Reason::NoBlockedDevice,
        message: "none of the user's devices is blocked".into(),
        hint: RetryHint::Never,
        http_status,
        pingone_code: None,
        pingone_id: None,
        correlation_id,
    })
}
