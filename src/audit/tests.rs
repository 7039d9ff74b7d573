use proptest::prelude::*;

use super::*;
use crate::device::{DeviceId, UserId};

fn personal() -> impl Strategy<Value = Personal> {
    let id = proptest::option::of(any::<u128>().prop_map(Uuid::from_u128));
    let texts = proptest::array::uniform5(".{0,40}");
    (id.clone(), id, texts).prop_map(
        |(user, device, [acting_for, on_behalf_of, reason, ticket, reference])| Personal {
            user: user.map(UserId::from),
            device: device.map(DeviceId::from),
            acting_for,
            on_behalf_of,
            reason,
            ticket,
            reference,
        },
    )
}

fn event() -> Event {
    Event {
        lane: 7,
        id: Uuid::from_u128(1),
        at: OffsetDateTime::UNIX_EPOCH,
        action: Action::Requested.number(),
        environment: None,
        job: None,
        trace: None,
        run: None,
        attempts: None,
        count: None,
        outcome: None,
        http_status: None,
        caller: "caller".to_owned(),
        policy: None,
        batch: None,
        reason: None,
        detail: None,
        correlation: None,
        personal_digest: None,
        personal: None,
        erased: None,
    }
}

proptest! {
    #[test]
    fn what_is_packed_is_read_again(personal in personal(), salt in any::<[u8; 16]>()) {
        let packed = personal.pack_with(salt);
        prop_assert_eq!(packed.bytes.get(..16), Some(&salt[..]));
        prop_assert_eq!(Personal::unpack(&packed.bytes), Some(personal));
    }

    #[test]
    fn whom_it_is_about_stands_behind_the_salt(personal in personal(), user in any::<u128>()) {
        let user = UserId::from(Uuid::from_u128(user));
        let named = Personal { user: Some(user), ..personal.clone() }.pack();
        prop_assert_eq!(named.bytes.get(16..35), Some(&Personal::about(user)[..]));
        let packed = personal.pack();
        prop_assert_eq!(packed.bytes.get(16..35) == Some(&Personal::about(user)[..]), personal.user == Some(user));
    }

    #[test]
    fn what_differs_is_packed_otherwise(one in personal(), other in personal(), salt in any::<[u8; 16]>()) {
        prop_assert_eq!(one == other, one.pack_with(salt) == other.pack_with(salt));
    }

    #[test]
    fn bytes_are_read_in_one_way_or_not_at_all(bytes in proptest::collection::vec(0_u8..9, 0..80)) {
        if let Some(personal) = Personal::unpack(&bytes) {
            let salt = bytes[..16].try_into().unwrap_or_default();
            prop_assert_eq!(personal.pack_with(salt).bytes, bytes);
        }
    }

    /// Neither is where one text ends and the next begins left open.
    #[test]
    fn texts_do_not_run_together(text in "[a-c]{0,6}", cut in 0_usize..7, other in 0_usize..7) {
        let split = |at: usize| {
            let (reason, detail) = text.split_at(at.min(text.len()));
            Event { reason: Some(reason.to_owned()), detail: Some(detail.to_owned()), ..event() }
        };
        let (one, other) = (split(cut), split(other));
        prop_assert_eq!(one == other, one.canonical() == other.canonical());
    }
}

#[test]
fn a_cut_field_is_cut_between_letters_and_still_read() {
    let personal = Personal { reason: "ü".repeat(40_000), ..Personal::default() };
    let read = Personal::unpack(&personal.pack().bytes).map(|read| read.reason.chars().count());
    assert_eq!(read, Some(32_767));
}

#[test]
fn the_same_twice_has_two_digests() {
    let personal = Personal { reason: "lost her phone".to_owned(), ..Personal::default() };
    assert_ne!(personal.pack().digest, personal.pack().digest);
}

#[test]
fn every_field_but_what_is_personal_changes_the_bytes() {
    let id = Some(Uuid::from_u128(2));
    let text = || Some("text".to_owned());
    let changed = [
        Event { lane: 8, ..event() },
        Event { id: Uuid::from_u128(2), ..event() },
        Event { at: OffsetDateTime::UNIX_EPOCH + time::Duration::MICROSECOND, ..event() },
        Event { action: 2, ..event() },
        Event { environment: id, ..event() },
        Event { job: id, ..event() },
        Event { trace: id, ..event() },
        Event { run: Some(1), ..event() },
        Event { attempts: Some(1), ..event() },
        Event { count: Some(1), ..event() },
        Event { outcome: Some(1), ..event() },
        Event { http_status: Some(1), ..event() },
        Event { caller: "other".to_owned(), ..event() },
        Event { policy: text(), ..event() },
        Event { batch: text(), ..event() },
        Event { reason: text(), ..event() },
        Event { detail: text(), ..event() },
        Event { correlation: text(), ..event() },
        Event { personal_digest: Some(vec![0; 32]), ..event() },
        Event { erased: Some(Vec::new()), ..event() },
        Event { erased: Some(vec![Uuid::nil()]), ..event() },
    ];
    let mut seen = std::collections::HashSet::from([event().canonical()]);
    for event in changed {
        assert!(seen.insert(event.canonical()), "{event:?} looks like another");
    }
    assert!(!seen.insert(Event { personal: Some(vec![1]), ..event() }.canonical()));
}

/// Chains that exist were made of these bytes.
#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    let event = Event { run: Some(2), reason: Some("WHY".to_owned()), ..event() };
    let mut bytes = vec![1, 0, 7];
    bytes.extend([0; 15]);
    bytes.push(1);
    bytes.extend([0; 8]);
    bytes.extend([0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 6]);
    bytes.extend(b"caller");
    bytes.extend([0, 0, 1, 0, 0, 0, 3]);
    bytes.extend(b"WHY");
    bytes.extend([0, 0, 0, 0]);
    assert_eq!(event.canonical(), bytes);
}

#[test]
fn actions_keep_their_numbers() {
    for (action, number) in Action::ALL.iter().zip(1..) {
        assert_eq!((action.number(), Action::from_number(number)), (number, Some(*action)));
    }
    assert_eq!(Action::from_number(0), None);
}

#[test]
fn the_request_of_a_job_is_named_like_the_job() {
    assert_eq!(event().job(), Some(event().id.into()));
    let finished = Event { action: Action::Finished.number(), ..event() };
    assert_eq!(finished.job(), None);
}
