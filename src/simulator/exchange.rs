//! The way of one request: read, recorded, limited, perhaps held, processed, perhaps tampered with, answered.

use std::{
    future::pending,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Ending, Simulator,
    answer::Answer,
    control, deviation, documented,
    fault::Fault,
    seen::{Route, Seen},
    server::Link,
    tamper::{Outcome, Wire, tamper},
};

/// Of a body, only so much is kept; none that PingOne documents is longer.
const BODY_KEPT: usize = 64 * 1024;

/// Answers one request, or ends its connection, or does neither.
///
/// # Errors
/// What went wrong while reading; there is nobody left to answer.
pub(super) async fn exchange(
    simulator: &Simulator,
    link: &Link,
    request: Request<Incoming>,
) -> Result<Response<Wire>, hyper::Error> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let seen = read(request).await?;
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid();
    if let Some(call) = seen.path.strip_prefix("/control/") {
        return Ok(response(control::answer(simulator, &seen, call, &query), &seen, id, Wire::Whole));
    }
    let Arrival { under_way, limited, fault, released } = simulator.arrive(&seen, link.number);
    let (later, fault) = fault.timing();
    if let Some(released) = released {
        // Also let go when the simulator forgets whom it holds.
        let _ = released.await;
    }
    let outcome = match limited {
        true => {
            Outcome::Whole(Answer::error(StatusCode::TOO_MANY_REQUESTS, id).with(header::RETRY_AFTER, "1"))
        }
        false => tamper(fault, id, || simulator.process(&seen, under_way.number, id)),
    };
    let wait = later + simulator.latency();
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    match outcome {
        Outcome::Whole(answer) => Ok(response(under_way.answered(answer), &seen, id, Wire::Whole)),
        Outcome::Chunked(answer) => Ok(response(under_way.answered(answer), &seen, id, Wire::Chunked)),
        Outcome::Cut(answer) => {
            let cut = |body: Bytes| Wire::Cut {
                half: body.slice(..body.len() / 2),
                promised: body.len() as u64,
                link: link.clone(),
            };
            Ok(response(under_way.answered(answer), &seen, id, cut))
        }
        Outcome::Reset => {
            under_way.end(Ending::Reset, None);
            link.reset();
            pending().await
        }
        Outcome::Silence => pending().await,
    }
}

async fn read(request: Request<Incoming>) -> Result<Seen, hyper::Error> {
    let (parts, mut body) = request.into_parts();
    let (mut kept, mut body_length) = (BytesMut::new(), 0);
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame?.into_data() {
            body_length += data.len() as u64;
            kept.extend_from_slice(&data[..data.len().min(BODY_KEPT - kept.len())]);
        }
    }
    let path = parts.uri.path().to_owned();
    let route = Route::of(&path);
    Ok(Seen { method: parts.method, path, headers: parts.headers, body: kept.freeze(), body_length, route })
}

/// With the headers that every answer of PingOne has ("PingOne API responses").
fn response(answer: Answer, seen: &Seen, id: Uuid, wire: impl FnOnce(Bytes) -> Wire) -> Response<Wire> {
    let mut response = Response::new(wire(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    let given = seen.headers.get(deviation::TRANSACTION_ID);
    let transaction = match given.map(|given| HeaderValue::from_bytes(&deviation::changed(given.as_bytes())))
    {
        Some(Ok(transaction)) => transaction,
        Some(Err(_)) | None => uuid_header(id),
    };
    response.headers_mut().insert("correlation-id", uuid_header(id));
    response.headers_mut().insert(deviation::TRANSACTION_ID, transaction);
    response
}

fn uuid_header(id: Uuid) -> HeaderValue {
    HeaderValue::from_str(&id.to_string()).expect("a UUID is ASCII")
}

/// A request that has been recorded.
struct Arrival {
    under_way: UnderWay,
    limited: bool,
    fault: Fault,
    released: Option<oneshot::Receiver<()>>,
}

/// A request without an end. Dropped without one, its caller has gone away.
struct UnderWay {
    simulator: Simulator,
    number: u64,
    route: Route,
    ended: bool,
}

impl Simulator {
    fn arrive(&self, seen: &Seen, connection: u64) -> Arrival {
        let mut state = self.state();
        let now = Instant::now();
        let limited = seen.is_api() && !state.allows_one_more(now);
        let fault = match seen.target().filter(|_| !limited) {
            Some((on, environment, device)) => state.plans.next(on, environment, device),
            None => Fault::Normal,
        };
        let released = fault.holds().then(|| {
            let (release, released) = oneshot::channel();
            state.held.push((seen.device(), release));
            released
        });
        let token = state.tokens.number(seen.bearer());
        state.ledger.counts.limited += u64::from(limited);
        let number = state.ledger.arrive(seen, connection, token, fault.clone(), now);
        drop(state);
        self.changed();
        let under_way = UnderWay { simulator: self.clone(), number, route: seen.route, ended: false };
        Arrival { under_way, limited, fault, released }
    }

    fn process(&self, seen: &Seen, number: u64, id: Uuid) -> Answer {
        let mut state = self.state();
        let answer = documented::answer(&mut state, seen, id);
        if answer.effect {
            state.ledger.effect(number, seen.device());
        }
        answer
    }

    fn latency(&self) -> Duration {
        let state = self.state();
        state.settings.latency + state.settings.jitter.mul_f64(fastrand::f64())
    }
}

impl UnderWay {
    fn answered(self, answer: Answer) -> Answer {
        let until = answer.headers.get(header::RETRY_AFTER).and_then(instant);
        self.end(Ending::Answered(answer.status.as_u16()), until);
        answer
    }

    fn end(mut self, ending: Ending, not_before: Option<Instant>) {
        self.ended = true;
        self.settle(ending, not_before);
    }

    fn settle(&self, ending: Ending, not_before: Option<Instant>) {
        let device = self.route.device();
        let mut state = self.simulator.state();
        if let Some(until) = not_before {
            state.ledger.not_before(device, until);
        }
        state.ledger.end(self.number, device, ending, Instant::now());
        drop(state);
        self.simulator.changed();
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            self.settle(Ending::Abandoned, None);
        }
    }
}

/// When a `Retry-After` has passed.
fn instant(retry_after: &HeaderValue) -> Option<Instant> {
    let text = retry_after.to_str().ok()?;
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Instant::now().checked_add(wait)
}
