//! What was found, as one object for programs. What is not known is left out; 0 is not.

use std::time::Duration;

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    figures::{Environments, Queue},
    found::{Found, Postgres, Service},
    judge::{Finding, judge},
};
use crate::cli::json;

pub(super) fn found(found: &Found) -> Value {
    let findings = judge(found);
    let all = found.environments.as_ref();
    known([
        ("time", Some(time(found.at))),
        ("server", Some(Value::from(found.server.as_str()))),
        ("verdict", findings.first().map(finding)),
        ("also", Some(findings.iter().skip(1).map(finding).collect())),
        ("service", Some(service(found))),
        ("postgres", Some(postgres(&found.postgres))),
        ("pingone", all.map(pingone)),
        ("queue", all.map(|all| queue(&all.queue, all.count))),
        (
            "batches",
            found.batches.as_ref().map(|batches| {
                json!({
                    "uploading": batches.uploading, "running": batches.running, "paused": batches.paused,
                    "cancelling": batches.cancelling, "environments": batches.environments,
                })
            }),
        ),
        ("environments", all.map(|all| all.worst().iter().map(json::environment).collect())),
    ])
}

fn finding(finding: &Finding) -> Value {
    json!({
        "cause": finding.cause.name(),
        "whose": finding.cause.whose().name(),
        "needsAttention": finding.cause.needs_attention(),
        "sentence": finding.sentence,
    })
}

fn service(found: &Found) -> Value {
    let (state, took, why) = match &found.service {
        Service::Gone(why) => ("UNREACHABLE", None, Some(why)),
        Service::Refuses(why) => ("REFUSES", None, Some(why)),
        Service::NotServing(took) => ("NOT_SERVING", Some(took), None),
        Service::Serving(took) => ("SERVING", Some(took), None),
    };
    known([
        ("state", Some(Value::from(state))),
        ("reason", why.map(|why| Value::from(why.as_str()))),
        ("roundTrip", took.map(|took| duration(*took))),
        ("replicas", found.environments.as_ref().map(|all| Value::from(all.replicas()))),
        ("awaySince", found.away.map(|away| time(away.since))),
        ("awayUntil", found.away.and_then(|away| away.until).map(time)),
    ])
}

fn postgres(postgres: &Postgres) -> Value {
    let (state, took, why) = match postgres {
        Postgres::Unknown => ("UNKNOWN", None, None),
        Postgres::Answers(took) => ("ANSWERS", Some(took), None),
        Postgres::Unavailable(why) => ("UNAVAILABLE", None, Some(why)),
    };
    known([
        ("state", Some(Value::from(state))),
        ("reason", why.map(|why| Value::from(why.as_str()))),
        ("roundTrip", took.map(|took| duration(*took))),
    ])
}

fn pingone(all: &Environments) -> Value {
    let states = all.states;
    json!({
        "environments": all.count, "sending": states.sending, "paused": states.paused,
        "throttled": states.throttled, "unreachable": states.unreachable,
        "credentialRefused": states.credential_refused, "other": states.other,
        "everythingPaused": all.everything_paused.is_some(),
    })
}

fn queue(queue: &Queue, of: u64) -> Value {
    if of > 0 && queue.unknown == of {
        return json!({ "unknownEnvironments": queue.unknown });
    }
    known([
        ("pendingInteractive", Some(queue.interactive.into())),
        ("pendingBulk", Some(queue.bulk.into())),
        ("inFlight", Some(queue.in_flight.into())),
        ("currentRate", Some(queue.rate.into())),
        ("allowedRate", (queue.allowed > 0.0 && !queue.unlimited).then(|| queue.allowed.into())),
        ("oldestPendingAge", queue.oldest.map(duration)),
        ("unknownEnvironments", Some(queue.unknown.into())),
    ])
}

fn known<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(fields.collect::<Map<_, _>>())
}

fn duration(duration: Duration) -> Value {
    Value::from(format!("{:.3}s", duration.as_secs_f64()))
}

fn time(at: OffsetDateTime) -> Value {
    at.format(&Rfc3339).map_or(Value::Null, Value::from)
}
