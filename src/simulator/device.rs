//! Devices, and the JSON PingOne shows of them ("Unblock MFA User Device", example response).

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::{
    OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::datetime,
    macros::format_description,
};
use uuid::{Uuid, uuid};

use crate::device::{DeviceId, DeviceRef, EnvironmentId, UserId};

const CREATED: OffsetDateTime = datetime!(2022-09-22 13:07:15.115 UTC);
const UPDATED: OffsetDateTime = datetime!(2022-11-20 15:52:58.519 UTC);

/// A device as PingOne keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// The environment it lives in.
    pub environment: Uuid,
    /// The user it belongs to.
    pub user: Uuid,
    /// Its own id.
    pub id: Uuid,
    /// `SMS`, `EMAIL`, `TOTP`, `MOBILE`, `FIDO2` … or what PingOne has not thought of yet.
    #[serde(rename = "type", default = "sms")]
    pub kind: Cow<'static, str>,
    /// `ACTIVE` or `ACTIVATION_REQUIRED`; it does not change when a device is blocked or locked.
    #[serde(default = "active")]
    pub status: Cow<'static, str>,
    /// Blocked by an administrator, until someone unblocks it.
    #[serde(default)]
    pub blocked: bool,
    /// Since when (`block.blockedAt`).
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub blocked_at: Option<OffsetDateTime>,
    /// Locked after wrong passcodes until then (`lock.expiresAt`).
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub locked_until: Option<OffsetDateTime>,
    /// When it was paired.
    #[serde(default = "created", with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(default = "updated", with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// The number of an SMS, voice or WhatsApp device.
    #[serde(default)]
    pub phone: Option<String>,
    /// Any other member, such as `email`, `nickname`, `testMode` or `test`, as it is to be shown.
    #[serde(default)]
    pub members: Map<String, Value>,
}

impl Device {
    /// A blocked SMS device without anything else to it.
    #[must_use]
    pub fn blocked(device: DeviceRef) -> Self {
        Self {
            environment: device.environment.as_uuid(),
            user: device.user.as_uuid(),
            id: device.device.as_uuid(),
            kind: sms(),
            status: active(),
            blocked: true,
            blocked_at: Some(UPDATED),
            locked_until: None,
            created_at: CREATED,
            updated_at: UPDATED,
            phone: None,
            members: Map::new(),
        }
    }

    /// The device of PingOne's own documentation, blocked.
    #[must_use]
    pub fn example() -> Self {
        let device = DeviceRef {
            environment: EnvironmentId::from(uuid!("abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6")),
            user: UserId::from(uuid!("b30ac647-e33e-464f-a6ea-0275082d4c26")),
            device: DeviceId::from(uuid!("6697f628-7712-4e71-b52b-920ba0635020")),
        };
        Self { phone: Some("+14135550150".to_owned()), ..Self::blocked(device) }.with("testMode", json!(true))
    }

    /// With one more member, such as `("email", "a@example.com".into())`.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// What it is called by.
    #[must_use]
    pub fn reference(&self) -> DeviceRef {
        DeviceRef {
            environment: EnvironmentId::from(self.environment),
            user: UserId::from(self.user),
            device: DeviceId::from(self.id),
        }
    }

    pub(super) fn block(&mut self, now: OffsetDateTime) {
        if !self.blocked {
            self.blocked = true;
            self.blocked_at = Some(now);
        }
    }

    pub(super) fn unblock(&mut self) {
        self.blocked = false;
        self.blocked_at = None;
    }

    /// The representation in PingOne's answers, links beginning with `base`.
    pub(super) fn shown(&self, base: &str, now: OffsetDateTime) -> impl Serialize {
        let environment = format!("{base}/environments/{}", self.environment);
        let user = format!("{environment}/users/{}", self.user);
        let locked_until = self.locked_until.filter(|until| *until > now);
        Shown {
            links: Links {
                this: Link { href: format!("{user}/devices/{}", self.id) },
                environment: Link { href: environment },
                user: Link { href: user },
            },
            id: self.id,
            environment: Named { id: self.environment },
            user: Named { id: self.user },
            kind: &self.kind,
            lock: Lock {
                status: if locked_until.is_some() { "LOCKED" } else { "UNLOCKED" },
                expires_at: locked_until.map(timestamp),
            },
            block: Block {
                status: if self.blocked { "BLOCKED" } else { "UNBLOCKED" },
                blocked_at: self.blocked_at.filter(|_| self.blocked).map(timestamp),
            },
            status: &self.status,
            created_at: timestamp(self.created_at),
            updated_at: timestamp(self.updated_at),
            phone: self.phone.as_deref(),
            members: &self.members,
        }
    }
}

const fn sms() -> Cow<'static, str> {
    Cow::Borrowed("SMS")
}

const fn active() -> Cow<'static, str> {
    Cow::Borrowed("ACTIVE")
}

const fn created() -> OffsetDateTime {
    CREATED
}

const fn updated() -> OffsetDateTime {
    UPDATED
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    #[serde(rename = "_links")]
    links: Links,
    id: Uuid,
    environment: Named,
    user: Named,
    #[serde(rename = "type")]
    kind: &'a str,
    lock: Lock,
    block: Block,
    status: &'a str,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
    #[serde(flatten)]
    members: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    this: Link,
    environment: Link,
    user: Link,
}

#[derive(Serialize)]
struct Link {
    href: String,
}

#[derive(Serialize)]
struct Named {
    id: Uuid,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_at: Option<String>,
}

/// An instant as PingOne writes it: UTC, milliseconds, `Z`.
fn timestamp(at: OffsetDateTime) -> String {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.to_offset(UtcOffset::UTC).format(&FORMAT).expect("every part of the format is in a date with time")
}

/// All devices there are. An id belongs to one device, whoever asks.
pub(super) struct Devices {
    by_id: HashMap<DeviceId, Device>,
    of_user: HashMap<(EnvironmentId, UserId), Vec<DeviceId>>,
    /// Whether devices that only were asked for are kept.
    keeps: bool,
    /// The last of them otherwise.
    passing: Option<Device>,
}

impl Devices {
    pub(super) fn new(keeps: bool) -> Self {
        Self { by_id: HashMap::new(), of_user: HashMap::new(), keeps, passing: None }
    }

    pub(super) fn register(&mut self, device: Device) {
        let name = device.reference();
        if let Some(before) = self.by_id.insert(name.device, device) {
            let before = before.reference();
            let devices = self.of_user.entry((before.environment, before.user)).or_default();
            devices.retain(|id| *id != name.device);
        }
        self.of_user.entry((name.environment, name.user)).or_default().push(name.device);
    }

    /// The device of that name; with `touch` an unknown id becomes a blocked device.
    pub(super) fn get(&mut self, name: DeviceRef, touch: bool) -> Option<&mut Device> {
        let device = match self.by_id.entry(name.device) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(_) if !touch => return None,
            Entry::Vacant(_) if !self.keeps => self.passing.insert(touched(name)),
            Entry::Vacant(unknown) => {
                self.of_user.entry((name.environment, name.user)).or_default().push(name.device);
                unknown.insert(touched(name))
            }
        };
        Some(device).filter(|device| device.reference() == name)
    }

    /// The devices of a user in the order they were paired; with `touch` an unknown user has one.
    pub(super) fn of_user(&mut self, environment: EnvironmentId, user: UserId, touch: bool) -> Vec<&Device> {
        if touch && !self.of_user.contains_key(&(environment, user)) {
            let derived = user.as_uuid().as_u128().rotate_left(64).to_be_bytes();
            let device = DeviceId::from(uuid::Builder::from_random_bytes(derived).into_uuid());
            let device = touched(DeviceRef { environment, user, device });
            if !self.keeps {
                return vec![self.passing.insert(device)];
            }
            self.register(device);
        }
        let ids = self.of_user.get(&(environment, user)).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.by_id.get(id)).collect()
    }

    pub(super) fn by_id(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.by_id.get_mut(&id)
    }
}

/// A device nobody registered. Its number is one of those reserved for fiction.
fn touched(name: DeviceRef) -> Device {
    let last = 100 + name.device.as_uuid().as_u128() % 100;
    Device { phone: Some(format!("+14135550{last}")), ..Device::blocked(name) }
}
