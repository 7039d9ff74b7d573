//! The devices of a user, read out of the list that PingOne gave of them. A list is kept as a [`Snapshot`] of its own.

use std::collections::HashSet;

use serde_json::Value;

use super::{DeviceId, Snapshot};

/// What a list says: each device by its id, in PingOne's order, the user's default first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Devices {
    devices: Vec<(DeviceId, Snapshot)>,
    skipped: usize,
    goes_on: bool,
}

impl Devices {
    /// Reads a list, such as the snapshot of a job for [`DeviceId::EVERY`]; nothing where it is no list.
    #[must_use]
    pub fn of(list: &Snapshot) -> Option<Self> {
        let entries = match list.value(&["_embedded", "devices"]) {
            Some(Value::Array(entries)) => entries.as_slice(),
            None if says_none(list) => &[],
            Some(_) | None => return None,
        };
        let mut known = HashSet::new();
        let read = |entry: &Value| {
            let device = Snapshot::new(entry.as_object()?.clone(), list.at());
            let id = DeviceId::parse(device.text(&["id"])?).ok()?;
            (id != DeviceId::EVERY && known.insert(id)).then_some((id, device))
        };
        let devices: Vec<_> = entries.iter().filter_map(read).collect();
        let goes_on = list.value(&["_links", "next"]).is_some_and(|next| !next.is_null());
        Some(Self { skipped: entries.len() - devices.len(), devices, goes_on })
    }

    /// The devices.
    pub fn iter(&self) -> std::slice::Iter<'_, (DeviceId, Snapshot)> {
        self.devices.iter()
    }

    /// Those of them that an unblock is for.
    pub fn blocked(&self) -> impl Iterator<Item = &(DeviceId, Snapshot)> {
        self.iter().filter(|(_, device)| device.is_blocked())
    }

    /// Entries that are left out: without an id that names a device, or with that of an entry before.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether PingOne has more of them on another page.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        self.goes_on
    }
}

impl IntoIterator for Devices {
    type Item = (DeviceId, Snapshot);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.devices.into_iter()
    }
}

impl<'a> IntoIterator for &'a Devices {
    type Item = &'a (DeviceId, Snapshot);
    type IntoIter = std::slice::Iter<'a, (DeviceId, Snapshot)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// HAL leaves out what is empty; then the count alone says that there is nothing.
fn says_none(list: &Snapshot) -> bool {
    ["count", "size"].iter().any(|name| list.value(&[name]).and_then(Value::as_u64) == Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::error::Error;
    use time::{OffsetDateTime, macros::datetime};

    const FIRST: &str = "6697f628-7712-4e71-b52b-920ba0635020";
    const SECOND: &str = "b30ac647-e33e-464f-a6ea-0275082d4c26";

    fn list(raw: &Value) -> Option<Devices> {
        Devices::of(&Snapshot::new(raw.as_object()?.clone(), OffsetDateTime::UNIX_EPOCH))
    }

    #[test]
    fn each_device_is_read_in_its_order_without_secrets() -> Result<(), Box<dyn Error>> {
        let devices = list(&json!({ "_embedded": { "devices": [
            { "id": FIRST, "block": { "status": "BLOCKED", "blockedAt": "2026-01-02T03:04:05Z" }, "secret": "s" },
            { "id": SECOND, "block": { "status": "UNBLOCKED" }, "lock": { "status": "LOCKED" } },
        ] } }))
        .ok_or("it is a list")?;
        let ids: Vec<String> = devices.iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(ids, [FIRST, SECOND]);
        let told: Vec<_> =
            devices.iter().map(|(_, one)| (one.is_blocked(), one.is_locked(), one.blocked_at())).collect();
        assert_eq!(told, [(true, false, Some(datetime!(2026-01-02 03:04:05 UTC))), (false, true, None)]);
        assert_eq!(devices.blocked().count(), 1);
        assert_eq!((devices.skipped(), devices.goes_on()), (0, false));
        assert!(devices.into_iter().all(|(_, one)| one.text(&["secret"]).is_none()));
        Ok(())
    }

    #[test]
    fn what_names_no_device_is_left_out_and_counted() -> Result<(), Box<dyn Error>> {
        let entries = json!([{ "id": FIRST }, {}, 7, { "id": "x" }, { "id": 7 }, { "id": FIRST }, { "id": uuid::Uuid::nil() }]);
        let devices = list(&json!({ "_embedded": { "devices": entries } })).ok_or("it is a list")?;
        assert_eq!((devices.iter().count(), devices.skipped()), (1, 6));
        Ok(())
    }

    #[test]
    fn only_what_says_so_is_a_list() {
        for (raw, count) in [
            (json!({ "_embedded": { "devices": [] } }), Some(0)),
            (json!({ "_links": {}, "size": 0 }), Some(0)),
            (json!({ "count": 0, "_embedded": {} }), Some(0)),
            (json!({}), None),
            (json!({ "size": 1 }), None),
            (json!({ "id": FIRST, "block": { "status": "BLOCKED" } }), None),
            (json!({ "size": 0, "_embedded": { "devices": {} } }), None),
        ] {
            assert_eq!(list(&raw).map(|devices| devices.iter().count()), count, "{raw}");
        }
    }

    #[test]
    fn a_list_that_goes_on_says_so() {
        for (next, goes_on) in
            [(json!({ "href": "https://api.pingone.eu/v1/x?cursor=2" }), true), (Value::Null, false)]
        {
            let devices = list(&json!({ "_links": { "next": next }, "_embedded": { "devices": [] } }));
            assert_eq!(devices.map(|devices| devices.goes_on()), Some(goes_on));
        }
    }
}
