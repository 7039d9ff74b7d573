//! Batches are paused, resumed, cancelled and retried, by people and by themselves.

use std::time::Duration;

use pingone_unblock::{
    device::{DeviceRef, EnvironmentId},
    engine::Limits,
    proto::v1::{self, BatchHeader, BatchTarget, batch::State, target_result::Outcome},
    simulator::{Device, Fault},
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        bulk::{Bulk, having, header, number, row, row_of, rows},
        service::{Variant, World},
    },
    unblock::reason,
};

async fn world(rate: f64) -> Result<World> {
    let limits = Limits { rate, max_in_flight: 32 };
    World::with(Variant { limits, ..Variant::default() }, Default::default()).await
}

/// `count` devices of few users, whose trouble is theirs and not the credential's.
fn rows_of_few(count: usize) -> Vec<BatchTarget> {
    let users: Vec<Uuid> = (0..12).map(|_| Uuid::new_v4()).collect();
    users.iter().cycle().take(count).map(|user| row_of(*user, Some(Uuid::new_v4()))).collect()
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
async fn a_canary_of_failures_pauses_and_nothing_beyond_it_is_sent() -> Result<()> {
    let world = world(1000.0).await?;
    world.simulator().fault_all(Fault::status(403));
    let bulk = Bulk::at(&world.service, BatchHeader { canary_count: 50, ..header() })?;
    bulk.upload(&rows_of_few(2000)).await?;
    let paused = bulk.when_in(State::Paused).await?;
    assert!(paused.paused_by_itself && paused.state_reason.contains("canary"), "{paused:?}");
    let (batch, results) = bulk.exact().await?;
    assert_eq!((batch.failed_count, batch.pending_count), (50, 1950));
    let failed = having(&results, Outcome::Failed);
    assert!(
        failed
            .iter()
            .all(|result| result.error.as_ref().is_some_and(|error| error.reason == "UPSTREAM_FORBIDDEN"))
    );
    assert_eq!(world.simulator().counts().posts, 50);

    world.simulator().clear_faults();
    // A person's job of the same environment, sent after all that would have been sent too.
    let device = v1::DeviceRef {
        environment_id: bulk.header.environment_id.clone(),
        user_id: Uuid::new_v4().to_string(),
        device_id: Uuid::new_v4().to_string(),
    };
    world.service.unblock(crate::harness::service::request(device)).await?;
    assert_eq!(world.simulator().counts().posts, 51);

    let resumed = bulk.resume().await?;
    assert_eq!(
        (resumed.state(), resumed.paused_by_itself, resumed.state_reason.as_str()),
        (State::Running, false, "")
    );
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, batch.failed_count), (1950, 50));
    bulk.retry().await?;
    let (batch, results) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, batch.failed_count), (2000, 0));
    assert_eq!(world.simulator().counts().posts, 51 + 2000 - 50 + 50);
    assert!(results.iter().all(|result| result.error.is_none()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_whose_credential_is_refused_costs_nothing_beyond_it() -> Result<()> {
    let world = world(1000.0).await?;
    world.simulator().fault_all(Fault::status(403));
    let bulk = Bulk::at(&world.service, BatchHeader { canary_count: 50, ..header() })?;
    // Each of another user: then it must be the credential.
    bulk.upload(&rows(2000)).await?;
    let waits = bulk
        .when("it waits for the credential", |batch| {
            !batch.waiting_for.is_empty() && batch.failed_count >= 19
        })
        .await?;
    assert_eq!(waits.state(), State::Running, "{waits:?}");
    let listed =
        world.service.environments.clone().list_environments(v1::ListEnvironmentsRequest::default()).await?;
    let mut environments = listed.into_inner().environments;
    environments.retain(|environment| environment.environment_id == bulk.header.environment_id);
    let environment = environments.pop().ok_or("no environment")?;
    assert_eq!(environment.state(), v1::environment::State::CredentialRefused);
    world.simulator().idle().await;
    let posted = |simulator: &pingone_unblock::simulator::Simulator| {
        simulator.posts().iter().map(|post| post.device).collect::<std::collections::HashSet<_>>().len()
    };
    assert!(posted(world.simulator()) <= 50, "{} devices", posted(world.simulator()));
    let (batch, _) = bulk.exact().await?;
    assert!(batch.failed_count < 50, "it costs those that come later nothing: {batch:?}");

    world.simulator().clear_faults();
    bulk.when_in(State::Paused).await?;
    assert_eq!(posted(world.simulator()), 50, "the canary, and no more");
    bulk.resume().await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count + batch.failed_count, 2000);
    bulk.retry().await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count, 2000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_failures_pause_it_after_each_resume_and_each_retry() -> Result<()> {
    let world = world(100.0).await?;
    world.simulator().fault_all(Fault::status(404));
    let bulk = Bulk::at(&world.service, BatchHeader { max_failure_ratio: 0.1, ..header() })?;
    bulk.upload(&rows(400)).await?;
    let mut failed = 0;
    for way in ["at first", "resumed", "retried"] {
        match way {
            "resumed" => drop(bulk.resume().await?),
            "retried" => {
                bulk.retry().await?;
                bulk.resume().await?;
            }
            _ => {}
        }
        let paused = bulk.when(way, |batch| batch.state() == State::Paused && batch.paused_by_itself).await?;
        assert!(paused.state_reason.contains("100.0 %"), "{way}: {paused:?}");
        world.simulator().idle().await;
        let (batch, _) = bulk.exact().await?;
        let sent = number(usize::try_from(world.simulator().counts().posts)?);
        let more = sent - failed;
        // Twenty, and what was sent until that was seen.
        assert!((20..=120).contains(&more), "{way}: {more} were sent: {batch:?}");
        assert!(batch.pending_count > 0, "{way}: {batch:?}");
        failed = sent;
    }
    world.simulator().clear_faults();
    bulk.resume().await?;
    bulk.when_in(State::Done).await?;
    bulk.retry().await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count, 400);
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
    let before = bulk.when("what was sent is told", |batch| batch.running_count == 0).await?;
    let (_, results) = bulk.exact().await?;
    let waits = *having(&results, Outcome::Pending).first().ok_or("all were sent")?;
    let target = waits.target.clone().ok_or("no target")?;
    let device = v1::DeviceRef {
        environment_id: bulk.header.environment_id.clone(),
        user_id: target.user_id,
        device_id: target.device_id,
    };
    let person =
        world.service.unblock(crate::harness::service::request(device)).await?.job.ok_or("no job")?;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_goes_through_all_rows_however_fast_the_first_of_them_end() -> Result<()> {
    let world = world(1000.0).await?;
    let bulk = Bulk::at(&world.service, header())?;
    let all = rows(3000);
    // One failure in each stretch that is retried at once.
    for at in [3, 700, 1400, 2200, 2999] {
        let device = all[at].device_id.parse::<Uuid>()?.into();
        world.simulator().fault(device, std::iter::repeat_n(Fault::status(404), 4));
    }
    bulk.upload(&all).await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.failed_count, 5);
    let other = Bulk::at(&world.service, header())?;
    other.append(0, &[], None).await?;
    for _ in 0..3 {
        // Whoever steers has all batches judged: at any moment of the retry.
        let judging = async {
            for _ in 0..40 {
                other.resume().await?;
            }
            Ok::<_, Status>(())
        };
        let (retried, judged) = tokio::join!(bulk.retry(), judging);
        judged?;
        retried?;
        let (batch, results) = bulk.ended(State::Done).await?;
        assert_eq!((batch.failed_count, batch.succeeded_count), (5, 2995));
        assert_eq!(having(&results, Outcome::Failed).len(), 5);
    }
    bulk.retry().await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count, 3000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_has_nothing_to_send_is_over_too() -> Result<()> {
    let world = world(1000.0).await?;
    let bulk = Bulk::at(&world.service, BatchHeader { canary_count: 1, ..header() })?;
    let user = Uuid::new_v4();
    let device = DeviceRef {
        environment: EnvironmentId::parse(&bulk.header.environment_id)?,
        user: user.into(),
        device: Uuid::new_v4().into(),
    };
    // Blocked anew: it is left alone, and nothing succeeds or fails.
    let later = time::OffsetDateTime::now_utc() + Duration::from_secs(60);
    world.simulator().register(Device { blocked_at: Some(later), ..Device::blocked(device) });
    let mut all = vec![row_of(user, None)];
    all.extend(rows(10));
    bulk.upload(&all).await?;
    let paused = bulk.when_in(State::Paused).await?;
    assert!(paused.paused_by_itself, "{paused:?}");
    assert_eq!(world.simulator().counts().posts, 0);
    bulk.resume().await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, batch.rejected_count), (10, 1));
    Ok(())
}
