//! One request, one job.

use pingone_unblock::proto::v1::{self, job::State};
use tonic::Code;
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        service::{World, example_device, request, some_device, wire},
    },
    unblock::reason,
};

fn with_id(device: v1::DeviceRef, id: &str) -> v1::UnblockRequest {
    v1::UnblockRequest { request_id: id.to_owned(), ..request(device) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_equal_calls_are_one_job_and_one_post() -> Result<()> {
    let world = World::start().await?;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let mut devices = world.service.devices.clone();
            tokio::spawn(async move { devices.unblock(with_id(example_device(), "the-same")).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await??.into_inner());
    }
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    let jobs: Vec<v1::Job> = answers.into_iter().filter_map(|answer| answer.job).collect();
    assert_eq!(jobs.len(), 100);
    assert!(jobs.iter().all(|job| *job == jobs[0]), "all answers are equal");
    assert_eq!(jobs[0].state(), State::Succeeded);
    assert_eq!(world.simulator().counts().posts, 1);
    Ok(())
}

#[tokio::test]
async fn an_id_stands_for_one_request_and_says_where_another_differs() -> Result<()> {
    let world = World::start().await?;
    world.service.unblock(with_id(example_device(), "once")).await?;
    let other = with_id(wire(&some_device()?), "once");
    let refused = world.service.unblock(other).await.expect_err("another device");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert!(refused.message().contains("device_ref"), "{}", refused.message());
    let other = v1::UnblockRequest { ticket: "INC-2".to_owned(), ..with_id(example_device(), "once") };
    let refused = world.service.unblock(other).await.expect_err("another ticket");
    assert!(refused.message().contains("ticket"), "{}", refused.message());
    assert_eq!(world.simulator().counts().posts, 1);
    Ok(())
}

#[tokio::test]
async fn the_same_id_in_another_environment_is_another_job() -> Result<()> {
    let world = World::start().await?;
    let here = world.service.unblock(with_id(example_device(), "once")).await?;
    let elsewhere = v1::DeviceRef { environment_id: Uuid::new_v4().to_string(), ..example_device() };
    let there = world.service.unblock(with_id(elsewhere, "once")).await?;
    assert!(!there.replayed);
    assert_ne!(here.job.map(|job| job.job_id), there.job.map(|job| job.job_id));
    Ok(())
}

#[tokio::test]
async fn without_an_id_every_call_is_a_new_job() -> Result<()> {
    let world = World::start().await?;
    let first = world.service.unblock(request(example_device())).await?;
    let second = world.service.unblock(request(example_device())).await?;
    assert_ne!(first.job.map(|job| job.job_id), second.job.map(|job| job.job_id));
    Ok(())
}
