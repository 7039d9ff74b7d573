//! From the domain to the contract's messages.

use std::collections::BTreeMap;

use prost_types::{ListValue, Struct, Value, value::Kind};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::contacts::{Contacts, masked};
use crate::{
    device::{DeviceRef, EnvironmentId, Snapshot},
    job::{Attempt, Failure, Job, Priority, RetryPolicy, Turn, Wait},
    proto::v1,
};

pub(super) fn timestamp(instant: OffsetDateTime) -> prost_types::Timestamp {
    // Nanoseconds of a second always fit.
    prost_types::Timestamp { seconds: instant.unix_timestamp(), nanos: instant.nanosecond().cast_signed() }
}

/// Jobs ahead are counted so far.
pub(super) const COUNTED_AHEAD: u32 = 10_000;

/// A job; with its attempts where `attempts` are given, to which the one that succeeded is added.
pub(super) fn job(
    job: Job,
    attempts: Option<Vec<Attempt>>,
    turn: Option<Turn>,
    policy: &RetryPolicy,
    contacts: Contacts,
) -> v1::Job {
    let waiting_for = job.wait.as_ref().map(|wait| sentence(wait, &job, turn)).unwrap_or_default();
    let attempts = attempts.map(|attempts| attempts.into_iter().chain(job.success));
    v1::Job {
        job_id: job.id.to_string(),
        device_ref: Some(device_ref(&job.device)),
        state: i32::from(job.state.number()),
        device: job
            .snapshot
            .as_ref()
            .filter(|_| !job.device.is_every())
            .map(|one| device(&job.device, one, contacts)),
        error: job.error.map(error),
        attempt_count: number(job.attempt_count),
        max_attempts: number(policy.max_attempts()),
        next_attempt_time: job.next_attempt_at.map(timestamp),
        create_time: Some(timestamp(job.created_at)),
        update_time: Some(timestamp(job.updated_at)),
        complete_time: job.completed_at.map(timestamp),
        expire_time: Some(timestamp(job.expires_at)),
        request_id: job.request_id.unwrap_or_default(),
        caller: job.caller,
        reason: job.reason,
        ticket: job.ticket,
        batch_id: job.batch_id.unwrap_or_default(),
        priority: match job.priority {
            Priority::Interactive => v1::Priority::Interactive.into(),
            Priority::Bulk => v1::Priority::Bulk.into(),
        },
        attempts: attempts.into_iter().flatten().map(attempt).collect(),
        waiting_for,
        run: number(job.run),
        revision: job.revision,
        cancel_requested_time: job.cancel_requested_at.map(timestamp),
        answered_by_job_id: job.answered_by.map(|id| id.to_string()).unwrap_or_default(),
        on_behalf_of: job.on_behalf_of,
    }
}

/// What a job waits for, for people.
pub(super) fn sentence(wait: &Wait, job: &Job, turn: Option<Turn>) -> String {
    let at = |instant: &OffsetDateTime| {
        instant.replace_nanosecond(0).ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
    };
    let environment = job.device.environment;
    match wait {
        Wait::Credential { error, retry_at } => format!(
            "PingOne refuses the credential of environment {environment}: {error}; tried again at {}",
            at(retry_at)
        ),
        Wait::Hold(until) => format!("PingOne asked to wait until {}", at(until)),
        Wait::Backoff(until) => {
            let after = job.error.as_ref().map_or("a failure", |error| error.reason.name());
            format!("the next attempt at {}, after {after}", at(until))
        }
        Wait::Worker => "a worker: no live replica sends for this environment now".to_owned(),
        Wait::Paused { since, by, reason } => {
            format!("a resume: paused by {by} since {}: {reason}", at(since))
        }
        Wait::Circuit { since, error, retry_at } => format!(
            "PingOne: failing since {}, one job finds out at {} whether it still does: {error}",
            at(since),
            at(retry_at)
        ),
        Wait::Turn(_) => match turn {
            Some(turn) => in_turn(turn, environment),
            None => format!("its turn within the limits of environment {environment}"),
        },
    }
}

fn in_turn(turn: Turn, environment: EnvironmentId) -> String {
    let Some(per_second) = turn.rate else {
        return match turn.ahead {
            0 => format!("its turn within the limits of environment {environment}"),
            ahead => format!("{} ahead in environment {environment}", jobs(ahead)),
        };
    };
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = (turn.ahead + 1) as f64 / per_second;
    let rate = format!("rate limit of environment {environment}: ");
    match turn.ahead {
        0 => format!("{rate}next token in {:.0} ms or less", seconds * 1000.0),
        ahead => format!("{rate}{} ahead, about {}", jobs(ahead), about(seconds)),
    }
}

fn jobs(count: u64) -> String {
    match count {
        1 => "1 job".to_owned(),
        count if count >= u64::from(COUNTED_AHEAD) => format!("more than {COUNTED_AHEAD} jobs"),
        count => format!("{count} jobs"),
    }
}

fn about(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1000.0),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

fn attempt(attempt: Attempt) -> v1::Attempt {
    v1::Attempt {
        number: number(attempt.number),
        start_time: Some(timestamp(attempt.started_at)),
        duration: prost_types::Duration::try_from(attempt.duration).ok(),
        http_status: attempt.http_status.map(i32::from).unwrap_or_default(),
        error: attempt.error.map(error),
        correlation_id: attempt.correlation_id.unwrap_or_default(),
        run: number(attempt.run),
        read: attempt.read,
    }
}

pub(super) fn error(failure: Failure) -> v1::JobError {
    v1::JobError {
        reason: failure.reason.name().to_owned(),
        message: failure.message.into(),
        http_status: failure.http_status.map(i32::from).unwrap_or_default(),
        pingone_code: failure.pingone_code.unwrap_or_default(),
        pingone_id: failure.pingone_id.unwrap_or_default(),
        correlation_id: failure.correlation_id.unwrap_or_default(),
    }
}

fn device_ref(device: &DeviceRef) -> v1::DeviceRef {
    v1::DeviceRef {
        environment_id: device.environment.to_string(),
        user_id: device.user.to_string(),
        device_id: if device.is_every() { String::new() } else { device.device.to_string() },
    }
}

pub(super) fn device(named: &DeviceRef, snapshot: &Snapshot, contacts: Contacts) -> v1::Device {
    let snapshot = &match contacts {
        Contacts::Masked => masked(snapshot),
        Contacts::Shown => snapshot.clone(),
    };
    let text = |path: &[&str]| snapshot.text(path).unwrap_or_default().to_owned();
    let instant = |path: &[&str]| snapshot.instant(path).map(timestamp);
    v1::Device {
        r#ref: Some(device_ref(named)),
        r#type: text(&["type"]),
        status: text(&["status"]),
        block_status: text(&["block", "status"]),
        block_time: instant(&["block", "blockedAt"]),
        lock_status: text(&["lock", "status"]),
        lock_expire_time: instant(&["lock", "expiresAt"]),
        nickname: text(&["nickname"]),
        phone: text(&["phone"]),
        email: text(&["email"]),
        test_mode: snapshot.flag(&["testMode"]).unwrap_or_default(),
        create_time: instant(&["createdAt"]),
        update_time: instant(&["updatedAt"]),
        snapshot_time: Some(timestamp(snapshot.at())),
        raw: Some(members(snapshot.raw())),
    }
}

fn members(members: &serde_json::Map<String, serde_json::Value>) -> Struct {
    let fields: BTreeMap<String, Value> =
        members.iter().map(|(name, member)| (name.clone(), value(member))).collect();
    Struct { fields }
}

fn value(given: &serde_json::Value) -> Value {
    let kind = match given {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(*flag),
        // The contract's JSON has no other numbers.
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(value).collect() })
        }
        serde_json::Value::Object(given) => Kind::StructValue(members(given)),
    };
    Value { kind: Some(kind) }
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
