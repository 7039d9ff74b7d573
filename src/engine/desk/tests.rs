//! The desk in simulated time: who waits for how long behind whom.

use proptest::prelude::*;
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::device::{DeviceRef, Lane};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn desk(rate: f64, max_in_flight: u32, now: Instant) -> Desk<u64> {
    let mut desk = Desk::new(Limits { rate, max_in_flight }, None, now);
    desk.adopted = true;
    desk.flows.values_mut().for_each(|flow| flow.take_in(Vec::new(), 1, now, |_| false));
    desk
}

fn waiting(flow: i64, number: u64, now: Instant) -> Waiting {
    Waiting {
        id: JobId::new(Lane::from_stored(1)),
        device: DeviceRef {
            environment: Uuid::nil().into(),
            user: Uuid::from_u64_pair(1, number).into(),
            device: Uuid::from_u64_pair(2, number).into(),
        },
        flow,
        run: 1,
        attempt: 0,
        due_at: OffsetDateTime::UNIX_EPOCH + ms(number),
        expires: now + Duration::from_secs(3600),
        lapsed: None,
        repeated: false,
        requested_at: OffsetDateTime::UNIX_EPOCH,
        requested: now,
        trace_parent: None,
    }
}

/// Claims what there is room for, as the engine does.
fn claim(desk: &mut Desk<u64>, now: Instant) {
    let mut room = desk.room(now);
    while let Some(waiting) = desk.pop(now, &mut room, &mut Vec::new()) {
        let number = waiting.device.user.as_uuid().as_u64_pair().1;
        let target = (waiting.device.user, waiting.device.device);
        let staged = Staged { start_by: now + Duration::from_secs(60), target, attempt: number };
        assert!(desk.stage(staged, Priority::of_flow(waiting.flow)).is_empty());
    }
}

#[test]
fn an_interactive_job_takes_the_very_next_token_before_any_number_of_bulk_jobs() {
    let start = Instant::now();
    let mut desk = desk(20.0, 32, start);
    (0..1000).for_each(|number| desk.open_flow(1).insert(waiting(1, number, start)));
    let mut now = start;
    for round in 0..50 {
        claim(&mut desk, now);
        desk.open_flow(0).insert(waiting(0, 10_000 + round, now));
        claim(&mut desk, now);
        let next = desk.gate.opens(now).expect("nothing shuts it");
        let due = desk.due(next, true);
        assert!(matches!(due.start[0], (_, _, Priority::Interactive)), "round {round}");
        due.start.iter().for_each(|(_, _, priority)| desk.release(*priority, next));
        // Then bulk has its turn.
        now = desk.gate.opens(next).expect("nothing shuts it");
        let due = desk.due(now, true);
        assert!(matches!(due.start[0], (_, _, Priority::Bulk)), "round {round}");
        due.start.iter().for_each(|(_, _, priority)| desk.release(*priority, now));
    }
}

#[test]
fn where_interactive_jobs_never_end_bulk_has_every_tenth_token() {
    let start = Instant::now();
    let mut desk = desk(100.0, 32, start);
    let mut now = start;
    let mut counts = [0, 0];
    for number in 0..2000 {
        desk.open_flow(0).insert(waiting(0, number, now));
        desk.open_flow(0).insert(waiting(0, 50_000 + number, now));
        desk.open_flow(1).insert(waiting(1, 100_000 + number, now));
        claim(&mut desk, now);
        for (_, _, priority) in desk.due(now, true).start {
            counts[index(priority)] += 1;
            desk.release(priority, now);
        }
        now += ms(10);
    }
    let share = f64::from(counts[1]) / f64::from(counts[0] + counts[1]);
    assert!((share - 0.1).abs() < 0.01, "{counts:?}");
}

#[test]
fn slots_are_kept_for_interactive_jobs_when_bulk_hangs() {
    let now = Instant::now();
    let mut desk = desk(f64::INFINITY, 32, now);
    (0..100).for_each(|number| desk.open_flow(1).insert(waiting(1, number, now)));
    claim(&mut desk, now);
    assert_eq!(desk.due(now, true).start.len(), 28, "an eighth is kept");
    desk.open_flow(0).insert(waiting(0, 1000, now));
    claim(&mut desk, now);
    assert_eq!(desk.due(now, true).start.len(), 1);
    let mut narrow = Desk::<u64>::new(Limits { rate: f64::INFINITY, max_in_flight: 1 }, None, now);
    narrow.open_flow(1).insert(waiting(1, 1, now));
    claim(&mut narrow, now);
    assert_eq!(narrow.due(now, true).start.len(), 1, "a single slot is everybody's");
}

#[test]
fn one_request_answers_an_interactive_job_and_the_bulk_jobs_for_its_device() {
    let now = Instant::now();
    let mut desk = desk(f64::INFINITY, 8, now);
    desk.open_flow(1).insert(waiting(1, 7, now));
    claim(&mut desk, now);
    let target = (Uuid::from_u64_pair(1, 7).into(), Uuid::from_u64_pair(2, 7).into());
    let staged = Staged { start_by: now + ms(400), target, attempt: 99 };
    assert_eq!(desk.stage(staged, Priority::Interactive), [7], "the one about to start makes way");
    desk.open_flow(1).insert(waiting(1, 7, now));
    claim(&mut desk, now);
    assert_eq!(desk.staged(), 1, "the one that waits goes on waiting");
    desk.answered(target);
    claim(&mut desk, now + ms(300));
    assert_eq!(desk.staged(), 2, "unless it was not answered after all");
}

#[test]
fn what_has_waited_too_long_since_its_claim_does_not_start() {
    let now = Instant::now();
    let mut desk = desk(f64::INFINITY, 8, now);
    let target = (Uuid::nil().into(), Uuid::nil().into());
    let _ = desk.stage(Staged { start_by: now + ms(400), target, attempt: 1 }, Priority::Interactive);
    let due = desk.due(now + ms(400), true);
    assert_eq!((due.start.len(), due.late), (0, vec![1]));
    let _ = desk.stage(Staged { start_by: now + ms(900), target, attempt: 2 }, Priority::Interactive);
    assert_eq!(desk.due(now + ms(500), false).late, [2], "nor what is not ours any more");
}

#[test]
fn a_job_past_its_time_is_told_and_not_claimed() {
    let now = Instant::now();
    let mut desk = desk(f64::INFINITY, 8, now);
    let mut old = waiting(0, 1, now);
    old.expires = now;
    let id = old.id;
    desk.open_flow(0).insert(old);
    desk.open_flow(1).insert(Waiting { expires: now, ..waiting(1, 2, now) });
    let mut expired = Vec::new();
    let mut room = desk.room(now);
    assert!(desk.pop(now, &mut room, &mut expired).is_none());
    assert_eq!((expired.len(), expired[0]), (2, id));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Batches of one environment share its tokens, whatever their sizes; none starves.
    #[test]
    fn batches_share_evenly(batches in 2_usize..8, rate in 50_u32..400) {
        let start = Instant::now();
        let mut desk = desk(f64::from(rate), 64, start);
        for batch in 0..batches {
            let flow = i64::try_from(batch).unwrap_or_default() + 2;
            (0..3000).for_each(|number| desk.open_flow(flow).insert(waiting(flow, number, start)));
        }
        let mut counts = vec![0_i64; batches];
        let mut now = start;
        for _ in 0..2000 {
            let mut room = desk.room(now);
            while let Some(waiting) = desk.pop(now, &mut room, &mut Vec::new()) {
                let staged = Staged { start_by: now + ms(60_000), target: (Uuid::nil().into(), Uuid::nil().into()), attempt: waiting.flow.unsigned_abs() };
                let _ = desk.stage(staged, Priority::Bulk);
            }
            for (flow, _, priority) in desk.due(now, true).start {
                counts[usize::try_from(flow).unwrap_or_default() - 2] += 1;
                desk.release(priority, now);
            }
            now += ms(5);
        }
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= i64::from(BATCH_QUANTUM) + 1), "{counts:?}");
    }
}
