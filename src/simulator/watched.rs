//! When the POSTs of one user arrive, for whoever measures from another process.

use std::time::SystemTime;

use serde::Serialize;
use uuid::Uuid;

use crate::device::{DeviceRef, UserId};

/// Arrivals that are kept.
const KEPT: usize = 100_000;

/// A POST of the watched user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Arrival {
    /// To which device.
    pub device: Uuid,
    /// When it had been read whole, in microseconds since 1970: for comparison with another process of this machine.
    pub at_us: u64,
}

#[derive(Default)]
pub(super) struct Watched {
    user: Option<UserId>,
    arrivals: Vec<Arrival>,
}

impl Watched {
    /// From now on that user is watched, and what was seen so far is forgotten.
    pub(super) fn set(&mut self, user: Option<UserId>) {
        *self = Self { user, arrivals: Vec::new() };
    }

    pub(super) fn arrived(&mut self, at: DeviceRef) {
        if self.user == Some(at.user) && self.arrivals.len() < KEPT {
            self.arrivals.push(Arrival { device: at.device.as_uuid(), at_us: now_us() });
        }
    }

    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.clone()
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
