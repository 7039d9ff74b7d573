//! The circuit breaker of one environment: when PingOne fails or cannot be reached, one real job at a time finds out whether it
//! still does. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

const CONSECUTIVE: u32 = 5;
const LEAST_SAMPLE: u32 = 20;
/// Half of a sample of that size: open.
const FAILED_SHARE: u32 = 2;
const SAMPLED_SECONDS: usize = 10;
const WAIT_FIRST: Duration = Duration::from_secs(5);
const WAIT_LONGEST: Duration = Duration::from_secs(60);

/// Closed, or open with a probe now and then.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    consecutive: u32,
    sample: [Second; SAMPLED_SECONDS],
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    began: Option<Instant>,
    ended: u32,
    failed: u32,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    retry_at: Instant,
    wait: Duration,
    probing: bool,
}

/// What the end of a request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// The circuit opened, or stays open after a probe: until the next probe it is this long.
    Opened(Duration),
    /// It closed.
    Closed,
}

impl Breaker {
    /// When a request may start: nothing while a probe is out.
    pub(super) fn opens(&self, now: Instant) -> Option<Instant> {
        match self.open {
            None => Some(now),
            Some(Open { probing: true, .. }) => None,
            Some(Open { retry_at, .. }) => Some(now.max(retry_at)),
        }
    }

    /// Whether the circuit is open.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// A request starts: where the circuit is open, it is the probe.
    pub(super) fn started(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// A request that had started says nothing of PingOne's health.
    pub(super) fn inconclusive(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// PingOne answered, whatever it said.
    pub(super) fn answered(&mut self, now: Instant) -> Turn {
        self.consecutive = 0;
        self.count(now, 0);
        match self.open.take() {
            Some(_) => {
                self.sample = Default::default();
                Turn::Closed
            }
            None => Turn::None,
        }
    }

    /// PingOne failed or did not answer a request; `probe`: it started while the circuit was open.
    pub(super) fn failed(&mut self, now: Instant, probe: bool) -> Turn {
        if let Some(open) = &mut self.open {
            if !probe {
                // It was under way when the circuit opened: nothing new.
                return Turn::None;
            }
            open.wait = (open.wait * 2).min(WAIT_LONGEST);
            open.probing = false;
            open.retry_at = now + open.wait;
            return Turn::Opened(open.wait);
        }
        self.consecutive += 1;
        self.count(now, 1);
        let (ended, failed) = self.sampled(now);
        let half = ended >= LEAST_SAMPLE && failed * FAILED_SHARE >= ended;
        if self.consecutive < CONSECUTIVE && !half {
            return Turn::None;
        }
        self.open = Some(Open { retry_at: now + WAIT_FIRST, wait: WAIT_FIRST, probing: false });
        Turn::Opened(WAIT_FIRST)
    }

    /// Takes over an open circuit from the environment's former owner.
    pub(super) fn adopt(&mut self, retry_at: Instant) {
        if self.open.is_none() {
            self.open = Some(Open { retry_at, wait: WAIT_FIRST, probing: false });
        }
    }

    fn count(&mut self, now: Instant, failed: u32) {
        let current = self.sample.iter_mut().find(|second| {
            second.began.is_some_and(|began| now.saturating_duration_since(began) < Duration::from_secs(1))
        });
        match current {
            Some(second) => (second.ended, second.failed) = (second.ended + 1, second.failed + failed),
            None => {
                if let Some(oldest) = self.sample.iter_mut().min_by_key(|second| second.began) {
                    *oldest = Second { began: Some(now), ended: 1, failed };
                }
            }
        }
    }

    fn sampled(&self, now: Instant) -> (u32, u32) {
        let span = Duration::from_secs(SAMPLED_SECONDS as u64);
        let recent = self
            .sample
            .iter()
            .filter(|second| second.began.is_some_and(|began| now.saturating_duration_since(began) < span));
        recent.fold((0, 0), |(ended, failed), second| (ended + second.ended, failed + second.failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert_eq!(breaker.failed(now, false), Turn::None);
        }
        assert_eq!(breaker.failed(now, false), Turn::Opened(s(5)));
        assert_eq!(breaker.failed(now, false), Turn::None, "it was under way");
        assert_eq!(breaker.opens(now), Some(now + s(5)));
        breaker.started();
        assert_eq!(breaker.opens(now + s(6)), None, "one probe at a time");
        assert_eq!(breaker.answered(now + s(6)), Turn::Closed);
        assert_eq!(breaker.opens(now + s(6)), Some(now + s(6)));
    }

    #[test]
    fn half_of_twenty_in_ten_seconds_open_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let mut turn = Turn::None;
        for i in 0..20 {
            let now = start + Duration::from_millis(i * 400);
            turn = if i % 2 == 0 { breaker.answered(now) } else { breaker.failed(now, false) };
        }
        assert_eq!(turn, Turn::Opened(s(5)));
    }

    #[test]
    fn what_is_longer_ago_does_not_count() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for i in 0..200 {
            // One of two fails, but only fifteen within ten seconds.
            let now = start + Duration::from_millis(i * 700);
            let turn = if i % 2 == 0 { breaker.answered(now) } else { breaker.failed(now, false) };
            assert_eq!(turn, Turn::None);
        }
    }

    #[test]
    fn failed_probes_double_the_wait_up_to_a_minute() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            breaker.failed(now, false);
        }
        let mut waits = Vec::new();
        for _ in 0..5 {
            now = breaker.opens(now).unwrap_or(now);
            breaker.started();
            if let Turn::Opened(wait) = breaker.failed(now, true) {
                waits.push(wait.as_secs());
            }
        }
        assert_eq!(waits, [10, 20, 40, 60, 60]);
    }

    proptest! {
        /// Whatever happens, an open circuit lets one request out at a time and is never shut for ever.
        #[test]
        fn a_probe_is_never_more_than_a_minute_away(events in proptest::collection::vec((0_u8..4, 0_u64..3000), 1..300)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            let mut out = 0_u32;
            for (event, pause) in events {
                now += Duration::from_millis(pause);
                match event {
                    0 if out > 0 => { breaker.answered(now); out -= 1; }
                    1 if out > 0 => { let probe = breaker.is_open(); breaker.failed(now, probe); out -= 1; }
                    2 if out > 0 => { breaker.inconclusive(); out -= 1; }
                    _ => if breaker.opens(now) == Some(now) { breaker.started(); out += 1; },
                }
                match breaker.opens(now) {
                    Some(at) => prop_assert!(at <= now + Duration::from_secs(60)),
                    None => prop_assert!(out > 0, "only a probe that is out keeps others in"),
                }
            }
        }
    }
}
