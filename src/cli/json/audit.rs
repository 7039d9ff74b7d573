//! Entries of the audit trail.

use serde_json::Value;

use super::{Fields, list, named};
use crate::proto::v1::{AuditEvent, audit_event::Action, job::State};

pub(in crate::cli) fn audit_event(event: &AuditEvent) -> Value {
    Fields::default()
        .text("eventId", &event.event_id)
        .time("eventTime", event.event_time)
        .value(
            "action",
            named(event.action, Action::try_from(event.action).map(|action| action.as_str_name())),
        )
        .text("environmentId", &event.environment_id)
        .text("jobId", &event.job_id)
        .text("batchId", &event.batch_id)
        .text("caller", &event.caller)
        .text("actingFor", &event.acting_for)
        .text("policy", &event.policy)
        .text("userId", &event.user_id)
        .text("deviceId", &event.device_id)
        .text("onBehalfOf", &event.on_behalf_of)
        .text("reason", &event.reason)
        .text("ticket", &event.ticket)
        .text("reference", &event.reference)
        .number("run", event.run)
        .number("attempts", event.attempts)
        .value(
            "outcome",
            named(event.outcome, State::try_from(event.outcome).map(|state| state.as_str_name())),
        )
        .number("httpStatus", event.http_status)
        .text("correlationId", &event.correlation_id)
        .text("errorReason", &event.error_reason)
        .text("detail", &event.detail)
        .number("count", event.count)
        .text("traceId", &event.trace_id)
        .flag("erased", event.erased)
        .value("erasedEventIds", list(&event.erased_event_ids, |id| Value::from(id.as_str())))
        .into()
}
