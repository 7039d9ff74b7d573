//! The control API: the handle's functions over HTTP. The calls are listed at the top of the simulator.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use uuid::Uuid;

use super::{Device, Plan, Simulator, answer::Answer, seen::Seen};
use crate::device::{DeviceId, UserId};

const JSON: &str = "application/json";

/// How many records are shown unless said otherwise.
const LAST: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    id: String,
    secret: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    #[serde(default)]
    rate_limit: Option<u32>,
    #[serde(default)]
    latency_ms: u64,
    #[serde(default)]
    jitter_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Watched {
    #[serde(default)]
    user: Option<Uuid>,
}

/// A call that was not understood, and why.
struct Refused(StatusCode, String);

/// Answers `/control/{call}`.
pub(super) fn answer(simulator: &Simulator, seen: &Seen, call: &str, query: &str) -> Answer {
    call_of(simulator, seen, call, query).unwrap_or_else(|Refused(status, why)| {
        Answer::text(status, JSON, json!({ "error": why }).to_string())
    })
}

fn call_of(simulator: &Simulator, seen: &Seen, call: &str, query: &str) -> Result<Answer, Refused> {
    match (seen.method.as_str(), call) {
        ("GET", "counts") => return Ok(shown(&simulator.counts())),
        ("GET", "requests") => return Ok(shown(&simulator.last_requests(last(query)?))),
        ("GET", "arrivals") => return Ok(shown(&simulator.arrivals())),
        ("PUT", "watched") => simulator.watch(parse::<Watched>(seen)?.user.map(UserId::from)),
        ("GET", "deviations") => return Ok(shown(&simulator.deviations())),
        ("PUT", "devices") => simulator.register(parse::<Device>(seen)?),
        ("POST", "faults") => simulator.plan(parse::<Plan>(seen)?),
        ("DELETE", "faults") => simulator.clear_faults(),
        ("POST", "release") => simulator.release(),
        ("POST", "tokens/revoke") => simulator.revoke_tokens(),
        ("PUT", "clients") => {
            let client: Client = parse(seen)?;
            simulator.set_secret(&client.id, &client.secret);
        }
        ("PUT", "limits") => {
            let limits: Limits = parse(seen)?;
            simulator.set_rate_limit(limits.rate_limit);
            simulator.set_latency(
                Duration::from_millis(limits.latency_ms),
                Duration::from_millis(limits.jitter_ms),
            );
        }
        _ => return device(simulator, seen, call),
    }
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

fn device(simulator: &Simulator, seen: &Seen, call: &str) -> Result<Answer, Refused> {
    let id = call.strip_prefix("devices/").and_then(|id| DeviceId::parse(id).ok());
    let known = id.filter(|_| seen.method == Method::GET).and_then(|id| Some((simulator.device(id)?, id)));
    match known {
        Some((device, id)) => Ok(shown(&json!({ "device": device, "counts": simulator.counts_for(id) }))),
        None => Err(Refused(StatusCode::NOT_FOUND, "no such call or device".to_owned())),
    }
}

fn last(query: &str) -> Result<usize, Refused> {
    match query.strip_prefix("last=") {
        None if query.is_empty() => Ok(LAST),
        Some(count) => count.parse().map_err(|_| misunderstood("last is a number")),
        None => Err(misunderstood("the only parameter is last")),
    }
}

fn parse<T: DeserializeOwned>(seen: &Seen) -> Result<T, Refused> {
    serde_json::from_slice(&seen.body).map_err(misunderstood)
}

fn misunderstood(why: impl ToString) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why.to_string())
}

fn shown(value: &impl serde::Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("what is shown has text keys and no fallible serialiser");
    Answer::text(StatusCode::OK, JSON, body)
}
