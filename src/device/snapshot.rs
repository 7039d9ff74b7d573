//! The device as PingOne last described it: PingOne's JSON with everything secret taken out, and typed views of it.

use std::{fmt, sync::Arc};

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{DeviceId, DeviceRef, EnvironmentId, UserId};

/// Members that let their reader act as the device: TOTP seeds, pairing keys and passcodes. PingOne sends them at creation
/// and for test devices; they have no business in a store, wherever in the document they stand.
const SECRETS: [&str; 10] = [
    "secret",
    "keyuri",
    "otp",
    "otps",
    "passcode",
    "password",
    "pairingkey",
    "privatekey",
    "seed",
    "pushtoken",
];

/// What is nested deeper is left out: readers of gRPC refuse messages that are nested a hundred deep, and each level here is three of
/// theirs. PingOne's own have four.
const DEEPEST: usize = 24;

/// What PingOne said of a device, and when. Holds no secret: [`Snapshot::new`] takes them out. Contacts are in it, for the caller
/// who asked: it has no `Display`, and `Debug` shows none. Cheap to clone.
#[derive(Clone, PartialEq)]
pub struct Snapshot {
    raw: Arc<Map<String, Value>>,
    at: OffsetDateTime,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Keeps `raw`, PingOne's device resource, without its secrets.
    #[must_use]
    pub fn new(mut raw: Map<String, Value>, at: OffsetDateTime) -> Self {
        take_secrets_out(&mut raw, DEEPEST);
        Self { raw: Arc::new(raw), at }
    }

    /// What is certain after a success without a body: which device, and that it is no longer blocked.
    #[must_use]
    pub fn unblocked(device: &DeviceRef, at: OffsetDateTime) -> Self {
        let raw = json!({
            "id": device.device.to_string(),
            "environment": { "id": device.environment.to_string() },
            "user": { "id": device.user.to_string() },
            "block": { "status": "UNBLOCKED" },
        });
        match raw {
            Value::Object(raw) => Self { raw: Arc::new(raw), at },
            _ => unreachable!("the literal above is an object"),
        }
    }

    /// The same, seen at another instant.
    #[must_use]
    pub fn seen_at(self, at: OffsetDateTime) -> Self {
        Self { at, ..self }
    }

    /// PingOne's JSON without its secrets, also what this service does not know yet.
    #[must_use]
    pub fn raw(&self) -> &Map<String, Value> {
        &self.raw
    }

    /// When PingOne said so.
    #[must_use]
    pub const fn at(&self) -> OffsetDateTime {
        self.at
    }

    /// The text at a path such as `["block", "status"]`; nothing where it is absent or no text.
    #[must_use]
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        self.value(path)?.as_str()
    }

    /// The instant at a path, written as PingOne does (RFC 3339).
    #[must_use]
    pub fn instant(&self, path: &[&str]) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.text(path)?, &Rfc3339).ok()
    }

    /// The yes or no at a path.
    #[must_use]
    pub fn flag(&self, path: &[&str]) -> Option<bool> {
        self.value(path)?.as_bool()
    }

    /// Whether an administrator blocked it: what an unblock lifts.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.text(&["block", "status"]) == Some("BLOCKED")
    }

    /// Since when it is blocked; nothing where it is not, or PingOne does not say.
    #[must_use]
    pub fn blocked_at(&self) -> Option<OffsetDateTime> {
        self.instant(&["block", "blockedAt"]).filter(|_| self.is_blocked())
    }

    /// Whether failed attempts locked it when PingOne said so: that ends by itself, and no unblock lifts it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.text(&["lock", "status"]) == Some("LOCKED")
    }

    /// Whether this could be `device`: each id that PingOne gave is the one that was asked for. An id it left out says nothing.
    #[must_use]
    pub fn describes(&self, device: &DeviceRef) -> bool {
        let same = |path: &[&str], id: uuid::Uuid| match self.value(path) {
            None => true,
            Some(Value::String(given)) => uuid::Uuid::try_parse(given) == Ok(id),
            Some(_) => false,
        };
        same(&["id"], DeviceId::as_uuid(device.device))
            && same(&["environment", "id"], EnvironmentId::as_uuid(device.environment))
            && same(&["user", "id"], UserId::as_uuid(device.user))
    }

    pub(super) fn value(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.raw.get(*first)?, |value, key| value.get(key))
    }
}

fn take_secrets_out(members: &mut Map<String, Value>, deepest: usize) {
    members.retain(|key, _| {
        let secret = SECRETS.contains(&key.to_ascii_lowercase().as_str());
        // Postgres stores no NUL: a member whose very name holds one is no member of PingOne's.
        !secret && !key.contains('\0')
    });
    members.values_mut().for_each(|value| scrub(value, deepest - 1));
}

fn scrub(value: &mut Value, deepest: usize) {
    match value {
        Value::Object(_) | Value::Array(_) if deepest == 0 => *value = Value::Null,
        Value::Object(members) => take_secrets_out(members, deepest),
        Value::Array(values) => values.iter_mut().for_each(|value| scrub(value, deepest - 1)),
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    fn snapshot(raw: Value) -> Result<Snapshot, Box<dyn Error>> {
        let raw = raw.as_object().ok_or("not an object")?.clone();
        Ok(Snapshot::new(raw, OffsetDateTime::UNIX_EPOCH))
    }

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() -> Result<(), Box<dyn Error>> {
        let kept = snapshot(json!({
            "id": "1", "secret": "JBSWY3DP", "keyUri": "otpauth://…", "test": { "otp": "123456", "mode": true },
            "_embedded": [{ "pairingKey": "k", "type": "MOBILE" }],
        }))?;
        assert_eq!(
            Value::Object(kept.raw().clone()),
            json!({ "id": "1", "test": { "mode": true }, "_embedded": [{ "type": "MOBILE" }] })
        );
        Ok(())
    }

    #[test]
    fn it_prints_no_contact() -> Result<(), Box<dyn Error>> {
        let seen =
            snapshot(json!({ "email": "jane@example.com", "phone": "+14135550150", "nickname": "Jane's" }))?;
        let printed = format!("{seen:?} {:#?}", super::super::Devices::of(&seen));
        assert!(!["jane", "555", "Jane"].iter().any(|part| printed.contains(part)), "{printed}");
        Ok(())
    }

    #[test]
    fn what_no_store_can_hold_is_replaced() -> Result<(), Box<dyn Error>> {
        let kept = snapshot(json!({ "nickname": "a\0b", "odd\0name": 1, "list": ["\0"] }))?;
        assert_eq!(
            Value::Object(kept.raw().clone()),
            json!({ "nickname": "a\u{fffd}b", "list": ["\u{fffd}"] })
        );
        Ok(())
    }

    #[test]
    fn what_is_nested_too_deep_for_its_readers_is_left_out() -> Result<(), Box<dyn Error>> {
        let deep = |levels: usize, inside: &str| {
            format!("{}{inside}{}", "{\"a\":".repeat(levels), "}".repeat(levels))
        };
        let kept = |levels| -> Result<String, Box<dyn Error>> {
            Ok(Value::Object(snapshot(serde_json::from_str(&deep(levels, "1"))?)?.raw().clone()).to_string())
        };
        assert_eq!(kept(DEEPEST)?, deep(DEEPEST, "1"));
        assert_eq!(kept(DEEPEST + 1)?, deep(DEEPEST, "null"));
        assert_eq!(kept(120)?, deep(DEEPEST, "null"));
        Ok(())
    }

    #[test]
    fn typed_views_read_what_is_there_and_nothing_else() -> Result<(), Box<dyn Error>> {
        let seen = snapshot(json!({
            "block": { "status": "BLOCKED", "blockedAt": "2026-01-02T03:04:05.678Z" }, "testMode": true, "phone": 5,
        }))?;
        assert_eq!(seen.text(&["block", "status"]), Some("BLOCKED"));
        assert_eq!(
            seen.instant(&["block", "blockedAt"]).map(OffsetDateTime::unix_timestamp),
            Some(1_767_323_045)
        );
        assert_eq!(seen.flag(&["testMode"]), Some(true));
        assert_eq!(seen.text(&["phone"]), None);
        assert_eq!(seen.text(&["lock", "status"]), None);
        Ok(())
    }

    #[test]
    fn another_devices_answer_is_noticed() -> Result<(), Box<dyn Error>> {
        let asked = DeviceRef {
            environment: EnvironmentId::parse("abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6")?,
            user: UserId::parse("b30ac647-e33e-464f-a6ea-0275082d4c26")?,
            device: DeviceId::parse("6697f628-7712-4e71-b52b-920ba0635020")?,
        };
        assert!(Snapshot::unblocked(&asked, OffsetDateTime::UNIX_EPOCH).describes(&asked));
        assert!(snapshot(json!({}))?.describes(&asked));
        assert!(!snapshot(json!({ "id": "b30ac647-e33e-464f-a6ea-0275082d4c26" }))?.describes(&asked));
        assert!(!snapshot(json!({ "user": { "id": 7 } }))?.describes(&asked));
        Ok(())
    }
}
