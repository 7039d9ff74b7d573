//! Fuzzing: devices and lists of devices, as PingOne or somebody in its place may write them.

use std::collections::HashSet;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{DeviceId, Devices, Snapshot};

pub(crate) fn device_snapshot(data: &[u8]) {
    let Some(snapshot) = snapshot(data) else { return };
    holds_no_secret(snapshot.raw());
    assert_eq!(Snapshot::new(snapshot.raw().clone(), snapshot.at()), snapshot, "taken out at once");
    let nothing = Snapshot::new(Map::new(), snapshot.at());
    assert_eq!(format!("{snapshot:?}"), format!("{nothing:?}"), "shows nothing of PingOne's");
    assert!(snapshot.blocked_at().is_none() || snapshot.is_blocked());
    assert!(!(snapshot.is_locked() && snapshot.text(&["lock", "status"]).is_none()));
}

pub(crate) fn device_list(data: &[u8]) {
    let Some(list) = snapshot(data) else { return };
    let Some(devices) = Devices::of(&list) else { return };
    let entries = list.value(&["_embedded", "devices"]).and_then(Value::as_array).map_or(0, Vec::len);
    assert_eq!(devices.iter().count() + devices.skipped(), entries, "each is read or counted");
    let ids: HashSet<_> = devices.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), devices.iter().count(), "none stands there twice");
    assert!(!ids.contains(&DeviceId::EVERY));
    assert!(devices.blocked().all(|(_, device)| device.is_blocked()));
    devices.iter().for_each(|(_, device)| holds_no_secret(device.raw()));
}

fn snapshot(data: &[u8]) -> Option<Snapshot> {
    let raw = serde_json::from_slice(data).ok()?;
    Some(Snapshot::new(raw, OffsetDateTime::UNIX_EPOCH))
}

/// No member that lets its reader act as the device, and nothing that Postgres cannot store.
pub(crate) fn holds_no_secret(members: &Map<String, Value>) {
    for (name, value) in members {
        let name = name.to_ascii_lowercase();
        assert!(
            !["secret", "keyuri", "otp", "passcode", "pairingkey", "seed"].contains(&name.as_str()),
            "{name}"
        );
        assert!(!name.contains('\0'));
        can_be_stored(value);
    }
}

fn can_be_stored(value: &Value) {
    match value {
        Value::Object(members) => holds_no_secret(members),
        Value::Array(values) => values.iter().for_each(can_be_stored),
        Value::String(text) => assert!(!text.contains('\0')),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
