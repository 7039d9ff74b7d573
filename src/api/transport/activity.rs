//! The calls of one connection: whether there are any, and whether one is stuck.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower::Service;

use crate::{api::method, auth::Peer};

/// The calls of a connection now.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<Calls>>);

#[derive(Debug)]
struct Calls {
    next: u64,
    /// Until when each has to be over; none for streams, which end by themselves.
    open: HashMap<u64, Option<Instant>>,
    idle_since: Instant,
}

/// What has to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Look again then.
    Look(Instant),
    /// There has been no call for so long.
    Idle,
    /// A call is answered and its answer not taken, or it could not be answered.
    Stuck,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Calls { next: 0, open: HashMap::new(), idle_since: Instant::now() })))
    }

    /// What is due at `now`. Asked from time to time, so that a call need not wake whoever asks.
    pub(super) fn due(&self, now: Instant, idle: Duration, look_every: Duration) -> Due {
        let calls = self.calls();
        let next_look = now + look_every;
        if calls.open.is_empty() {
            let at = calls.idle_since + idle;
            return if at <= now { Due::Idle } else { Due::Look(at.min(next_look)) };
        }
        match calls.open.values().flatten().min() {
            Some(until) if *until <= now => Due::Stuck,
            Some(until) => Due::Look((*until).min(next_look)),
            None => Due::Look(next_look),
        }
    }

    fn began(&self, until: Option<Instant>) -> Under {
        let mut calls = self.calls();
        let number = calls.next;
        calls.next += 1;
        calls.open.insert(number, until);
        drop(calls);
        Under { activity: self.clone(), number }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way, until its answer is taken or it is given up.
#[derive(Debug)]
struct Under {
    activity: Activity,
    number: u64,
}

impl Drop for Under {
    fn drop(&mut self) {
        let mut calls = self.activity.calls();
        calls.open.remove(&self.number);
        calls.idle_since = Instant::now();
    }
}

/// Tells the services who calls, and the connection that somebody does.
#[derive(Debug, Clone)]
pub(super) struct Told<S> {
    pub(super) inner: S,
    pub(super) peer: Peer,
    pub(super) activity: Activity,
    /// How long a call that is no stream has, its answer taken.
    pub(super) unary: Duration,
}

impl<S> Service<Request<Incoming>> for Told<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Taken>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        let until = (!method::streams(request.uri().path())).then(|| Instant::now() + self.unary);
        let under = self.activity.began(until);
        let answer = self.inner.call(request.map(Body::new));
        Box::pin(async move { Ok(answer.await?.map(|inner| Taken { inner, _under: under })) })
    }
}

/// An answer's body; the call is over when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    inner: Body,
    _under: Under,
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(300);
    const LOOK: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_call_is_idle_and_one_with_a_stream_is_not() {
        let activity = Activity::new();
        let began = Instant::now();
        assert_eq!(activity.due(began, IDLE, LOOK), Due::Look(began + LOOK));
        assert_eq!(activity.due(began + IDLE, IDLE, LOOK), Due::Idle, "also one that never had a call");
        let stream = activity.began(None);
        assert_eq!(activity.due(began + IDLE, IDLE, LOOK), Due::Look(began + IDLE + LOOK));
        tokio::time::advance(IDLE).await;
        drop(stream);
        let ended = Instant::now();
        assert_eq!(activity.due(ended, IDLE, LOOK), Due::Look(ended + LOOK), "counted from its end");
        assert_eq!(activity.due(ended + IDLE, IDLE, LOOK), Due::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_whose_answer_nobody_takes_is_stuck() {
        let activity = Activity::new();
        let now = Instant::now();
        let _stream = activity.began(None);
        let call = activity.began(Some(now + Duration::from_secs(10)));
        assert_eq!(activity.due(now, IDLE, LOOK), Due::Look(now + Duration::from_secs(10)));
        assert_eq!(activity.due(now + Duration::from_secs(10), IDLE, LOOK), Due::Stuck);
        drop(call);
        assert_eq!(activity.due(now + IDLE, IDLE, LOOK), Due::Look(now + IDLE + LOOK));
    }
}
