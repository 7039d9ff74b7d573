//! An entry of the audit trail as an event of the Open Cybersecurity Schema Framework 1.8. docs/audit-export.md has the table.

use serde_json::{Map, Value, json};

use crate::{
    audit::SERVICE,
    proto::v1::{AuditEvent, audit_event::Action, job::State},
};

const VERSION: &str = "1.8.0";

/// What a kind of event is called: number and name of its class and of the class's category.
struct Class {
    uid: i64,
    name: &'static str,
    category: (i64, &'static str),
}

/// What was done to an account. Replaced by `user_management` from OCSF 1.9 on.
const ACCOUNT_CHANGE: Class =
    Class { uid: 3001, name: "Account Change", category: (3, "Identity & Access Management") };
/// What was asked of this service.
const API_ACTIVITY: Class = Class { uid: 6003, name: "API Activity", category: (6, "Application Activity") };

/// The event as one object.
pub(super) fn event(event: &AuditEvent) -> Value {
    let (class, (activity, activity_name)) = class_of(event);
    let mut line = Object::default();
    line.put("class_uid", class.uid);
    line.put("class_name", class.name);
    line.put("category_uid", class.category.0);
    line.put("category_name", class.category.1);
    line.put("activity_id", activity);
    line.put("activity_name", activity_name);
    line.put("type_uid", class.uid * 100 + activity);
    line.put("type_name", format!("{}: {activity_name}", class.name));
    let (severity, severity_name) = severity(event);
    line.put("severity_id", severity);
    line.put("severity", severity_name);
    let (status, status_name) = status(event);
    line.put("status_id", status);
    line.put("status", status_name);
    line.text("status_code", &event.error_reason);
    line.put("time", millis(event));
    line.put("message", name(event));
    line.count("count", event.count);
    line.put("metadata", metadata(event));
    line.put("actor", actor(event));
    match class.uid {
        3001 => {
            line.put("user", user(event));
            line.put("auth_factors", auth_factors(event));
        }
        _ => {
            line.put("src_endpoint", source(event));
            line.put("api", api(event));
            line.put("resources", resources(event));
        }
    }
    if event.action() == Action::Denied {
        // By the profile security_control.
        line.put("action_id", 2);
        line.put("action", "Denied");
        line.put("disposition_id", 2);
        line.put("disposition", "Blocked");
    }
    line.put("unmapped", unmapped(event));
    line.into()
}

/// The end of a run is what was done to an account; all else was asked of this service.
fn class_of(event: &AuditEvent) -> (Class, (i64, &'static str)) {
    let activity = match event.action() {
        Action::Finished => return (ACCOUNT_CHANGE, (12, "Unlock")),
        Action::Requested | Action::RowRequested | Action::Redriven | Action::BatchOpened => (1, "Create"),
        Action::Listed | Action::TrailRead => (2, "Read"),
        Action::CancelAsked
        | Action::BatchSealed
        | Action::BatchPaused
        | Action::BatchResumed
        | Action::BatchCancelled
        | Action::BatchRetried
        | Action::BatchEnded
        | Action::Paused
        | Action::Resumed => (3, "Update"),
        Action::Erased => (4, "Delete"),
        Action::Denied | Action::Unspecified => (99, "Other"),
    };
    (API_ACTIVITY, activity)
}

fn severity(event: &AuditEvent) -> (i64, &'static str) {
    if event.action() == Action::Denied { (3, "Medium") } else { (1, "Informational") }
}

fn status(event: &AuditEvent) -> (i64, &'static str) {
    match (event.action(), event.outcome()) {
        (Action::Denied, _) | (Action::Finished, State::Failed) => (2, "Failure"),
        (Action::Finished, State::Cancelled) => (99, "Cancelled"),
        (Action::Finished, State::Expired) => (99, "Expired"),
        (Action::Finished, State::Unspecified | State::Pending | State::Running) => (0, "Unknown"),
        _ => (1, "Success"),
    }
}

fn millis(event: &AuditEvent) -> i64 {
    event.event_time.map_or(0, |time| time.seconds * 1000 + i64::from(time.nanos) / 1_000_000)
}

/// `REQUESTED`, and so on.
fn name(event: &AuditEvent) -> &'static str {
    event.action().as_str_name().trim_start_matches("ACTION_")
}

fn metadata(event: &AuditEvent) -> Value {
    let mut metadata = Object::default();
    metadata.put("version", VERSION);
    metadata.put("uid", event.event_id.as_str());
    metadata.put("event_code", name(event));
    metadata.put("log_name", "audit");
    let version = env!("CARGO_PKG_VERSION");
    metadata.put("product", json!({ "name": SERVICE, "vendor_name": SERVICE, "version": version }));
    metadata.text("tenant_uid", &event.environment_id);
    let about = if event.job_id.is_empty() { &event.batch_id } else { &event.job_id };
    metadata.text("correlation_uid", about);
    if event.action() == Action::Denied {
        metadata.put("profiles", json!(["security_control"]));
    }
    metadata.into()
}

/// A person that an application acts for, or whoever calls.
fn actor(event: &AuditEvent) -> Value {
    if event.caller == SERVICE {
        return json!({ "app_name": SERVICE });
    }
    if event.acting_for.is_empty() {
        return json!({ "user": { "uid": event.caller } });
    }
    json!({ "app_uid": event.caller, "user": { "name": event.acting_for } })
}

/// The address is kept of those only who have not proven who they are.
fn source(event: &AuditEvent) -> Value {
    match event.caller.strip_prefix("unauthenticated ") {
        Some(address) => json!({ "ip": address }),
        None => json!({ "name": event.caller }),
    }
}

fn user(event: &AuditEvent) -> Value {
    match event.user_id.as_str() {
        "" if event.erased => json!({ "name": "erased" }),
        "" => json!({ "name": "not kept" }),
        id => json!({ "uid": id }),
    }
}

/// Of what kind the device is the trail does not say.
fn auth_factors(event: &AuditEvent) -> Option<Value> {
    let device = json!({ "uid": event.device_id, "type_id": 0, "type": "Unknown" });
    (!event.device_id.is_empty())
        .then(|| json!([{ "factor_type_id": 0, "factor_type": "Unknown", "provider": "PingOne", "device": device }]))
}

fn api(event: &AuditEvent) -> Value {
    let called = matches!(event.action(), Action::Denied | Action::TrailRead) && !event.detail.is_empty();
    let operation = if called { event.detail.as_str() } else { name(event) };
    let mut api = Object::default();
    api.put("operation", operation);
    api.put("service", json!({ "name": SERVICE }));
    if !event.error_reason.is_empty() {
        api.put("response", json!({ "error": event.error_reason }));
    }
    api.into()
}

fn resources(event: &AuditEvent) -> Option<Value> {
    let all = [
        ("environment", &event.environment_id),
        ("user", &event.user_id),
        ("device", &event.device_id),
        ("job", &event.job_id),
        ("batch", &event.batch_id),
    ];
    let named: Vec<Value> = all
        .into_iter()
        .filter(|(_, uid)| !uid.is_empty())
        .map(|(kind, uid)| json!({ "type": kind, "uid": uid }))
        .collect();
    (!named.is_empty()).then(|| named.into())
}

/// What OCSF has no place for.
fn unmapped(event: &AuditEvent) -> Option<Value> {
    let mut rest = Object::default();
    rest.text("policy", &event.policy);
    rest.text("on_behalf_of", &event.on_behalf_of);
    rest.text("reason", &event.reason);
    rest.text("ticket", &event.ticket);
    rest.text("reference", &event.reference);
    rest.count("run", i64::from(event.run));
    rest.count("attempts", i64::from(event.attempts));
    rest.count("http_status", i64::from(event.http_status));
    rest.text("pingone_correlation_id", &event.correlation_id);
    rest.text("trace_id", &event.trace_id);
    if event.action() == Action::Finished {
        rest.text("detail", &event.detail);
        rest.text("batch_id", &event.batch_id);
    }
    if !event.erased_event_ids.is_empty() {
        rest.put("erased_event_ids", event.erased_event_ids.clone());
    }
    (!rest.0.is_empty()).then(|| rest.into())
}

#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    /// What is null is left out.
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        if !value.is_null() {
            self.0.insert(name.to_owned(), value);
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.put(name, text);
        }
    }

    fn count(&mut self, name: &str, count: i64) {
        if count != 0 {
            self.put(name, count);
        }
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

#[cfg(test)]
mod tests;
