//! Messages of the contract as JSON for programs. The one place that knows the names.

mod audit;
mod batch;

pub(super) use audit::audit_event;
pub(super) use batch::{batch, target_result, upload};
use prost_types::{Duration, Struct, Timestamp, value::Kind};
use serde_json::{Map, Number, Value};

use crate::proto::v1::{self, job::State};

/// What `--help` promises about `--output json`.
pub(super) const HELP: &str = "\
JSON output:
  One object per line. `unblock` and the `job` commands print Job, the `batch`
  commands Batch, `batch results` TargetResult, `env` commands Environment,
  `device get` GetDeviceResponse, `device list` Device, as proto3 maps them: lowerCamelCase
  names, enum values by name (STATE_SUCCEEDED), times in RFC 3339, durations as \"1.500s\",
  default values (0, false, \"\") left out. Only int64 differs: a plain number.
  `job watch` and `batch watch` print the job or the batch at every change.
  `bulk` prints objects with one field that says what they are: preview, upload,
  batch (at every change) and results. `status` prints what it found: verdict, also,
  service, postgres, pingone, queue, batches and environments (the worst); there 0 is
  given, and what is not known is left out. `policy` prints what the policy says: may and
  allow have for each scope \"all\" or the environments; bounds that are not set are left out.
  `audit export` prints AuditEvent, or events of OCSF, whatever --output says; `audit
  head` the ends of the chains; `audit verify` objects with one field: finding (each
  that there is), then summary. `erase` prints what went: auditEntries, jobs, batchRows,
  eventIds (the entries that tell of it); with dryRun, what would go.";

pub(super) fn job(job: &v1::Job) -> Value {
    Fields::default()
        .text("jobId", &job.job_id)
        .value("deviceRef", job.device_ref.as_ref().map(device_ref))
        .value("state", named(job.state, State::try_from(job.state).map(|state| state.as_str_name())))
        .value("device", job.device.as_ref().map(device))
        .value("error", job.error.as_ref().map(error))
        .number("attemptCount", job.attempt_count)
        .number("maxAttempts", job.max_attempts)
        .time("nextAttemptTime", job.next_attempt_time)
        .time("createTime", job.create_time)
        .time("updateTime", job.update_time)
        .time("completeTime", job.complete_time)
        .time("expireTime", job.expire_time)
        .text("requestId", &job.request_id)
        .text("caller", &job.caller)
        .text("reason", &job.reason)
        .text("ticket", &job.ticket)
        .value(
            "priority",
            named(job.priority, v1::Priority::try_from(job.priority).map(|priority| priority.as_str_name())),
        )
        .value("attempts", list(&job.attempts, attempt))
        .text("waitingFor", &job.waiting_for)
        .number("run", job.run)
        .number("revision", job.revision)
        .time("cancelRequestedTime", job.cancel_requested_time)
        .text("answeredByJobId", &job.answered_by_job_id)
        .text("onBehalfOf", &job.on_behalf_of)
        .text("batchId", &job.batch_id)
        .into()
}

pub(super) fn get_device_response(answer: &v1::GetDeviceResponse) -> Value {
    Fields::default().value("device", answer.device.as_ref().map(device)).text("jobId", &answer.job_id).into()
}

pub(super) fn environment(environment: &v1::Environment) -> Value {
    let state = v1::environment::State::try_from(environment.state);
    Fields::default()
        .text("environmentId", &environment.environment_id)
        .value("state", named(environment.state, state.map(|state| state.as_str_name())))
        .text("stateReason", &environment.state_reason)
        .time("resumeTime", environment.resume_time)
        .text("limitGroup", &environment.limit_group)
        .double("rateLimit", environment.rate_limit)
        .double("currentRate", environment.current_rate)
        .number("inFlight", environment.in_flight)
        .number("pendingInteractive", environment.pending_interactive)
        .number("pendingBulk", environment.pending_bulk)
        .duration("oldestPendingAge", environment.oldest_pending_age)
        .text("owner", &environment.owner)
        .double("effectiveRateLimit", environment.effective_rate_limit)
        .number("maxInFlight", environment.max_in_flight)
        .time("publishTime", environment.publish_time)
        .into()
}

pub(super) fn device(device: &v1::Device) -> Value {
    Fields::default()
        .value("ref", device.r#ref.as_ref().map(device_ref))
        .text("type", &device.r#type)
        .text("status", &device.status)
        .text("blockStatus", &device.block_status)
        .time("blockTime", device.block_time)
        .text("lockStatus", &device.lock_status)
        .time("lockExpireTime", device.lock_expire_time)
        .text("nickname", &device.nickname)
        .text("phone", &device.phone)
        .text("email", &device.email)
        .flag("testMode", device.test_mode)
        .time("createTime", device.create_time)
        .time("updateTime", device.update_time)
        .time("snapshotTime", device.snapshot_time)
        .value("raw", device.raw.as_ref().map(object))
        .into()
}

fn device_ref(named: &v1::DeviceRef) -> Value {
    Fields::default()
        .text("environmentId", &named.environment_id)
        .text("userId", &named.user_id)
        .text("deviceId", &named.device_id)
        .into()
}

fn error(error: &v1::JobError) -> Value {
    Fields::default()
        .text("reason", &error.reason)
        .text("message", &error.message)
        .number("httpStatus", error.http_status)
        .text("pingoneCode", &error.pingone_code)
        .text("pingoneId", &error.pingone_id)
        .text("correlationId", &error.correlation_id)
        .into()
}

fn attempt(attempt: &v1::Attempt) -> Value {
    Fields::default()
        .number("number", attempt.number)
        .time("startTime", attempt.start_time)
        .duration("duration", attempt.duration)
        .number("httpStatus", attempt.http_status)
        .value("error", attempt.error.as_ref().map(error))
        .text("correlationId", &attempt.correlation_id)
        .number("run", attempt.run)
        .flag("read", attempt.read)
        .into()
}

/// An object in the making; default values are left out.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn value(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        self.value(name, (!text.is_empty()).then(|| Value::from(text)))
    }

    fn flag(self, name: &str, flag: bool) -> Self {
        self.value(name, flag.then_some(Value::Bool(true)))
    }

    fn number(self, name: &str, number: impl Into<i64>) -> Self {
        let number = number.into();
        self.value(name, (number != 0).then(|| Value::from(number)))
    }

    fn double(self, name: &str, number: f64) -> Self {
        self.value(name, (number != 0.0).then(|| from_double(number)))
    }

    fn duration(self, name: &str, duration: Option<Duration>) -> Self {
        self.value(name, duration.map(|duration| Value::from(duration.to_string())))
    }

    fn time(self, name: &str, time: Option<Timestamp>) -> Self {
        self.value(name, time.map(|time| Value::from(time.to_string())))
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Object(fields.0)
    }
}

/// An enum by its name; as its number where a newer server knows more names than this program.
fn named<E>(number: i32, name: Result<&'static str, E>) -> Option<Value> {
    (number != 0).then(|| name.map_or_else(|_| Value::from(number), Value::from))
}

fn list<T>(items: &[T], item: impl Fn(&T) -> Value) -> Option<Value> {
    (!items.is_empty()).then(|| items.iter().map(item).collect())
}

fn object(fields: &Struct) -> Value {
    Value::Object(fields.fields.iter().map(|(name, value)| (name.clone(), any(value))).collect())
}

fn any(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::NumberValue(number)) => from_double(*number),
        Some(Kind::StringValue(text)) => Value::from(text.as_str()),
        Some(Kind::StructValue(fields)) => object(fields),
        Some(Kind::ListValue(items)) => items.values.iter().map(any).collect(),
    }
}

/// A whole number reads as one: `Struct` knows only doubles, PingOne wrote 5 and not 5.0.
fn from_double(number: f64) -> Value {
    const EXACT_UP_TO: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_UP_TO {
        #[expect(clippy::cast_possible_truncation, reason = "whole and in range, just checked")]
        let whole = number as i64;
        return Value::from(whole);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_job_reads_as_proto3_maps_it() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let raw = Struct {
            fields: [
                ("n".to_owned(), prost_types::Value { kind: Some(Kind::NumberValue(5.0)) }),
                ("h".to_owned(), prost_types::Value { kind: Some(Kind::NumberValue(0.5)) }),
            ]
            .into(),
        };
        let given = v1::Job {
            job_id: "j".to_owned(),
            state: State::Succeeded.into(),
            revision: 7,
            create_time: at(0),
            device: Some(v1::Device { test_mode: true, raw: Some(raw), ..v1::Device::default() }),
            attempts: vec![v1::Attempt {
                number: 1,
                duration: Some(Duration { seconds: 1, nanos: 500_000_000 }),
                ..v1::Attempt::default()
            }],
            ..v1::Job::default()
        };
        assert_eq!(
            job(&given),
            json!({
                "jobId": "j", "state": "STATE_SUCCEEDED", "revision": 7, "createTime": "1970-01-01T00:00:00Z",
                "device": { "testMode": true, "raw": { "n": 5, "h": 0.5 } },
                "attempts": [{ "number": 1, "duration": "1.500s" }],
            })
        );
    }

    #[test]
    fn an_unknown_state_stays_a_number() {
        assert_eq!(job(&v1::Job { state: 99, ..v1::Job::default() }), json!({ "state": 99 }));
    }
}
