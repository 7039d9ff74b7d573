//! Everything the simulator remembers, behind one lock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

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

/// What the rate limit counts requests in.
const WINDOW: Duration = Duration::from_secs(1);

pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) tokens: Tokens,
    pub(super) devices: Devices,
    pub(super) plans: Plans,
    pub(super) ledger: Ledger,
    pub(super) held: Vec<(Option<DeviceId>, oneshot::Sender<()>)>,
    /// When the requests of the last second arrived that were allowed, oldest first.
    allowed: VecDeque<Instant>,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        let started = Instant::now();
        let mut devices = Devices::new(settings.records > 0);
        devices.register(Device::example());
        Self {
            tokens: Tokens::new(settings.client_id.clone(), settings.client_secret.clone()),
            devices,
            plans: Plans::default(),
            ledger: Ledger::new(settings.records, started),
            held: Vec::new(),
            allowed: VecDeque::new(),
            settings,
        }
    }

    /// Whether the licence allows one more request now ("Rate limiting": one limit for all environments of a licence): in no
    /// second, wherever it begins, are more allowed. What is refused uses nothing up.
    pub(super) fn allows_one_more(&mut self, now: Instant) -> bool {
        let Some(limit) = self.settings.rate_limit else {
            self.allowed.clear();
            return true;
        };
        let over = self.allowed.partition_point(|allowed| now.duration_since(*allowed) >= WINDOW);
        self.allowed.drain(..over);
        let allows = u32::try_from(self.allowed.len()).is_ok_and(|used| used < limit);
        if allows {
            self.allowed.push_back(now);
        }
        allows
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
    use super::*;

    #[test]
    fn in_no_second_more_are_allowed_and_refusals_use_nothing_up() {
        let mut state = State::new(Settings { rate_limit: Some(2), ..Settings::default() });
        let start = Instant::now();
        let mut allowed = |millis| state.allows_one_more(start + Duration::from_millis(millis));
        assert_eq!([0, 600, 700, 999].map(&mut allowed), [true, true, false, false]);
        assert_eq!([1_000, 1_001, 1_599].map(&mut allowed), [true, false, false]);
        assert_eq!([1_600, 1_999, 2_000].map(&mut allowed), [true, false, true]);
        assert_eq!([7_500, 7_500, 7_501].map(&mut allowed), [true, true, false]);
    }
}
