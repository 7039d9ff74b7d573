//! How many calls a caller may make in a second and how many streams it may have open, shared out between the replicas that live. In
//! memory, so that a call too many costs nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    job::{Bound, Caller},
    telemetry::metrics,
};

/// Callers that are remembered, at most: who was not seen for longest is forgotten first.
const CALLERS_AT_MOST: usize = 10_000;
/// The others take their smaller share once they have seen a new replica, which is after two heartbeats at most.
const SETTLES_IN: Duration = Duration::from_secs(2);
/// Whoever may make no call at all is told to come back so late.
const NEVER: Duration = Duration::from_secs(3600);

/// Calls per second of each caller. This replica admits its share: as many replicas, so much smaller is it.
#[derive(Debug)]
pub struct Calls {
    replicas: Arc<AtomicUsize>,
    began: Instant,
    buckets: Mutex<HashMap<Caller, Bucket>>,
}

/// Holds a second's worth of calls at most, and one at least.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    calls: f64,
    rate: f64,
    at: Instant,
}

impl Bucket {
    /// As it stands at `now`; what ran in meanwhile came at the smaller of both rates.
    fn at(self, now: Instant, rate: f64) -> Self {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        let calls = (self.calls + passed * self.rate.min(rate)).min(rate.max(1.0));
        Self { calls, rate, at: now.max(self.at) }
    }

    /// Takes one call, or says when there will be one.
    fn take(&mut self) -> Result<(), Duration> {
        if self.calls >= 1.0 {
            self.calls -= 1.0;
            return Ok(());
        }
        let wait = Duration::try_from_secs_f64((1.0 - self.calls) / self.rate);
        Err(wait.unwrap_or(NEVER).min(NEVER))
    }
}

impl Calls {
    /// Of a replica that starts now: it has nothing to give yet, since the others still give all of it. `replicas`: how many live.
    #[must_use]
    pub fn new(replicas: Arc<AtomicUsize>) -> Self {
        Self { replicas, began: Instant::now(), buckets: Mutex::default() }
    }

    /// Admits a call of a caller that may make so many per second; nothing: any.
    ///
    /// # Errors
    /// After this long there will be room for it.
    pub fn admit(&self, caller: &Caller, per_second: Option<f64>) -> Result<(), Duration> {
        let Some(per_second) = per_second else { return Ok(()) };
        let admitted = self.take(caller, per_second, Instant::now());
        if admitted.is_err() {
            metrics().security.over_quota(Bound::CallRate, 1);
        }
        admitted
    }

    fn take(&self, caller: &Caller, per_second: f64, now: Instant) -> Result<(), Duration> {
        #[expect(clippy::cast_precision_loss, reason = "a count of replicas")]
        let replicas = self.replicas.load(Ordering::Relaxed).max(1) as f64;
        let rate = per_second.max(0.0) / replicas;
        let mut buckets = self.buckets();
        if buckets.len() >= CALLERS_AT_MOST && !buckets.contains_key(caller) {
            forget_longest_unseen(&mut buckets);
        }
        // Alone there is nobody to settle with.
        let settled = if replicas > 1.0 { self.began + SETTLES_IN } else { self.began };
        let fresh = Bucket { calls: 0.0, rate, at: settled };
        let bucket = buckets.entry(caller.clone()).or_insert(fresh);
        *bucket = bucket.at(now, rate);
        let not_before = bucket.at.saturating_duration_since(now);
        bucket.take().map_err(|wait| wait + not_before)
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<Caller, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Half of them at once: who calls next pays for it, seldom.
fn forget_longest_unseen(buckets: &mut HashMap<Caller, Bucket>) {
    let mut seen: Vec<Instant> = buckets.values().map(|bucket| bucket.at).collect();
    let middle = seen.len() / 2;
    let (_, median, _) = seen.select_nth_unstable(middle);
    let median = *median;
    let mut over = middle;
    buckets.retain(|_, bucket| {
        let goes = bucket.at <= median && over > 0;
        over -= usize::from(goes);
        !goes
    });
}

/// Open streams of each caller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Streams {
    replicas: Arc<AtomicUsize>,
    open: Arc<Mutex<HashMap<Caller, usize>>>,
}

impl Streams {
    /// Of a replica without any. `replicas`: how many live.
    #[must_use]
    pub fn new(replicas: Arc<AtomicUsize>) -> Self {
        Self { replicas, open: Arc::default() }
    }

    /// Opens one more for a caller that may have so many over all replicas; nothing: any. Nothing where this replica's share is
    /// taken, which is one at least.
    #[must_use]
    pub fn open(&self, caller: &Caller, at_most: Option<u32>) -> Option<OpenStream> {
        let replicas = self.replicas.load(Ordering::Relaxed).max(1);
        let share = at_most.map(|at_most| match at_most {
            0 => 0,
            _ => (at_most as usize / replicas).max(1),
        });
        let mut open = self.counts();
        let count = open.get(caller).copied().unwrap_or_default();
        if share.is_some_and(|share| count >= share) {
            metrics().security.over_quota(Bound::Streams, 1);
            return None;
        }
        open.insert(caller.clone(), count + 1);
        Some(OpenStream { streams: self.clone(), caller: caller.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Caller, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open stream. Dropped, it is closed.
#[derive(Debug)]
pub struct OpenStream {
    streams: Streams,
    caller: Caller,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.counts();
        if let Some(count) = open.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests;
