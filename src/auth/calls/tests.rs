use proptest::prelude::*;

use super::*;

fn caller(name: &str) -> Caller {
    Caller::named(name).expect("a name")
}

fn calls(replicas: usize) -> Calls {
    Calls::new(Arc::new(AtomicUsize::new(replicas)))
}

#[test]
fn who_has_no_bound_is_never_refused() {
    let calls = calls(1);
    assert!((0..1000).all(|_| calls.admit(&caller("a"), None).is_ok()));
    assert!(calls.buckets().is_empty());
}

#[test]
fn a_replica_begins_with_nothing_and_says_when_there_will_be_a_call() {
    let calls = calls(2);
    let began = calls.began;
    let wait = calls.take(&caller("a"), 4.0, began).expect_err("nothing yet");
    assert_eq!(
        wait,
        SETTLES_IN + Duration::from_millis(500),
        "half of the rate, once the others have seen it"
    );
    assert!(calls.take(&caller("a"), 4.0, began + wait).is_ok());
    assert!(calls.take(&caller("a"), 4.0, began + wait).is_err());
    // Who comes to a replica that has been there for long waits for nothing.
    assert!(calls.take(&caller("b"), 4.0, began + Duration::from_secs(60)).is_ok());
}

#[test]
fn who_may_make_no_call_makes_none() {
    let calls = calls(1);
    assert_eq!(calls.take(&caller("a"), 0.0, calls.began + NEVER), Err(NEVER));
}

#[test]
fn one_caller_does_not_use_up_what_is_anothers() {
    let calls = calls(1);
    let later = calls.began + Duration::from_secs(10);
    while calls.take(&caller("a"), 3.0, later).is_ok() {}
    assert!(calls.take(&caller("b"), 3.0, later).is_ok());
}

#[test]
fn only_so_many_callers_are_remembered_and_the_latest_stay() {
    let calls = calls(1);
    for number in 0..CALLERS_AT_MOST + 10 {
        let now = calls.began + Duration::from_secs(10) + Duration::from_millis(number as u64);
        assert!(calls.take(&caller(&format!("caller {number}")), 1.0, now).is_ok());
        assert!(calls.buckets().len() <= CALLERS_AT_MOST);
    }
    assert!(calls.buckets().contains_key(&caller(&format!("caller {}", CALLERS_AT_MOST - 1))));
    assert!(!calls.buckets().contains_key(&caller("caller 0")));
}

#[test]
fn streams_are_shared_out_and_given_back() {
    let replicas = Arc::new(AtomicUsize::new(2));
    let streams = Streams::new(Arc::clone(&replicas));
    let open = |at_most| streams.open(&caller("a"), Some(at_most));
    let held: Vec<OpenStream> = (0..2).filter_map(|_| open(5)).collect();
    assert_eq!(held.len(), 2);
    assert!(open(5).is_none(), "half of five");
    assert!(streams.open(&caller("b"), Some(5)).is_some());
    assert!(streams.open(&caller("a"), None).is_some());
    replicas.store(1, Ordering::Relaxed);
    assert!(open(5).is_some());
    drop(held);
    assert!(streams.counts().is_empty(), "nobody has any");
    replicas.store(100, Ordering::Relaxed);
    assert!(open(5).is_some(), "one at least");
    assert!(open(0).is_none());
}

proptest! {
    /// However calls fall and however replicas come and go: no replica admits more than runs into its bucket, and the wait it
    /// names is enough.
    #[test]
    fn over_all_replicas_no_more_is_admitted_than_the_bound_and_a_seconds_worth(
        per_second in 0.5_f64..50.0,
        replicas in 1_usize..5,
        gaps in prop::collection::vec((0_u64..700, 0_usize..5), 1..300),
    ) {
        let all: Vec<Calls> = (0..replicas).map(|_| calls(replicas)).collect();
        // One clock for all of them.
        let began = all.iter().map(|calls| calls.began).max().expect("one at least");
        let mut now = began;
        let mut admitted = 0_u32;
        for (gap, which) in gaps {
            now += Duration::from_millis(gap);
            let calls = &all[which % replicas];
            match calls.take(&caller("a"), per_second, now) {
                Ok(()) => admitted += 1,
                Err(wait) => {
                    let mut copy = calls.buckets()[&caller("a")].at(
                        now + wait + Duration::from_micros(1),
                        per_second / replicas as f64,
                    );
                    prop_assert!(copy.take().is_ok(), "after {wait:?} there is a call");
                }
            }
            let passed = now.duration_since(all[0].began).as_secs_f64();
            prop_assert!(
                f64::from(admitted) <= per_second * passed + 0.001,
                "{admitted} calls in {passed} s at {per_second}"
            );
        }
    }

    /// A share never grows backwards: what ran in while more replicas lived came at their smaller share.
    #[test]
    fn a_bucket_holds_no_more_than_a_second_and_fills_at_the_smaller_rate(
        first in 0.1_f64..100.0,
        second in 0.1_f64..100.0,
        passed in 0_u64..5000,
    ) {
        let at = Instant::now();
        let bucket = Bucket { calls: 0.0, rate: first, at };
        let after = bucket.at(at + Duration::from_millis(passed), second);
        let seconds = Duration::from_millis(passed).as_secs_f64();
        prop_assert!(after.calls <= first.min(second) * seconds + 1e-9);
        prop_assert!(after.calls <= second.max(1.0));
    }
}
