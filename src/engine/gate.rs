//! When an environment may be sent to. Pure: time is passed in. Beside it the desk: the gate and the slots of an environment.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::Instant};

use super::Limits;
use crate::store::EnvironmentStatus;

const HOLD_FIRST: Duration = Duration::from_secs(1);
const HOLD_LONGEST: Duration = Duration::from_secs(60);
const CREDENTIAL_FIRST: Duration = Duration::from_secs(5);
const CREDENTIAL_LONGEST: Duration = Duration::from_secs(300);

/// Spaces the requests of one environment evenly, and keeps it waiting when PingOne says so.
#[derive(Debug)]
pub(super) struct Gate {
    interval: Duration,
    next: Instant,
    hold_until: Instant,
    /// 429s in a row without a wait in them.
    strikes: u32,
    refusal: Option<Refusal>,
}

/// PingOne refuses the credential: one attempt at a time finds out whether it still does.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    retry_at: Instant,
    wait: Duration,
    probing: bool,
}

impl Gate {
    /// A gate with an empty bucket: who sent for the environment before may have used the last second up.
    pub(super) fn new(rate: f64, now: Instant) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate);
        Self {
            interval,
            next: now + interval.min(Duration::from_secs(1)),
            hold_until: now,
            strikes: 0,
            refusal: None,
        }
    }

    /// When the next request may start, if that is by `until`, and takes that place.
    pub(super) fn take(&mut self, now: Instant, until: Instant) -> Option<Instant> {
        let at = self.opens(now)?;
        if at > until {
            return None;
        }
        self.next = at + self.interval;
        if let Some(refusal) = &mut self.refusal {
            refusal.probing = true;
        }
        Some(at)
    }

    /// Gives a place back that was not used, if no later one has been taken.
    pub(super) fn give_back(&mut self, at: Instant) {
        if self.next == at + self.interval {
            self.next = at;
        }
        if let Some(refusal) = &mut self.refusal {
            refusal.probing = false;
        }
    }

    /// When the next request may start; nothing while a probe of the credential is out.
    pub(super) fn opens(&self, now: Instant) -> Option<Instant> {
        let at = now.max(self.next).max(self.hold_until);
        match self.refusal {
            Some(Refusal { probing: true, .. }) => None,
            Some(Refusal { retry_at, .. }) => Some(at.max(retry_at)),
            None => Some(at),
        }
    }

    /// Whether PingOne asked to send nothing now.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        now < self.hold_until
    }

    /// How many requests may start by `until`.
    pub(super) fn places(&self, now: Instant, until: Instant) -> u32 {
        match self.opens(now) {
            Some(at) if at <= until && self.refusal.is_some() => 1,
            Some(at) if at <= until => {
                let more = (until - at).as_nanos() / self.interval.as_nanos().max(1);
                u32::try_from(more).unwrap_or(u32::MAX).saturating_add(1)
            }
            _ => 0,
        }
    }

    /// PingOne's rate limit was met: says how long everything waits now.
    pub(super) fn rate_limited(&mut self, now: Instant, asked: Option<Duration>) -> Duration {
        let wait = asked.unwrap_or_else(|| doubled(HOLD_FIRST, self.strikes, HOLD_LONGEST));
        self.strikes = if asked.is_none() { self.strikes + 1 } else { 0 };
        self.hold_until = self.hold_until.max(now + wait);
        self.end_probe();
        wait
    }

    /// The credential was refused: says how long until it is tried again.
    pub(super) fn credential_refused(&mut self, now: Instant) -> Duration {
        let wait = match self.refusal {
            // Several attempts were out when the first was refused: they say nothing new.
            Some(Refusal { retry_at, probing: false, .. }) if retry_at > now => return retry_at - now,
            Some(Refusal { wait, .. }) => (wait * 2).min(CREDENTIAL_LONGEST),
            None => CREDENTIAL_FIRST,
        };
        self.refusal = Some(Refusal { retry_at: now + wait, wait, probing: false });
        wait
    }

    /// PingOne answered with the credential taken: says whether it had been refused before.
    pub(super) fn credential_accepted(&mut self) -> bool {
        self.strikes = 0;
        self.refusal.take().is_some()
    }

    /// An attempt ended that says nothing of the credential.
    pub(super) fn end_probe(&mut self) {
        if let Some(refusal) = &mut self.refusal {
            refusal.probing = false;
        }
    }

    /// Takes over what other replicas learned.
    pub(super) fn adopt(&mut self, now: Instant, status: &EnvironmentStatus) {
        self.hold_until = self.hold_until.max(now + status.hold);
        match (&status.credential, self.refusal) {
            (Some((_, retry_in)), None) => {
                self.refusal =
                    Some(Refusal { retry_at: now + *retry_in, wait: CREDENTIAL_FIRST, probing: false });
            }
            (None, Some(Refusal { probing: false, retry_at, .. })) if retry_at <= now => self.refusal = None,
            _ => {}
        }
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times)).min(longest)
}

/// What the owner of an environment keeps for it.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) gate: Gate,
    pub(super) slots: Arc<Semaphore>,
    /// There was more due than could be taken: a slot that comes free is worth a look.
    pub(super) backlog: bool,
}

impl Desk {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            gate: Gate::new(limits.rate, now),
            slots: Arc::new(Semaphore::new(limits.max_in_flight as usize)),
            backlog: false,
        }
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
        let mut gate = Gate::new(20.0, start);
        let until = start + ms(250);
        assert_eq!(gate.places(start, until), 5);
        let taken: Vec<_> = std::iter::from_fn(|| gate.take(start, until)).map(|at| at - start).collect();
        assert_eq!(taken, [ms(50), ms(100), ms(150), ms(200), ms(250)]);
    }

    #[test]
    fn a_place_not_used_is_the_next_ones() {
        let start = Instant::now();
        let mut gate = Gate::new(10.0, start);
        let first = gate.take(start, start + ms(500));
        if let Some(at) = first {
            gate.give_back(at);
        }
        assert_eq!(gate.take(start, start + ms(500)), first);
    }

    #[test]
    fn a_hold_is_never_undercut_and_never_shortened() {
        let start = Instant::now();
        let mut gate = Gate::new(1000.0, start);
        assert_eq!(gate.rate_limited(start, Some(ms(3000))), ms(3000));
        gate.rate_limited(start, Some(ms(1000)));
        assert_eq!(gate.opens(start), Some(start + ms(3000)));
        assert_eq!(gate.places(start, start + ms(2999)), 0);
    }

    #[test]
    fn holds_without_a_wait_in_them_grow() {
        let now = Instant::now();
        let mut gate = Gate::new(10.0, now);
        let waits: Vec<u64> = (0..8).map(|_| gate.rate_limited(now, None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_refused_credential_is_probed_by_one_attempt_at_a_time() {
        let mut now = Instant::now();
        let mut gate = Gate::new(10.0, now);
        assert_eq!(gate.credential_refused(now), ms(5000));
        assert_eq!(gate.take(now, now + ms(250)), None);
        now += ms(5000);
        assert_eq!(gate.places(now, now + ms(250)), 1);
        assert!(gate.take(now, now + ms(250)).is_some());
        assert_eq!(gate.take(now, now + ms(250)), None, "one probe is out");
        assert_eq!(gate.credential_refused(now), ms(10_000));
        now += ms(10_000);
        assert!(gate.take(now, now + ms(250)).is_some());
        assert!(gate.credential_accepted());
        assert!(!gate.credential_accepted());
        assert!(gate.take(now, now + ms(250)).is_some());
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_in_any_second(
            rate in 1_u32..100, asks in proptest::collection::vec((0_u64..200, 0_u64..250), 1..40),
        ) {
            let mut now = Instant::now();
            let mut gate = Gate::new(f64::from(rate), now);
            let mut taken = Vec::new();
            for (pause, horizon) in asks {
                now += ms(pause);
                while let Some(at) = gate.take(now, now + ms(horizon)) {
                    taken.push(at);
                }
            }
            for (i, &first) in taken.iter().enumerate() {
                // A nanosecond for the interval's rounding.
                let within = taken[i..].iter().filter(|&&at| at + Duration::from_nanos(500) < first + ms(1000)).count();
                prop_assert!(within <= rate as usize, "{within} > {rate}");
            }
        }
    }
}
