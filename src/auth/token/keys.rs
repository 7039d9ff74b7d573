//! The keys of one issuer, kept: fetched by one however many need them, anew before they get old, the last good ones used meanwhile.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Clock, TokenError, fetch::Source, jwk::KeySet, keys_error::KeysError, parse::Unverified};
use crate::telemetry::metrics;

/// When keys are fetched anew: a key that its issuer takes back is no good here after that.
const REFRESH_AFTER: Duration = Duration::from_secs(5 * 60);
/// Between two fetches, whatever happens: strangers can send tokens with made-up keys.
const PAUSE: Duration = Duration::from_secs(10);

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    source: Arc<Source>,
    clock: Clock,
    /// From this age on they are not used.
    max_age: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    set: Option<Arc<KeySet>>,
    /// When `set` was asked for.
    as_of: Option<Instant>,
    /// When they were asked for last.
    asked_at: Option<Instant>,
    /// Whether that ended without keys.
    failing: bool,
    flight: Option<Flight>,
}

/// A fetch under way. It runs on its own, so that no waiter who goes away takes it along, and ends with its owner.
#[derive(Debug)]
struct Flight {
    landed: Landed,
    task: AbortOnDropHandle<()>,
}

type Fetched = Result<Arc<KeySet>, KeysError>;
type Landed = watch::Receiver<Option<Fetched>>;

impl Keys {
    pub(super) fn new(source: Source, clock: Clock, max_age: Duration) -> Self {
        Self { source: Arc::new(source), clock, max_age, state: Mutex::default() }
    }

    /// The issuer's name.
    pub(super) fn issuer(&self) -> &str {
        self.source.issuer()
    }

    /// The keys there are, if they are not too old. Has them fetched anew where it is time.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        let now = self.clock.instant();
        let mut state = self.state();
        state.settle();
        if state.is_due(now) {
            state.fly(&self.source, now);
        }
        state.usable(now, self.max_age)
    }

    /// The keys that verify `token`. A key that is not known is looked for once more, unless that was just done.
    pub(super) async fn verify(&self, token: &Unverified<'_>) -> Result<Arc<KeySet>, TokenError> {
        let known = self.current();
        let verified = known.map(|keys| keys.verify(token).map(|()| keys));
        match verified {
            None | Some(Err(TokenError::KeyUnknown)) => {}
            Some(verified) => return verified,
        }
        if let Some(landed) = self.ask_again() {
            let _ = wait(landed).await;
        }
        let keys = self.current().ok_or(TokenError::KeysUnavailable)?;
        match keys.verify(token) {
            Err(TokenError::KeyUnknown) if self.state().failing => Err(TokenError::KeysUnavailable),
            verified => verified.map(|()| keys),
        }
    }

    /// Has the keys fetched where it is time, and waits for them.
    pub(super) async fn refresh(&self) {
        self.current();
        let flight = self.state().flight.as_ref().map(|flight| flight.landed.clone());
        if let Some(landed) = flight {
            let _ = wait(landed).await;
            self.state().settle();
        }
    }

    /// Fetches the keys now: how many there are that can be used.
    pub(super) async fn check(&self) -> Result<usize, KeysError> {
        self.source.fetch().await.map(|keys| keys.len())
    }

    /// The fetch under way, or a new one where there may be one.
    fn ask_again(&self) -> Option<Landed> {
        let now = self.clock.instant();
        let mut state = self.state();
        if state.flight.is_none() && state.may_ask(now) {
            state.fly(&self.source, now);
        }
        state.flight.as_ref().map(|flight| flight.landed.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step under the lock leaves the state half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn usable(&self, now: Instant, max_age: Duration) -> Option<Arc<KeySet>> {
        let age = now.saturating_duration_since(self.as_of?);
        self.set.clone().filter(|_| age < max_age)
    }

    /// Whether the keys are to be fetched anew though nobody misses any.
    fn is_due(&self, now: Instant) -> bool {
        let old = |as_of| now.saturating_duration_since(as_of) >= REFRESH_AFTER;
        self.flight.is_none() && self.as_of.is_none_or(old) && self.may_ask(now)
    }

    fn may_ask(&self, now: Instant) -> bool {
        self.asked_at.is_none_or(|asked_at| now.saturating_duration_since(asked_at) >= PAUSE)
    }

    fn fly(&mut self, source: &Arc<Source>, now: Instant) {
        let (land, landed) = watch::channel(None);
        let source = Arc::clone(source);
        self.asked_at = Some(now);
        let task = tokio::spawn(async move {
            let fetched = source.fetch().await.map(Arc::new);
            tell(source.issuer(), &fetched);
            land.send_replace(Some(fetched));
        });
        self.flight = Some(Flight { landed, task: AbortOnDropHandle::new(task) });
    }

    /// Takes in what a fetch brought, if it has ended.
    fn settle(&mut self) {
        let Some(flight) = &self.flight else { return };
        let fetched = flight.landed.borrow().clone();
        if fetched.is_none() && !flight.task.is_finished() {
            return;
        }
        self.flight = None;
        self.failing = !matches!(fetched, Some(Ok(_)));
        if let Some(Ok(keys)) = fetched {
            self.as_of = self.asked_at;
            // The same keys stay the same: what they verified stays verified.
            let same = self.set.as_ref().is_some_and(|set| set.digest == keys.digest);
            if !same {
                self.set = Some(keys);
            }
        }
    }
}

fn tell(issuer: &str, fetched: &Fetched) {
    metrics().security.keys_fetched(fetched.as_ref().map_or_else(KeysError::name, |_| "ok"));
    match fetched {
        Ok(keys) => {
            let (usable, unusable) = (keys.len(), keys.unusable);
            tracing::debug!(
                issuer,
                keys.usable = usable,
                keys.unusable = unusable,
                "fetched an issuer's keys"
            );
            if keys.private {
                tracing::error!(issuer, "the issuer publishes a private or shared key; it is not used");
            }
        }
        Err(why) => {
            tracing::warn!(issuer, %why, "an issuer's keys cannot be fetched; the last good ones stay")
        }
    }
}

async fn wait(mut landed: Landed) -> Option<()> {
    landed.wait_for(Option::is_some).await.ok().map(drop)
}
