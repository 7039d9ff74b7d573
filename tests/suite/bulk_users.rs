//! Rows by user: each becomes a row for every blocked device of that user.

use std::time::Duration;

use pingone_unblock::{
    device::{DeviceId, DeviceRef, EnvironmentId},
    proto::v1::{TargetResult, batch::State, target_result::Outcome},
    simulator::{self, Device, Fault},
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::harness::{
    Result,
    bulk::{Bulk, header, row_of},
    service::{Variant, World},
};

/// A world in which only registered devices exist, and a batch in it.
async fn strict() -> Result<(World, Bulk)> {
    let settings = simulator::Settings { strict: true, ..simulator::Settings::default() };
    let world = World::with(Variant::default(), settings).await?;
    let bulk = Bulk::at(&world.service, header())?;
    Ok((world, bulk))
}

fn register(world: &World, bulk: &Bulk, user: Uuid, blocked: bool) -> Result<Uuid> {
    let device = Uuid::new_v4();
    let reference = DeviceRef {
        environment: EnvironmentId::parse(&bulk.header.environment_id)?,
        user: user.into(),
        device: DeviceId::from(device),
    };
    world.simulator().register(Device { blocked, ..Device::blocked(reference) });
    Ok(device)
}

fn told(result: &TargetResult) -> (i64, i32, Outcome, &str) {
    (result.offset, result.sub_index, result.outcome(), result.device_id.as_str())
}

fn error_of(result: &TargetResult) -> &str {
    result.error.as_ref().map(|error| error.reason.as_str()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_becomes_his_blocked_devices_and_says_so_where_there_is_none() -> Result<()> {
    let (world, bulk) = strict().await?;
    let (two, none, unknown) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let first = register(&world, &bulk, two, true)?;
    register(&world, &bulk, two, false)?;
    let second = register(&world, &bulk, two, true)?;
    register(&world, &bulk, none, false)?;
    bulk.upload(&[row_of(two, None), row_of(none, None), row_of(unknown, None)]).await?;

    let (batch, results) = bulk.ended(State::Done).await?;
    let (first, second) = (first.to_string(), second.to_string());
    assert_eq!(
        results.iter().map(told).collect::<Vec<_>>(),
        [
            (0, 1, Outcome::Unblocked, first.as_str()),
            (0, 2, Outcome::Unblocked, second.as_str()),
            (1, 0, Outcome::NoneBlocked, ""),
            (2, 0, Outcome::Failed, ""),
        ]
    );
    assert_eq!(
        results.iter().map(error_of).collect::<Vec<_>>(),
        ["", "", "NO_BLOCKED_DEVICE", "UPSTREAM_NOT_FOUND"]
    );
    let asked: Vec<_> = results.iter().flat_map(|result| result.target.clone()).collect();
    assert_eq!(
        asked,
        [row_of(two, None), row_of(two, None), row_of(none, None), row_of(unknown, None)],
        "as uploaded"
    );
    assert!(
        results[..2].iter().all(|result| result.block_status == "UNBLOCKED" && !result.job_id.is_empty())
    );
    assert_eq!((batch.target_count, batch.expanded_count), (3, 2));
    assert_eq!((batch.succeeded_count, batch.failed_count), (2, 2));
    assert_eq!((world.simulator().counts().posts, world.simulator().deviations()), (2, vec![]));

    // The failures again: the unknown user is known by now, and the other has a blocked device.
    let found = register(&world, &bulk, unknown, true)?.to_string();
    bulk.retry().await?;
    let (batch, results) = bulk.ended(State::Done).await?;
    assert_eq!(told(&results[3]), (2, 1, Outcome::Unblocked, found.as_str()));
    assert_eq!((batch.succeeded_count, batch.failed_count, batch.expanded_count), (3, 1, 3));
    assert_eq!(world.simulator().counts().posts, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_or_a_user_of_an_earlier_row_is_a_duplicate() -> Result<()> {
    let (world, bulk) = strict().await?;
    let user = Uuid::new_v4();
    let named = register(&world, &bulk, user, true)?;
    let other = register(&world, &bulk, user, true)?;
    // Blocked for as long as it takes to list it.
    world.simulator().fault(named.into(), [Fault::hold()]);
    let rows = [row_of(user, Some(named)), row_of(user, None), row_of(user, None), row_of(user, Some(named))];
    bulk.upload(&rows).await?;
    world.simulator().arrived_for(other.into(), 1).await;
    world.simulator().release();
    let (batch, results) = bulk.ended(State::Done).await?;
    let (named, other) = (named.to_string(), other.to_string());
    assert_eq!(
        results.iter().map(told).collect::<Vec<_>>(),
        [
            (0, 0, Outcome::Unblocked, ""),
            (1, 1, Outcome::Duplicate, named.as_str()),
            (1, 2, Outcome::Unblocked, other.as_str()),
            (2, 0, Outcome::Duplicate, ""),
            (3, 0, Outcome::Duplicate, ""),
        ]
    );
    assert_eq!((&results[1].job_id, &results[4].job_id), (&results[0].job_id, &results[0].job_id));
    assert_eq!((batch.target_count, batch.expanded_count, batch.duplicate_count), (4, 1, 3));
    assert_eq!((world.simulator().counts().posts, batch.succeeded_count), (2, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_blocked_after_the_row_was_recorded_is_left_alone() -> Result<()> {
    let (world, bulk) = strict().await?;
    let user = Uuid::new_v4();
    let before = register(&world, &bulk, user, true)?.to_string();
    let after = register(&world, &bulk, user, false)?;
    // As an administrator does a minute from now, by a clock the lookup will see.
    let blocked = world.simulator().device(after.into()).ok_or("no device")?;
    let later = OffsetDateTime::now_utc() + Duration::from_secs(60);
    world.simulator().register(Device { blocked: true, blocked_at: Some(later), ..blocked });
    bulk.upload(&[row_of(user, None)]).await?;
    let (batch, results) = bulk.ended(State::Done).await?;
    let after_id = after.to_string();
    assert_eq!(
        results.iter().map(told).collect::<Vec<_>>(),
        [(0, 1, Outcome::Unblocked, before.as_str()), (0, 2, Outcome::Rejected, after_id.as_str())]
    );
    assert_eq!(error_of(&results[1]), "DEVICE_REBLOCKED");
    assert_eq!(results[1].target, Some(row_of(user, None)), "as it was uploaded");
    assert_eq!((batch.rejected_count, batch.expanded_count, batch.succeeded_count), (1, 1, 1));
    assert!(world.simulator().device(after.into()).is_some_and(|device| device.blocked));
    assert_eq!(world.simulator().counts_for(after.into()).posts, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_with_trouble_are_each_counted_once() -> Result<()> {
    let (world, bulk) = strict().await?;
    let mut rows = Vec::new();
    let mut devices = 0;
    for at in 0..300_u64 {
        let user = Uuid::new_v4();
        for _ in 0..at % 4 {
            let device = register(&world, &bulk, user, true)?;
            devices += 1;
            if devices % 7 == 0 {
                world.simulator().fault(device.into(), [Fault::status(503), Fault::ResetAfter]);
            }
        }
        rows.push(row_of(user, None));
    }
    bulk.upload(&rows).await?;
    let (batch, results) = bulk.ended(State::Done).await?;
    assert_eq!(batch.succeeded_count, devices);
    assert_eq!((batch.expanded_count, batch.failed_count), (devices, 75), "a quarter has none");
    let ids: std::collections::HashSet<_> = results.iter().map(|result| &result.job_id).collect();
    assert_eq!(ids.len(), results.len(), "each has a job of its own");
    Ok(())
}
