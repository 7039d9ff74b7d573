//! When an environment may be sent to: its rate, what PingOne asked for, whether PingOne answers and takes the credential, and
//! whether an operator paused it. Pure: time is passed in.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    Limits,
    breaker::{Breaker, Turn},
    bucket::{Bucket, Learned},
    credential::Credential,
};
use crate::{device::UserId, store::EnvironmentFacts};

const HOLD_FIRST: Duration = Duration::from_secs(1);
const HOLD_LONGEST: Duration = Duration::from_secs(60);
/// A slot of the licence's rate is used this late at most: later, it would fall into another's second.
const SLOT_GRACE: Duration = Duration::from_millis(10);

/// All that can keep an environment waiting.
#[derive(Debug)]
pub(super) struct Gate {
    bucket: Bucket,
    learned: Learned,
    /// The rate the bucket has now.
    rate: f64,
    hold_until: Instant,
    /// 429s in a row without a wait in them.
    strikes: u32,
    breaker: Breaker,
    credential: Credential,
    paused: bool,
    /// Slots of the licence's rate that are ours; nothing where the environment shares none.
    slots: Option<VecDeque<Instant>>,
    meter: Meter,
}

/// What a request that started must know at its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    at: Instant,
    /// It finds out whether PingOne answers again.
    pub(super) probe: bool,
    /// It finds out whether PingOne takes the credential again.
    tries: bool,
}

impl Started {
    /// When.
    pub(super) const fn at(self) -> Instant {
        self.at
    }
}

/// What a 429 means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limited {
    /// How long everything waits.
    pub(super) wait: Duration,
    /// The rate from then on, where it changed.
    pub(super) rate: Option<f64>,
}

impl Gate {
    pub(super) fn new(limits: Limits, grouped: bool, now: Instant) -> Self {
        Self {
            bucket: Bucket::new(limits.rate, now),
            learned: Learned::new(limits.rate),
            rate: limits.rate,
            hold_until: now,
            strikes: 0,
            breaker: Breaker::default(),
            credential: Credential::default(),
            paused: false,
            slots: grouped.then(VecDeque::new),
            meter: Meter::default(),
        }
    }

    /// When the next request may start; nothing where that depends on something else than time.
    pub(super) fn opens(&mut self, now: Instant) -> Option<Instant> {
        let at = self.opens_but_for_slots(now)?;
        match &mut self.slots {
            None => Some(at),
            Some(slots) => {
                while slots.front().is_some_and(|slot| *slot + SLOT_GRACE < at) {
                    slots.pop_front();
                }
                slots.front().map(|slot| at.max(*slot))
            }
        }
    }

    fn opens_but_for_slots(&mut self, now: Instant) -> Option<Instant> {
        if self.paused {
            return None;
        }
        self.refresh(now);
        let at = self.bucket.opens(now).max(self.hold_until);
        Some(at.max(self.breaker.opens(now)?).max(self.credential.opens(now)?))
    }

    /// A request starts at `at`, which [`opens`](Self::opens) allows.
    pub(super) fn take(&mut self, at: Instant) -> Started {
        self.bucket.take(at);
        self.slots.as_mut().and_then(VecDeque::pop_front);
        let (probe, tries) = (self.breaker.is_open(), self.credential.is_refused());
        self.breaker.started();
        self.credential.started();
        self.meter.count(at);
        Started { at, probe, tries }
    }

    /// How many requests may start by `until`, about. Slots of the licence's rate are got as they are needed.
    pub(super) fn places(&mut self, now: Instant, until: Instant) -> u32 {
        match self.opens_but_for_slots(now) {
            Some(at) if at > until => 0,
            Some(_) if self.breaker.is_open() || self.credential.is_refused() => 1,
            Some(at) => self.bucket.places(at, until),
            None => 0,
        }
    }

    /// When, slots apart, the next request may start.
    pub(super) fn opens_about(&mut self, now: Instant) -> Option<Instant> {
        self.opens_but_for_slots(now)
    }

    /// How many slots of the licence's rate are in hand.
    pub(super) fn slots(&mut self, now: Instant) -> usize {
        let Some(slots) = &mut self.slots else { return usize::MAX };
        while slots.front().is_some_and(|slot| *slot + SLOT_GRACE < now) {
            slots.pop_front();
        }
        slots.len()
    }

    /// A slot of the licence's rate is ours.
    pub(super) fn add_slot(&mut self, at: Instant) {
        if let Some(slots) = &mut self.slots {
            slots.push_back(at);
        }
    }

    /// All of the licence waits until then: the slots in hand are void.
    pub(super) fn hold_group(&mut self, until: Instant) {
        self.hold_until = self.hold_until.max(until);
        self.slots.iter_mut().for_each(VecDeque::clear);
    }

    /// Whether nothing may start now although it had been allowed: a hold, an open circuit, a refusal or a pause came in between.
    pub(super) fn is_shut(&self, now: Instant) -> bool {
        let Shut { paused, throttled, circuit_open, credential_refused } = self.stands(now);
        paused || throttled || circuit_open || credential_refused
    }

    /// Whether what `started` may still be sent: nothing came in between that it is not itself to find out about.
    pub(super) fn still_lets(&self, started: Started, now: Instant) -> bool {
        !self.paused
            && now >= self.hold_until
            && (started.probe || !self.breaker.is_open())
            && (started.tries || !self.credential.is_refused())
    }

    /// What `started` was not sent after all.
    pub(super) fn unused(&mut self, started: Started) {
        if started.probe {
            self.breaker.inconclusive();
        }
        if started.tries {
            self.credential.inconclusive();
        }
    }

    /// An operator paused or resumed it.
    pub(super) const fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// PingOne's rate limit was met.
    pub(super) fn rate_limited(
        &mut self,
        now: Instant,
        started: Started,
        asked: Option<Duration>,
    ) -> Limited {
        let wait = asked.unwrap_or_else(|| doubled(HOLD_FIRST, self.strikes, HOLD_LONGEST));
        self.strikes = if asked.is_none() { self.strikes + 1 } else { 0 };
        self.hold_until = self.hold_until.max(now + wait);
        self.inconclusive();
        let rate = self.learned.limited(started.at, self.meter.rate(now), self.hold_until);
        self.slots.iter_mut().for_each(VecDeque::clear);
        Limited { wait, rate }
    }

    /// The credential was refused: says how long until it is tried again.
    pub(super) fn credential_refused(&mut self, now: Instant) -> Duration {
        self.breaker.inconclusive();
        self.credential.refused(now)
    }

    /// The credential changed: if it was refused, it is tried now.
    pub(super) fn try_credential(&mut self, now: Instant) {
        self.credential.try_now(now);
    }

    /// PingOne forbade a request; true when it must be the credential.
    pub(super) fn forbidden(&mut self, user: UserId) -> bool {
        self.credential.forbidden(user) || self.credential.is_refused()
    }

    /// PingOne answered and took the credential: what had been shut and is open again.
    pub(super) fn answered(&mut self, now: Instant) -> Reopened {
        self.strikes = 0;
        Reopened { credential: self.credential.taken(), circuit: self.breaker.answered(now) == Turn::Closed }
    }

    /// PingOne answered a read: what had been shut and is open again.
    pub(super) fn read(&mut self, now: Instant) -> Reopened {
        self.strikes = 0;
        let credential = self.credential.taken_for_a_read();
        Reopened { credential, circuit: self.breaker.answered(now) == Turn::Closed }
    }

    /// PingOne answered, which says nothing of the credential.
    pub(super) fn reached(&mut self, now: Instant) -> Turn {
        self.credential.inconclusive();
        self.breaker.answered(now)
    }

    /// PingOne failed or did not answer: for how long the circuit is open now, if it has just opened or a probe failed.
    pub(super) fn failed(&mut self, now: Instant, started: Started) -> Option<Duration> {
        self.credential.inconclusive();
        match self.breaker.failed(now, started.probe) {
            Turn::Opened(wait) => Some(wait),
            Turn::None | Turn::Closed => None,
        }
    }

    /// A request that had started ended without anything to learn from.
    pub(super) fn inconclusive(&mut self) {
        self.breaker.inconclusive();
        self.credential.inconclusive();
    }

    /// Takes over what is stored.
    pub(super) fn adopt(&mut self, now: Instant, facts: &EnvironmentFacts, first: bool) {
        self.hold_until = self.hold_until.max(now + facts.hold);
        self.set_paused(facts.paused);
        if !first {
            return;
        }
        if let Some((rate, ago)) = facts.learned_rate {
            self.learned.adopt(rate, now.checked_sub(ago).unwrap_or(now));
        }
        if let Some(retry_in) = facts.credential_retry_in {
            self.credential.adopt(now + retry_in);
        }
        if let Some(retry_in) = facts.breaker_retry_in {
            self.breaker.adopt(now + retry_in);
        }
    }

    /// What keeps it waiting now.
    pub(super) fn stands(&self, now: Instant) -> Shut {
        Shut {
            paused: self.paused,
            throttled: now < self.hold_until,
            circuit_open: self.breaker.is_open(),
            credential_refused: self.credential.is_refused(),
        }
    }

    /// The rate after what PingOne taught; requests per second now.
    pub(super) fn rates(&mut self, now: Instant) -> (f64, f64) {
        self.refresh(now);
        (self.rate, self.meter.rate(now))
    }

    fn refresh(&mut self, now: Instant) {
        let rate = self.learned.rate(now);
        // Not for every little climb, but for the last one.
        let settled = rate == self.rate || (rate.is_finite() && (rate / self.rate - 1.0).abs() < 0.005);
        if !settled {
            self.rate = rate;
            self.bucket.set_rate(rate);
        }
    }
}

/// What keeps an environment waiting, beside its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shut {
    pub(super) paused: bool,
    pub(super) throttled: bool,
    pub(super) circuit_open: bool,
    pub(super) credential_refused: bool,
}

/// What had been shut and is open again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reopened {
    pub(super) credential: bool,
    pub(super) circuit: bool,
}

/// Requests per second, over the last whole one.
#[derive(Debug, Default)]
struct Meter {
    began: Option<Instant>,
    current: u32,
    last: f64,
}

impl Meter {
    fn count(&mut self, now: Instant) {
        self.turn(now);
        self.current += 1;
    }

    fn rate(&mut self, now: Instant) -> f64 {
        self.turn(now);
        self.last
    }

    fn turn(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        if passed >= Duration::from_secs(1) {
            self.last = f64::from(self.current) / passed.as_secs_f64();
            (self.began, self.current) = (Some(now), 0);
        }
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn gate(rate: f64, now: Instant) -> Gate {
        Gate::new(Limits { rate, max_in_flight: 8 }, false, now)
    }

    #[test]
    fn a_hold_is_never_undercut_and_never_shortened() {
        let now = Instant::now();
        let mut gate = gate(1000.0, now);
        let started = gate.take(now);
        let limited = gate.rate_limited(now, started, Some(ms(3000)));
        assert_eq!(limited, Limited { wait: ms(3000), rate: Some(700.0) });
        assert_eq!(gate.rate_limited(now, started, Some(ms(1000))).rate, None);
        assert_eq!(gate.opens(now), Some(now + ms(3000)));
        assert_eq!(gate.places(now, now + ms(2999)), 0);
    }

    #[test]
    fn holds_without_a_wait_in_them_grow() {
        let now = Instant::now();
        let mut gate = gate(10.0, now);
        let started = gate.take(now);
        let waits: Vec<u64> = (0..8).map(|_| gate.rate_limited(now, started, None).wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_slot_of_the_licence_is_used_in_its_time_or_not_at_all() {
        let now = Instant::now();
        let mut gate = Gate::new(Limits { rate: f64::INFINITY, max_in_flight: 8 }, true, now);
        assert_eq!(gate.opens(now), None, "there is no slot yet");
        gate.add_slot(now + ms(20));
        gate.add_slot(now + ms(100));
        assert_eq!(gate.opens(now), Some(now + ms(20)));
        assert_eq!(gate.opens(now + ms(60)), Some(now + ms(100)), "the first is past");
        gate.take(now + ms(100));
        assert_eq!(gate.opens(now + ms(100)), None);
        gate.add_slot(now + ms(200));
        gate.hold_group(now + ms(500));
        assert_eq!(gate.slots(now), 0, "a hold voids what is in hand");
    }

    #[test]
    fn a_pause_shuts_and_a_resume_opens() {
        let now = Instant::now();
        let mut gate = gate(f64::INFINITY, now);
        gate.set_paused(true);
        assert_eq!((gate.opens(now), gate.is_shut(now)), (None, true));
        gate.set_paused(false);
        assert_eq!((gate.opens(now), gate.is_shut(now)), (Some(now), false));
    }
}
