//! Batches pause by themselves, go on when they are resumed, and mend what failed when they are retried.

use std::time::Duration;

use pingone_unblock::{
    device::{DeviceRef, EnvironmentId},
    engine::Limits,
    proto::v1::{self, BatchHeader, BatchTarget, batch::State, target_result::Outcome},
    simulator::{Device, Fault},
};
use tonic::Status;
use uuid::Uuid;

use crate::harness::{
    Result,
    bulk::{Bulk, having, header, number, row_of, rows},
    service::{Variant, World, request},
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

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_of_failures_pauses_and_nothing_beyond_it_is_sent() -> Result<()> {
    let world = world(1000.0).await?;
    world.simulator().fault_all(Fault::status(403));
    let bulk = Bulk::at(&world.service, BatchHeader { canary_count: 50, ..header() })?;
    bulk.upload(&rows_of_few(10_000)).await?;
    let paused = bulk.when_in(State::Paused).await?;
    assert!(paused.paused_by_itself && paused.state_reason.contains("canary"), "{paused:?}");
    let (batch, results) = bulk.exact().await?;
    assert_eq!((batch.failed_count, batch.pending_count), (50, 9_950));
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
    world.service.unblock(request(device)).await?;
    assert_eq!(world.simulator().counts().posts, 51);

    let resumed = bulk.resume().await?;
    assert_eq!(
        (resumed.state(), resumed.paused_by_itself, resumed.state_reason.as_str()),
        (State::Running, false, "")
    );
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, batch.failed_count), (9_950, 50));
    bulk.retry().await?;
    let (batch, results) = bulk.ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, batch.failed_count), (10_000, 0));
    assert_eq!(world.simulator().counts().posts, 51 + 10_000 - 50 + 50);
    assert!(results.iter().all(|result| result.error.is_none()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_whose_credential_is_refused_costs_nothing_beyond_it() -> Result<()> {
    let world = world(1000.0).await?;
    world.simulator().fault_all(Fault::status(403));
    let bulk = Bulk::at(&world.service, BatchHeader { canary_count: 50, ..header() })?;
    // Each of another user: then it must be the credential.
    bulk.upload(&rows(10_000)).await?;
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
    assert_eq!(batch.succeeded_count + batch.failed_count, 10_000);
    bulk.retry().await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count, 10_000);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_fails_again_pauses_again() -> Result<()> {
    let world = world(50.0).await?;
    world.simulator().fault_all(Fault::status(404));
    let bulk = Bulk::at(&world.service, BatchHeader { max_failure_ratio: 0.5, ..header() })?;
    bulk.upload(&rows(100)).await?;
    loop {
        let stopped = bulk.when("it stops", |batch| batch.state() != State::Running).await?;
        if stopped.state() == State::Done {
            break;
        }
        bulk.resume().await?;
    }
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.failed_count, 100);
    bulk.retry().await?;
    let paused = bulk.when_in(State::Paused).await?;
    assert!(paused.paused_by_itself && paused.state_reason.contains("100.0 %"), "{paused:?}");
    let (batch, _) = bulk.exact().await?;
    assert!(batch.pending_count > 0, "{batch:?}");
    world.simulator().clear_faults();
    bulk.resume().await?;
    bulk.when_in(State::Done).await?;
    bulk.retry().await?;
    let (batch, _) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count, 100);
    Ok(())
}
