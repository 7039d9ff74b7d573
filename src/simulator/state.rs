//! Everything the simulator remembers, behind one lock.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{
    Settings,
    device::{Device, Devices},
    ledger::Ledger,
    plan::Plans,
    seen::Seen,
    token::Tokens,
};
use crate::device::DeviceId;

pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) tokens: Tokens,
    pub(super) devices: Devices,
    pub(super) plans: Plans,
    pub(super) ledger: Ledger,
    pub(super) held: Vec<(Option<DeviceId>, oneshot::Sender<()>)>,
    started: Instant,
    /// Which second of the simulator's life it is, and how many requests it has allowed in it.
    second: (u64, u32),
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        let started = Instant::now();
        let mut devices = Devices::default();
        devices.register(Device::example());
        Self {
            tokens: Tokens::new(settings.client_id.clone(), settings.client_secret.clone()),
            devices,
            plans: Plans::default(),
            ledger: Ledger::new(settings.records, started),
            held: Vec::new(),
            started,
            second: (0, 0),
            settings,
        }
    }

    /// Whether the licence allows one more request now ("Rate limiting": one limit for all environments of a licence). Who
    /// sends evenly at the limit is never refused.
    pub(super) fn allows_one_more(&mut self, now: Instant) -> bool {
        let Some(limit) = self.settings.rate_limit else { return true };
        let second = (now - self.started).as_secs();
        let used = if self.second.0 == second { self.second.1 } else { 0 };
        self.second = (second, used.saturating_add(1));
        used < limit
    }

    /// What links in the answer begin with.
    pub(super) fn base(&self, seen: &Seen) -> String {
        match &self.settings.api_base {
            Some(base) => base.clone(),
            None => format!("http://{}/v1", seen.header("host").unwrap_or("localhost")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_second_has_its_own_allowance() {
        let mut state = State::new(Settings { rate_limit: Some(2), ..Settings::default() });
        let mut allowed = |millis| state.allows_one_more(state.started + Duration::from_millis(millis));
        assert_eq!([0, 1, 2, 999].map(&mut allowed), [true, true, false, false]);
        assert_eq!([1_000, 1_999, 1_999].map(&mut allowed), [true, true, false]);
        assert_eq!([7_500, 7_500, 8_000].map(&mut allowed), [true, true, true]);
    }
}
