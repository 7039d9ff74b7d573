//! The token: fetched once however many wait, renewed before it ends, replaced when PingOne refuses it.

mod grant;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::job::{Failure, Reason, RetryHint};

use super::answer::failure;

pub(crate) use grant::Worker;
#[cfg(any(test, fuzzing))]
pub(crate) use grant::granted;

/// Between two tries to renew a token that still serves.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);
/// How long before its end a token is renewed at the latest, unless it lives too short for that.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(60);

/// An access token as a header, and how long it serves.
pub(crate) struct Token {
    pub(crate) bearer: HeaderValue,
    renew_at: Instant,
    ends_at: Instant,
}

impl Token {
    fn new(bearer: HeaderValue, asked_at: Instant, life: Duration) -> Self {
        Self { bearer, renew_at: asked_at + renewed_after(life), ends_at: asked_at + life }
    }

    /// How long it still serves.
    fn life(&self) -> Duration {
        self.ends_at.saturating_duration_since(Instant::now())
    }
}

/// The `Authorization` header of a token; nothing for a text that is no token.
pub(crate) fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let token = token.expose_secret();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"') {
        return None;
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The token in a header that [`bearer`] made.
pub(crate) fn shown(bearer: &HeaderValue) -> Vec<SecretString> {
    let token = bearer.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    token.map(SecretString::from).into_iter().collect()
}

/// At four fifths of its life or a minute before its end, whichever is earlier, but not before half of it.
fn renewed_after(life: Duration) -> Duration {
    (life * 4 / 5).min(life.saturating_sub(RENEWED_BEFORE_END).max(life / 2))
}

/// The token of one worker application.
pub(crate) struct Tokens {
    worker: Arc<Worker>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    flight: Option<Flight>,
    /// Set by a renewal that failed while the token still serves.
    no_renewal_before: Option<Instant>,
}

/// A request for a token under way. It runs on its own, so that no waiter who goes away takes it along, and ends with its
/// owner.
struct Flight {
    landed: Landed,
    task: AbortOnDropHandle<()>,
}

type Grant = Result<Arc<Token>, Failure>;
type Landed = watch::Receiver<Option<Grant>>;

enum Next {
    Ready(Arc<Token>),
    Wait(Landed),
}

impl Tokens {
    pub(crate) fn new(worker: Worker) -> Self {
        Self { worker: Arc::new(worker), state: Mutex::default() }
    }

    /// A token that serves: at once where there is one, else the next one that is granted.
    pub(crate) async fn get(&self, deadline: Instant) -> Grant {
        let next = self.next(Instant::now());
        match next {
            Next::Ready(token) => Ok(token),
            Next::Wait(landed) => wait(landed, deadline).await,
        }
    }

    /// A token granted now, whatever there is already.
    pub(crate) async fn renew(&self, deadline: Instant) -> Grant {
        let landed = {
            let mut state = self.state();
            state.settle(Instant::now());
            state.fly(&self.worker)
        };
        wait(landed, deadline).await
    }

    /// PingOne does not accept `token`: no one is to use it again. A newer one stays.
    pub(crate) fn refused(&self, token: &Arc<Token>) {
        let mut state = self.state();
        state.settle(Instant::now());
        state.token.take_if(|current| Arc::ptr_eq(current, token));
    }

    fn next(&self, now: Instant) -> Next {
        let mut state = self.state();
        state.settle(now);
        match state.token.clone() {
            Some(token) if now < token.ends_at => {
                let may_renew = state.no_renewal_before.is_none_or(|then| now >= then);
                if now >= token.renew_at && may_renew {
                    state.fly(&self.worker);
                }
                Next::Ready(token)
            }
            _ => Next::Wait(state.fly(&self.worker)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step under the lock leaves the state half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Joins the flight under way, or starts one.
    fn fly(&mut self, worker: &Arc<Worker>) -> Landed {
        let flight = self.flight.get_or_insert_with(|| {
            let (land, landed) = watch::channel(None);
            let worker = Arc::clone(worker);
            let flying = async move {
                let granted = worker.grant().await.map(Arc::new);
                land.send_replace(Some(granted));
            };
            // To a trace it belongs to whoever needed it first.
            let task = tokio::spawn(flying.in_current_span());
            Flight { landed, task: AbortOnDropHandle::new(task) }
        });
        flight.landed.clone()
    }

    /// Takes in what a flight brought, if it has ended.
    fn settle(&mut self, now: Instant) {
        let Some(flight) = &self.flight else { return };
        let granted = flight.landed.borrow().clone();
        if granted.is_none() && !flight.task.is_finished() {
            return;
        }
        self.flight = None;
        match granted {
            Some(Ok(token)) => {
                self.token = Some(token);
                self.no_renewal_before = None;
            }
            Some(Err(failure)) if self.token.as_ref().is_some_and(|token| now < token.ends_at) => {
                let asked = match failure.hint {
                    RetryHint::Hold(asked) => asked.unwrap_or_default(),
                    RetryHint::After(asked) => asked,
                    RetryHint::Never | RetryHint::Backoff | RetryHint::BackoffFew | RetryHint::Credential => {
                        Duration::ZERO
                    }
                };
                self.no_renewal_before = Some(now + asked.max(RENEWAL_PAUSE));
                tracing::warn!(
                    error.reason = failure.reason.name(),
                    error.message = %failure.message,
                    "the access token could not be renewed; the present one serves until it ends"
                );
            }
            Some(Err(_)) | None => {}
        }
    }
}

async fn wait(mut landed: Landed, deadline: Instant) -> Grant {
    let granted = match timeout_at(deadline, landed.wait_for(Option::is_some)).await {
        Ok(Ok(granted)) => granted.clone(),
        Ok(Err(_)) => None,
        Err(_) => Some(Err(unavailable("No access token came within the attempt's deadline"))),
    };
    granted.unwrap_or(Err(unavailable("The request for an access token broke off")))
}

fn unavailable(message: &'static str) -> Failure {
    failure(Reason::Unavailable, RetryHint::Backoff, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_well_before_its_end() {
        for (life, renewed) in [(3600, 2880), (300, 240), (240, 180), (120, 60), (60, 30), (10, 5), (0, 0)] {
            let (life, renewed) = (Duration::from_secs(life), Duration::from_secs(renewed));
            assert_eq!(renewed_after(life), renewed, "{life:?}");
        }
    }

    #[test]
    fn only_a_token_becomes_a_header_and_it_is_never_printed() {
        let header = bearer(&SecretString::from("eyJ0.e30.c2ln"));
        assert!(header.is_some_and(|header| !format!("{header:?}").contains("eyJ0")));
        for wrong in ["", "two words", "line\n", "\"quoted\"", "é"] {
            assert!(bearer(&SecretString::from(wrong)).is_none(), "{wrong:?}");
        }
    }
}
