//! How fast: the token clock of one environment, and what PingOne taught about its rate. Pure: time is passed in.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Requests leave a little slower than allowed: what the network delays unevenly, by 22 ms, does not look like a burst.
const SLOWER: f64 = 1.022;
/// Nor does what a late timer lost and is made up for: so many as the rate start in no less than this many seconds. Less than
/// above: a start that came late would otherwise make the one a second later late as well, and so on for ever.
const WINDOW: f64 = 1.014;
/// What a late timer lost may be made up for, this much of it.
const CATCH_UP: Duration = Duration::from_millis(50);
/// What is left of the rate after a 429.
const FALLS_TO: f64 = 0.7;
/// What comes back of it per second.
const CLIMBS: f64 = 0.02;
/// Above this, a rate that was unlimited is so again.
const UNLIMITED_FROM: f64 = 10_000.0;

/// Spaces requests evenly, and never lets more than the rate start in any second.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Zero: unlimited.
    interval: Duration,
    /// So many may start in [`Self::window`].
    capacity: usize,
    window: Duration,
    next: Instant,
    started: VecDeque<Instant>,
}

impl Bucket {
    /// An empty bucket: who sent for the environment before may have used the last second up.
    pub(super) fn new(rate: f64, now: Instant) -> Self {
        let mut bucket = Self {
            interval: Duration::ZERO,
            capacity: usize::MAX,
            window: Duration::ZERO,
            next: now,
            started: VecDeque::new(),
        };
        bucket.set_rate(rate);
        bucket.next = now + bucket.interval.min(Duration::from_secs(1));
        bucket
    }

    /// Changes the rate; infinite: no limit.
    pub(super) fn set_rate(&mut self, rate: f64) {
        if rate.is_infinite() {
            (self.interval, self.capacity, self.window) = (Duration::ZERO, usize::MAX, Duration::ZERO);
            self.started.clear();
            return;
        }
        self.interval = Duration::from_secs_f64(SLOWER / rate);
        // A rate such as 1.5 is two in a second and a third.
        let whole = rate.ceil().max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 10,000")]
        let capacity = whole as usize;
        self.capacity = capacity;
        self.window = Duration::from_secs_f64(WINDOW * whole / rate);
    }

    /// When the next request may start; `now` at the earliest.
    pub(super) fn opens(&self, now: Instant) -> Instant {
        let at = now.max(self.next);
        match self.started.len().checked_sub(self.capacity).and_then(|at| self.started.get(at)) {
            Some(&first) => at.max(first + self.window),
            None => at,
        }
    }

    /// Takes the next place, which is at `at`: what [`opens`](Self::opens) said or later.
    pub(super) fn take(&mut self, at: Instant) {
        if self.interval.is_zero() {
            return;
        }
        self.next = self.next.max(at - CATCH_UP.min(self.interval * 4)) + self.interval;
        self.started.push_back(at);
        while self.started.len() > self.capacity {
            self.started.pop_front();
        }
    }

    /// How many requests may start by `until`, about.
    pub(super) fn places(&self, now: Instant, until: Instant) -> u32 {
        let at = self.opens(now);
        if at > until {
            return 0;
        }
        if self.interval.is_zero() {
            return u32::MAX;
        }
        let more = (until - at).as_nanos() / self.interval.as_nanos().max(1);
        u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// The rate that PingOne bears: what is configured, or less after a 429, climbing back steadily.
#[derive(Debug, Clone, Copy)]
pub(super) struct Learned {
    configured: f64,
    taught: Option<Taught>,
}

#[derive(Debug, Clone, Copy)]
struct Taught {
    rate: f64,
    at: Instant,
}

impl Learned {
    /// Nothing is known but what is configured.
    pub(super) const fn new(configured: f64) -> Self {
        Self { configured, taught: None }
    }

    /// The rate now.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let Some(Taught { rate, at }) = self.taught else { return self.configured };
        let step = if self.configured.is_finite() { self.configured * CLIMBS } else { rate * CLIMBS };
        let climbed = step.mul_add(now.saturating_duration_since(at).as_secs_f64(), rate);
        match self.configured.is_finite() {
            true => climbed.min(self.configured),
            false if climbed > UNLIMITED_FROM => f64::INFINITY,
            false => climbed,
        }
    }

    /// A 429 came for a request that started at `started`, while `measured` a second were sent; nothing is sent before
    /// `resumes`. The new rate; nothing for a request that an earlier 429 already accounts for.
    pub(super) fn limited(&mut self, started: Instant, measured: f64, resumes: Instant) -> Option<f64> {
        if self.taught.is_some_and(|taught| started < taught.at) {
            return None;
        }
        let before = self.rate(started);
        let before = if before.is_finite() { before } else { measured.max(1.0) };
        let least = if self.configured.is_finite() { self.configured * CLIMBS } else { 1.0 };
        let rate = (before * FALLS_TO).max(least);
        self.taught = Some(Taught { rate, at: resumes });
        Some(rate)
    }

    /// Takes over what was stored: the rate taught and when.
    pub(super) fn adopt(&mut self, rate: f64, at: Instant) {
        self.taught = Some(Taught { rate, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn places_are_evenly_spaced_from_an_empty_bucket() {
        let start = Instant::now();
        let mut bucket = Bucket::new(20.0, start);
        let mut taken = Vec::new();
        let mut now = start;
        while taken.len() < 5 {
            now = bucket.opens(now);
            bucket.take(now);
            taken.push((now - start).as_millis());
        }
        assert_eq!(taken, [51, 102, 153, 204, 255]);
        assert_eq!(bucket.places(now, now + ms(250)), 4);
    }

    #[test]
    fn unlimited_is_open_at_once_and_always() {
        let now = Instant::now();
        let mut bucket = Bucket::new(f64::INFINITY, now);
        for _ in 0..10_000 {
            assert_eq!(bucket.opens(now), now);
            bucket.take(now);
        }
        assert_eq!(bucket.places(now, now), u32::MAX);
    }

    #[test]
    fn a_429_takes_three_tenths_and_two_percent_come_back_each_second() {
        let now = Instant::now();
        let mut learned = Learned::new(50.0);
        assert_eq!(learned.limited(now, 50.0, now + ms(1000)), Some(35.0));
        assert_eq!(learned.limited(now, 50.0, now + ms(1000)), None, "both had started before");
        assert!((learned.rate(now + ms(1000)) - 35.0).abs() < 1e-9, "nothing comes back while all waits");
        assert!((learned.rate(now + ms(6000)) - 40.0).abs() < 1e-9);
        assert!((learned.rate(now + ms(600_000)) - 50.0).abs() < 1e-9);
        let mut unlimited = Learned::new(f64::INFINITY);
        assert_eq!(unlimited.limited(now, 1000.0, now), Some(700.0));
        assert!(unlimited.rate(now + Duration::from_secs(3600)).is_infinite());
    }

    proptest! {
        /// However late its timers are, and whatever the rate changes to, no second has more than the rate in it.
        #[test]
        fn never_more_than_the_rate_in_any_second(
            rate in 1_u32..200, delays in proptest::collection::vec(0_u64..400, 1..600),
        ) {
            let mut now = Instant::now();
            let mut bucket = Bucket::new(f64::from(rate), now);
            let mut taken = Vec::new();
            for delay in delays {
                // Most timers are on time, some are far too late.
                now = bucket.opens(now) + if delay > 390 { ms(delay) } else { ms(delay % 3) };
                bucket.take(now);
                taken.push(now);
            }
            for (i, &first) in taken.iter().enumerate() {
                let within = taken[i..].iter().filter(|&&at| at < first + ms(1013)).count();
                prop_assert!(within <= rate as usize, "{within} > {rate}");
            }
        }

        #[test]
        fn the_rate_is_used_when_timers_are_a_little_late(rate in 5_u32..500, late in 0_u64..4) {
            let start = Instant::now();
            let mut bucket = Bucket::new(f64::from(rate), start);
            let mut now = start;
            let mut count = 0_u32;
            while now < start + Duration::from_secs(20) {
                now = bucket.opens(now) + ms((u64::from(count) * 7) % (late + 1));
                bucket.take(now);
                count += 1;
            }
            prop_assert!(f64::from(count) >= 0.97 * 20.0 * f64::from(rate), "{count} of {}", 20 * rate);
        }
    }
}
