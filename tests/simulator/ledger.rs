//! What is recorded of requests, and what is noted of those that are not as documented.

use std::{collections::BTreeSet, time::Duration};

use pingone_unblock::simulator::{Deviation, Ending, Fault, RetryAfter, Settings};
use reqwest::header::HeaderValue;

use super::{PingOne, Tested, UNBLOCK, example, start, unknown};

fn found(ping: &PingOne) -> Vec<Deviation> {
    ping.simulator.deviations().into_iter().map(|deviated| deviated.deviation).collect()
}

#[tokio::test]
async fn a_record_says_what_was_asked_and_how_it_ended() -> Tested {
    let ping = start(Settings::default()).await?;
    ping.simulator.fault(example().device, [Fault::status(503)]);
    ping.unblock(example()).header("x-ping-external-transaction-id", "job-1").send().await?;
    ping.unblocked(example()).await?;
    let records = ping.simulator.requests_for(example().device);
    let [first, second] = &records[..] else { return Err("two requests were made".into()) };
    assert_eq!((first.number, first.method.as_str(), first.token), (1, "POST", Some(1)));
    assert_eq!(first.path, ping.url(example()).trim_start_matches(&ping.at("")));
    assert_eq!(first.environment, Some(example().environment.as_uuid()));
    assert_eq!(first.header("Content-Type"), Some(UNBLOCK));
    assert_eq!(first.header("content-length"), Some("0"));
    assert_eq!(first.header("x-ping-external-transaction-id"), Some("job-1"));
    assert_eq!(first.header("authorization"), None);
    assert_eq!(
        (first.ending, &first.fault, first.effect),
        (Ending::Answered(503), &Fault::status(503), false)
    );
    assert_eq!((second.ending, &second.fault, second.effect), (Ending::Answered(200), &Fault::Normal, true));
    assert!(first.ended.is_some_and(|ended| ended >= first.arrived && ended <= second.arrived));
    let counts = ping.simulator.counts_for(example().device);
    assert_eq!((counts.posts, counts.effects, counts.in_flight, counts.most_in_flight), (2, 1, 0, 1));
    Ok(())
}

#[tokio::test]
async fn memory_is_bounded_and_counting_goes_on() -> Tested {
    let ping = start(Settings { records: 3, ..Settings::default() }).await?;
    for number in 0..10 {
        ping.unblocked(unknown(number)).await?;
    }
    let numbers: Vec<u64> = ping.simulator.requests().iter().map(|record| record.number).collect();
    assert_eq!(numbers, [8, 9, 10]);
    assert_eq!(ping.simulator.last_requests(2).len(), 2);
    assert_eq!(ping.simulator.counts().posts, 10);
    assert_eq!(ping.simulator.busiest(Duration::from_secs(3600), None), 3);
    assert_eq!(ping.simulator.busiest(Duration::from_nanos(1), None), 1);
    assert_eq!(ping.simulator.busiest(Duration::from_secs(3600), Some(example().environment)), 0);
    let connections: BTreeSet<u64> =
        ping.simulator.requests().iter().map(|record| record.connection).collect();
    assert_eq!(connections.len(), 1);
    Ok(())
}

#[tokio::test]
async fn without_records_the_totals_stay_and_only_registered_devices_do() -> Tested {
    let ping = start(Settings { records: 0, ..Settings::default() }).await?;
    let held = unknown(2);
    ping.simulator.fault(held.device, [Fault::hold(), Fault::hold()]);
    let both = [0, 1].map(|_| tokio::spawn(ping.unblock(held).send()));
    ping.simulator.arrived_for(held.device, 2).await;
    ping.simulator.release();
    for one in both {
        assert_eq!(one.await??.status(), 200);
    }
    ping.unblocked(unknown(1)).await?;
    ping.unblocked(example()).await?;
    assert_eq!(ping.simulator.requests(), []);
    let counts = ping.simulator.counts();
    assert_eq!((counts.posts, counts.effects, counts.in_flight, counts.most_on_a_device), (4, 4, 0, 2));
    assert_eq!(ping.simulator.counts_for(held.device).posts, 0);
    assert_eq!(ping.simulator.device(unknown(1).device), None);
    assert!(ping.simulator.device(example().device).is_some_and(|device| !device.blocked));
    Ok(())
}

#[tokio::test]
async fn requests_that_are_not_as_documented_are_noted() -> Tested {
    let ping = start(Settings::default()).await?;
    let to = || ping.client.post(ping.url(example())).bearer_auth(&ping.token);
    ping.unblock(example()).header("x-ping-external-transaction-id", "job-1").send().await?;
    ping.get(ping.url(example())).send().await?;
    assert_eq!(found(&ping), []);

    ping.get(ping.at("/environments")).send().await?;
    ping.client.delete(ping.url(example())).send().await?;
    to().header("content-length", "0").send().await?;
    to().header("content-type", UNBLOCK).body("{}").send().await?;
    to().header("content-type", UNBLOCK)
        .body(reqwest::Body::wrap_stream(futures_util::stream::empty::<Result<Vec<u8>, std::io::Error>>()))
        .send()
        .await?;
    let anonymous = ping.client.post(ping.url(example())).header("content-length", "0");
    anonymous.header("content-type", UNBLOCK).send().await?;
    for id in ["x".repeat(101), "a b".to_owned()] {
        ping.unblock(example()).header("x-ping-external-transaction-id", id).send().await?;
    }
    ping.unblock(example()).header("padding", HeaderValue::try_from("x".repeat(6144))?).send().await?;
    let found = found(&ping);
    let [rest @ .., Deviation::Headers(length)] = &found[..] else { return Err(format!("{found:?}").into()) };
    assert!(*length > 6144);
    assert_eq!(
        rest,
        [
            Deviation::Path,
            Deviation::Method("DELETE".to_owned()),
            Deviation::ContentType(None),
            Deviation::Body(2),
            Deviation::ContentLength(None),
            Deviation::Bearer,
            Deviation::TransactionId,
            Deviation::TransactionId,
        ]
    );
    assert_eq!(ping.simulator.counts().deviations, 9);
    Ok(())
}

#[tokio::test]
async fn coming_back_before_retry_after_has_passed_is_noted() -> Tested {
    let ping = start(Settings::default()).await?;
    ping.simulator.fault(example().device, [Fault::retry_after(503, RetryAfter::Seconds(60))]);
    ping.simulator.fault(unknown(1).device, [Fault::retry_after(503, RetryAfter::Seconds(0))]);
    ping.unblocked(example()).await?;
    ping.unblocked(unknown(1)).await?;
    ping.unblocked(unknown(1)).await?;
    assert_eq!(found(&ping), []);
    ping.unblocked(example()).await?;
    assert!(matches!(found(&ping)[..], [Deviation::TooSoon(early)] if early <= 60_000));
    Ok(())
}
