//! Devices for callers who may not see contacts. What is shown must look like what PingOne documents there; all else is masked, so
//! that a member nobody knows yet gives nothing away. Pure.

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::device::Snapshot;

/// Whether a caller sees phone numbers, addresses and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contacts {
    /// As much of them as confirms them with their owner.
    Masked,
    /// As PingOne gave them.
    Shown,
}

/// Members whose texts are shown, as long as they look like an id, a time, or a word such as `ACTIVE`.
const PLAIN: [&str; 13] = [
    "id",
    "type",
    "status",
    "reason",
    "mode",
    "order",
    "rel",
    "activatedAt",
    "blockedAt",
    "createdAt",
    "expiresAt",
    "lockedAt",
    "updatedAt",
];
const HIDDEN: &str = "***";
/// Fewer digits in a row are no phone number.
const PHONE_FROM: usize = 7;

/// The same, its contacts masked.
pub(super) fn masked(snapshot: &Snapshot) -> Snapshot {
    Snapshot::new(members(snapshot.raw()), snapshot.at())
}

fn members(given: &Map<String, Value>) -> Map<String, Value> {
    given
        .iter()
        .map(|(name, given)| {
            // PingOne names no member so: it would be a contact in the place of a name.
            let known = name
                .chars()
                .all(|letter| letter.is_ascii_alphabetic() || matches!(letter, '_' | '-' | '.' | ':'));
            (if known { name.clone() } else { HIDDEN.to_owned() }, value(name, given))
        })
        .collect()
}

fn value(name: &str, given: &Value) -> Value {
    match given {
        Value::Null | Value::Bool(_) => given.clone(),
        Value::Number(number) if number.to_string().len() < PHONE_FROM => given.clone(),
        Value::Number(number) => mask(&number.to_string()).into(),
        Value::String(text) if is_plain(name, text) => given.clone(),
        Value::String(text) => mask(text).into(),
        Value::Array(values) => values.iter().map(|one| value(name, one)).collect(),
        Value::Object(given) => Value::Object(members(given)),
    }
}

fn is_plain(name: &str, text: &str) -> bool {
    match name {
        "href" => is_address_of_ids(text),
        _ => PLAIN.contains(&name) && (is_word(text) || is_id(text) || is_time(text)),
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= 64 && text.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
}

fn is_id(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

fn is_time(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

/// An address of PingOne's: words and ids, and no query.
fn is_address_of_ids(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let mut parts = rest.split('/');
    let host = parts.next().unwrap_or_default();
    let word = |part: &str, others: &str| {
        let digits = part.chars().filter(char::is_ascii_digit).count();
        digits < PHONE_FROM
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || others.contains(letter))
    };
    // A host may be an address of numbers, as that of a simulator is.
    let host_is_one = word(host, ".-:")
        || host.split(':').next().is_some_and(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok());
    host_is_one && parts.all(|part| is_id(part) || word(part, "_-"))
}

/// What is left of a text: of a phone number its beginning and its last two digits, of an address its first letter and its host.
fn mask(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return String::new();
    }
    phone(text).or_else(|| email(text)).unwrap_or_else(|| HIDDEN.to_owned())
}

/// `+1415*****50`: at least five digits are hidden.
fn phone(text: &str) -> Option<String> {
    if !text.chars().all(|letter| letter.is_ascii_digit() || " +()-./".contains(letter)) {
        return None;
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.len() < PHONE_FROM {
        return None;
    }
    let begins = (digits.len() - PHONE_FROM).min(4);
    let hidden = "*".repeat(digits.len() - begins - 2);
    let plus = if text.starts_with('+') { "+" } else { "" };
    Some(format!("{plus}{}{hidden}{}", &digits[..begins], &digits[digits.len() - 2..]))
}

/// `j***@example.com`
fn email(text: &str) -> Option<String> {
    let (local, host) = text.rsplit_once('@')?;
    let labels = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
    let hosts = host.contains('.') && host.chars().all(labels) && !local.contains(char::is_whitespace);
    // Of a single letter, the first would be all of it.
    let first =
        local.chars().next().filter(|_| local.chars().count() > 2).map(String::from).unwrap_or_default();
    (hosts && !local.is_empty()).then(|| format!("{first}{HIDDEN}@{host}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        api::convert,
        device::{DeviceId, DeviceRef, EnvironmentId, UserId},
    };

    #[test]
    fn what_is_left_is_enough_to_confirm_and_no_more() {
        for (given, left) in [
            ("+14155550150", "+1415*****50"),
            ("+1 (415) 555-0150", "+1415*****50"),
            ("00493012345678", "0049********78"),
            ("5550150", "*****50"),
            ("12345", "***"),
            ("jane.doe@example.com", "j***@example.com"),
            ("jo@example.com", "***@example.com"),
            ("\"jane doe\"@example.com", "***"),
            ("jane@doe@example.com", "j***@example.com"),
            ("jane@localhost", "***"),
            ("call +14155550150", "***"),
            ("Jane's phone", "***"),
            ("", ""),
        ] {
            assert_eq!(mask(given), left, "{given}");
        }
    }

    #[test]
    fn what_pingone_documents_stays_readable() {
        let base = "https://api.pingone.eu/v1/environments/abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
        let plain = json!({
            "_links": { "self": { "href": base }, "local": { "href": "http://127.0.0.1:8080/v1" } },
            "id": "6697f628-7712-4e71-b52b-920ba0635020", "type": "SMS", "status": "ACTIVE", "testMode": true,
            "environment": { "id": "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6" }, "count": 7,
            "block": { "status": "BLOCKED", "blockedAt": "2026-01-02T03:04:05.678Z" },
        });
        assert_eq!(value("", &plain), plain);
        let telling = json!({
            "href": "https://x/jane.doe", "status": "jane", "reason": "+14155550150", "JANE": "JANE", "a1": 14155550150_u64,
            "id": "14155550150", "os": { "name": "Jane's" }, "list": ["jane@example.com", null],
        });
        assert_eq!(
            value("", &telling),
            json!({
                "href": "***", "status": "***", "reason": "+1415*****50", "JANE": "***", "***": "1415*****50",
                "id": "1415*****50", "os": { "name": "***" }, "list": ["j***@example.com", null],
            })
        );
    }

    /// A document with the contact at any depth, under any name, or as a name.
    fn document(contact: String) -> impl Strategy<Value = Value> {
        let names = prop::sample::select(vec![
            "phone", "email", "id", "type", "status", "href", "nickname", "address", "block", "x",
        ]);
        let leaf = prop_oneof![
            Just(json!(contact)),
            Just(json!(format!("https://example.com/{contact}"))),
            Just(json!(format!("call {contact}"))),
            Just(json!({ contact.clone(): contact })),
            Just(contact.parse::<u64>().map_or(Value::Null, Value::from)),
            any::<bool>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(names.clone(), inner, 0..4).prop_map(|members| Value::Object(
                    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                )),
            ]
        })
    }

    fn shown(raw: Value, contacts: Contacts) -> String {
        let raw = match raw {
            Value::Object(members) => members,
            other => Map::from_iter([("phone".to_owned(), other)]),
        };
        let id = Uuid::nil();
        let named = DeviceRef {
            environment: EnvironmentId::from(id),
            user: UserId::from(id),
            device: DeviceId::from(id),
        };
        format!("{:?}", convert::device(&named, &Snapshot::new(raw, OffsetDateTime::UNIX_EPOCH), contacts))
    }

    proptest! {
        #[test]
        fn no_middle_of_a_phone_number_is_left(
            (digits, raw) in "[1-9][0-9]{9,14}".prop_flat_map(|digits| {
                (Just(digits.clone()), prop_oneof![document(digits.clone()), document(format!("+{digits}"))])
            })
        ) {
            let middle = &digits[4..digits.len() - 2];
            prop_assert!(!shown(raw, Contacts::Masked).contains(middle));
        }

        #[test]
        fn no_local_part_is_left(
            (local, raw) in "[a-z]{3}[a-z.+0-9]{6,20}[a-z]".prop_flat_map(|local| {
                (Just(local.clone()), document(format!("{local}@example.com")))
            })
        ) {
            prop_assert!(!shown(raw, Contacts::Masked).contains(&local[1..]));
        }
    }

    #[test]
    fn who_may_see_contacts_sees_them() {
        let device = json!({ "phone": "+14155550150", "email": "jane@example.com" });
        let told = shown(device.clone(), Contacts::Shown);
        assert!(told.contains("+14155550150") && told.contains("jane@example.com"), "{told}");
        let told = shown(device, Contacts::Masked);
        assert!(told.contains("+1415*****50") && told.contains("j***@example.com"), "{told}");
    }
}
