//! Batches are paused, resumed, cancelled and retried by people, in any state; and end when their time is over.

use pingone_unblock::{
    engine::Limits,
    proto::v1::{self, BatchHeader, batch::State, target_result::Outcome},
    simulator::Fault,
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        bulk::{Bulk, having, header, row, rows},
        service::{Variant, World, request},
    },
    unblock::reason,
};

async fn world(rate: f64) -> Result<World> {
    let limits = Limits { rate, max_in_flight: 32 };
    World::with(Variant { limits, ..Variant::default() }, Default::default()).await
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// A new batch that is in `state`, and stays there until it is steered.
async fn batch_in(world: &World, state: State) -> Result<Bulk> {
    let waits = state == State::Uploading;
    let bulk = Bulk::at(&world.service, BatchHeader { start_when_sealed: waits, ..header() })?;
    match state {
        State::Uploading => drop(bulk.append(0, &rows(3), None).await?),
        State::Done => drop(bulk.append(0, &rows(3), Some(3)).await?),
        State::Cancelling => {
            let one = row();
            let device = one.device_id.parse::<Uuid>()?.into();
            world.simulator().fault(device, [Fault::hold()]);
            bulk.append(0, &[one], Some(1)).await?;
            world.simulator().arrived_for(device, 1).await;
        }
        _ => drop(bulk.append(0, &[], None).await?),
    }
    match state {
        State::Paused => drop(bulk.pause().await?),
        State::Cancelled | State::Cancelling => drop(bulk.cancel().await?),
        _ => {}
    }
    bulk.when_in(state).await?;
    Ok(bulk)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_allows_what_makes_sense_in_it() -> Result<()> {
    let world = world(1000.0).await?;
    let conflict: &[State] = &[];
    let retried: &[State] = &[State::Running, State::Done];
    let table: [(State, [&[State]; 4]); 6] = [
        // pause, resume, cancel, retry
        (
            State::Uploading,
            [
                &[State::Paused],
                &[State::Uploading],
                &[State::Cancelling, State::Cancelled],
                &[State::Uploading],
            ],
        ),
        (
            State::Running,
            [&[State::Paused], &[State::Running], &[State::Cancelling, State::Cancelled], &[State::Running]],
        ),
        (
            State::Paused,
            [&[State::Paused], &[State::Running], &[State::Cancelling, State::Cancelled], &[State::Paused]],
        ),
        (State::Done, [conflict, conflict, conflict, retried]),
        (State::Cancelling, [conflict, conflict, &[State::Cancelling], conflict]),
        (State::Cancelled, [conflict, conflict, &[State::Cancelled], conflict]),
    ];
    for (state, answers) in table {
        for (verb, expected) in ["pause", "resume", "cancel", "retry"].into_iter().zip(answers) {
            let bulk = batch_in(&world, state).await?;
            let answer = match verb {
                "pause" => bulk.pause().await,
                "resume" => bulk.resume().await,
                "cancel" => bulk.cancel().await,
                _ => bulk.retry().await,
            };
            match answer {
                Ok(batch) => {
                    assert!(expected.contains(&batch.state()), "{verb} {state:?}: {:?}", batch.state());
                }
                Err(status) => {
                    assert_eq!(reason(&status), "BATCH_STATE_CONFLICT", "{verb} {state:?}: {status}");
                    assert!(expected.is_empty(), "{verb} {state:?}: {status}");
                    assert_eq!(status.code(), Code::FailedPrecondition);
                    assert_eq!(bulk.get().await?.state(), state);
                }
            }
            world.simulator().release();
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_of_a_batch_once_it_is_cancelled() -> Result<()> {
    let world = world(50.0).await?;
    let bulk = Bulk::at(&world.service, header())?;
    let all = rows(1500);
    let held = all[0].device_id.parse::<Uuid>()?.into();
    world.simulator().fault(held, [Fault::hold()]);
    // The held one is sent first, the rest after it.
    bulk.append(0, &all[..1], None).await?;
    world.simulator().arrived_for(held, 1).await;
    bulk.append(1, &all[1..1000], None).await?;
    bulk.append(1000, &all[1000..], Some(1500)).await?;
    world.simulator().arrived(20).await;
    bulk.when("it tells what is at PingOne", |batch| batch.running_count > 0).await?;
    assert_eq!(bulk.cancel().await?.state(), State::Cancelling);
    bulk.when("all but what is at PingOne is cancelled", |batch| batch.pending_count == 1).await?;
    let posts = world.simulator().counts().posts;
    world.simulator().release();
    let (batch, results) = bulk.ended(State::Cancelled).await?;
    assert!(batch.state_reason.starts_with("cancelled by"), "{batch:?}");
    assert_eq!(results[0].outcome(), Outcome::Unblocked, "it was at PingOne already");
    assert_eq!(batch.succeeded_count, i64::try_from(posts)?);
    assert_eq!(batch.cancelled_count, 1500 - batch.succeeded_count);

    let next = Bulk::at(&world.service, BatchHeader { batch_id: "next".to_owned(), ..bulk.header.clone() })?;
    next.upload(&rows(20)).await?;
    next.ended(State::Done).await?;
    assert_eq!(world.simulator().counts().posts, posts + 20);
    let refused = bulk.append(1500, &rows(1), None).await.expect_err("it takes no more");
    assert_eq!(reason(&refused), "BATCH_STATE_CONFLICT");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_before_the_seal_where_that_was_asked_for() -> Result<()> {
    let world = world(1000.0).await?;
    let bulk = Bulk::at(&world.service, BatchHeader { start_when_sealed: true, ..header() })?;
    let other = BatchHeader { batch_id: "other".to_owned(), ..bulk.header.clone() };
    let other = Bulk::at(&world.service, BatchHeader { start_when_sealed: false, ..other })?;
    let mut upload = bulk.fill(&rows(100)).await?;
    assert_eq!(bulk.get().await?.state(), State::Uploading);
    // Paused and resumed, it still waits.
    assert_eq!(bulk.pause().await?.state(), State::Paused);
    assert_eq!(bulk.resume().await?.state(), State::Uploading);
    other.upload(&rows(50)).await?;
    other.ended(State::Done).await?;
    assert_eq!(world.simulator().counts().posts, 50);
    upload.seal(100).await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, world.simulator().counts().posts), (100, 150));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_when_its_time_is_over_expires_whatever_the_batch_waits_for() -> Result<()> {
    let world = world(5.0).await?;
    let short = || BatchHeader { time_to_live: seconds(2), ..header() };
    let slow = Bulk::at(&world.service, short())?;
    let paused = Bulk::at(&world.service, short())?;
    let unsealed = Bulk::at(&world.service, BatchHeader { start_when_sealed: true, ..short() })?;
    slow.append(0, &rows(100), Some(100)).await?;
    paused.append(0, &[], None).await?;
    paused.pause().await?;
    paused.append(0, &rows(30), Some(30)).await?;
    unsealed.append(0, &rows(30), None).await?;
    let (batch, results) = slow.ended(State::Done).await?;
    assert!(batch.succeeded_count > 0 && batch.expired_count > 50, "{batch:?}");
    assert_eq!(batch.succeeded_count + batch.expired_count, 100);
    let expired = having(&results, Outcome::Expired);
    assert!(expired.iter().all(|result| result.attempt_count == 0 && result.complete_time.is_some()));
    let (batch, _) = paused.ended(State::Done).await?;
    assert_eq!(batch.expired_count, 30);
    unsealed.when("all expired", |batch| batch.expired_count == 30).await?;
    let late = unsealed.append(30, &rows(1), None).await.expect_err("its time is over");
    assert_eq!(reason(&late), "BATCH_STATE_CONFLICT");
    unsealed.append(0, &[], Some(30)).await?;
    let (batch, _) = unsealed.ended(State::Done).await?;
    let lived = |batch: &v1::Batch| Some(batch.expire_time?.seconds - batch.create_time?.seconds);
    assert_eq!(lived(&batch), Some(2));

    // With new time they are sent.
    let again = unsealed.retry().await?;
    assert_eq!(again.state(), State::Running);
    let (batch, _) = unsealed.ended(State::Done).await?;
    assert!(batch.succeeded_count > 0, "{batch:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_what_waits_and_a_person_answers_it_all_the_same() -> Result<()> {
    let world = world(20.0).await?;
    let bulk = Bulk::at(&world.service, header())?;
    bulk.append(0, &[], None).await?;
    let all = rows(40);
    bulk.append(0, &all, Some(40)).await?;
    world.simulator().arrived(3).await;
    let paused = bulk.pause().await?;
    assert_eq!((paused.state(), paused.paused_by_itself), (State::Paused, false));
    assert!(paused.state_reason.starts_with("paused by"), "{paused:?}");
    world.simulator().idle().await;
    bulk.when("what was sent is told", |batch| batch.running_count == 0).await?;
    let (before, results) = bulk.exact().await?;
    let waits = *having(&results, Outcome::Pending).first().ok_or("all were sent")?;
    let target = waits.target.clone().ok_or("no target")?;
    let device = v1::DeviceRef {
        environment_id: bulk.header.environment_id.clone(),
        user_id: target.user_id,
        device_id: target.device_id,
    };
    let person = world.service.unblock(request(device)).await?.job.ok_or("no job")?;
    assert_eq!(person.state(), v1::job::State::Succeeded);
    let answered = world.service.job_in(&waits.job_id, &[v1::job::State::Succeeded]).await?;
    assert_eq!(answered.answered_by_job_id, person.job_id);
    let (batch, _) = bulk.exact().await?;
    assert_eq!(batch.succeeded_count, before.succeeded_count + 1);
    bulk.resume().await?;
    bulk.ended(State::Done).await?;
    assert_eq!(world.simulator().counts().posts, 40);
    Ok(())
}
