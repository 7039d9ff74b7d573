use time::macros::datetime;
use uuid::Uuid;

use super::*;
use crate::job::DeviceLimit;

const NOW: OffsetDateTime = datetime!(2026-11-25 10:20:30.5 UTC);

fn counted(limits: Limits) -> Counted {
    Counted {
        caller: Caller::anonymous(),
        environment: EnvironmentId::from(Uuid::from_u128(1)),
        device: Some(DeviceId::from(Uuid::from_u128(2))),
        limits,
    }
}

fn used() -> Used {
    Used { now: NOW, hour: None, day: None, device: Vec::new() }
}

fn takes(counted: &Counted, used: &Used) -> (u32, Option<OverQuota>) {
    let mut room = Room::default();
    for taken in 0..100 {
        if let Err(over) = room.take(counted, used) {
            return (taken, Some(over));
        }
    }
    (100, None)
}

#[test]
fn without_bounds_there_is_room_for_all() {
    assert!(!counted(Limits::default()).is_bounded());
    let much = Some((NOW, u32::MAX));
    let used = Used { hour: much, day: much, device: vec![NOW; 50], ..used() };
    assert_eq!(takes(&counted(Limits::default()), &used), (100, None));
}

#[test]
fn an_hour_and_a_day_end_by_the_clock() {
    let counted = counted(Limits { per_hour: Some(5), per_day: Some(8), ..Limits::default() });
    let hour = datetime!(2026-11-25 10:00 UTC);
    let day = datetime!(2026-11-25 00:00 UTC);
    let frees_at = datetime!(2026-11-25 11:00 UTC);
    assert_eq!(
        takes(&counted, &used()),
        (5, Some(OverQuota::Hour { most: 5, used: 5, frees_at })),
        "a caller that had nothing"
    );
    let before = Used { hour: Some((hour - time::Duration::HOUR, 5)), ..used() };
    assert_eq!(takes(&counted, &before).0, 5, "the hour before is over");
    let in_this = Used { hour: Some((hour, 3)), day: Some((day, 3)), ..used() };
    assert_eq!(takes(&counted, &in_this).0, 2);
    let in_day = Used { hour: Some((hour, 0)), day: Some((day, 7)), ..used() };
    let midnight = datetime!(2026-11-26 00:00 UTC);
    assert_eq!(takes(&counted, &in_day), (1, Some(OverQuota::Day { most: 8, used: 8, frees_at: midnight })));
    // A statement that began before the hour did, and waited for one that began after.
    let later = Used { hour: Some((frees_at, 4)), ..used() };
    assert_eq!(takes(&counted, &later).0, 1);
}

#[test]
fn a_device_is_free_again_when_the_first_of_its_uses_is_old_enough() {
    let within = Duration::from_secs(3600);
    let limit = Some(DeviceLimit { count: 3, within });
    let counted = counted(Limits { per_device: limit, ..Limits::default() });
    let ago = |minutes: i64| NOW - time::Duration::minutes(minutes);
    let over = |frees_at| Some(OverQuota::Device { most: 3, within, frees_at: Some(frees_at) });
    assert_eq!(takes(&counted, &used()), (3, over(NOW + within)));
    let two = Used { device: vec![ago(1), ago(59), ago(60), ago(61)], ..used() };
    assert_eq!(takes(&counted, &two), (1, over(ago(59) + within)), "just an hour ago is out");
    let none = Limits { per_device: Some(DeviceLimit { count: 0, within }), ..Limits::default() };
    let never = OverQuota::Device { most: 0, within, frees_at: None };
    assert_eq!(takes(&Counted { limits: none, ..counted.clone() }, &used()), (0, Some(never)));
    let unknown = Counted { device: None, ..counted };
    assert_eq!(takes(&unknown, &two), (100, None));
}

#[test]
fn a_refusal_says_which_bound_how_much_and_until_when() {
    let over = OverQuota::Hour { most: 7, used: 6, frees_at: datetime!(2026-11-25 11:00 UTC) };
    assert_eq!(
        over.to_string(),
        "this caller may have 7 devices unblocked in an hour and has had 6: more from 2026-11-25T11:00:00Z on"
    );
    let within = Duration::from_secs(60);
    let over = OverQuota::Device { most: 2, within, frees_at: Some(NOW) };
    assert!(over.to_string().ends_with("again from 2026-11-25T10:20:31Z on"), "{over}");
}
