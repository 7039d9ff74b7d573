//! Cancels, redrives and lists.

use std::time::Duration;

use pingone_unblock::{
    engine::Limits,
    proto::v1::{self, job::State},
    simulator::{self, Fault, RetryAfter},
};
use tonic::Code;

use crate::{
    harness::{
        Result,
        service::{ENVIRONMENT, Variant, World, request, request_without_wait, some_device, wire},
    },
    unblock::reason,
};

fn cancel(id: &str) -> v1::CancelJobRequest {
    v1::CancelJobRequest { job_id: id.to_owned(), reason: "a mistake".to_owned() }
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once_and_never_sent() -> Result<()> {
    let one = Variant { limits: Limits { rate: 1000.0, max_in_flight: 1 }, ..Variant::default() };
    let world = World::with(one, simulator::Settings::default()).await?;
    let (first, device) = (some_device()?, some_device()?);
    world.simulator().fault(first.device, [Fault::hold()]);
    world.service.unblock(request_without_wait(wire(&first))).await?;
    world.simulator().arrived_for(first.device, 1).await;
    let job = world.service.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    for _ in 0..2 {
        let reply = world.service.jobs.clone().cancel_job(cancel(&job.job_id)).await?.into_inner();
        let cancelled = reply.job.ok_or("no job")?;
        assert_eq!(cancelled.state(), State::Cancelled);
        assert!(cancelled.cancel_requested_time.is_some());
    }
    world.simulator().release();
    let last = world.service.unblock(request(wire(&some_device()?))).await?.job.ok_or("no job")?;
    assert_eq!(last.state(), State::Succeeded);
    assert_eq!(world.simulator().counts_for(device.device).posts, 0);
    Ok(())
}

#[tokio::test]
async fn a_job_in_flight_ends_with_its_attempt_and_gets_no_other() -> Result<()> {
    let world = World::start().await?;
    let (fails, succeeds) = (some_device()?, some_device()?);
    let then = Box::new(Fault::status(503));
    world.simulator().fault(fails.device, [Fault::Hold { then }]);
    world.simulator().fault(succeeds.device, [Fault::hold()]);
    let mut ids = Vec::new();
    for device in [&fails, &succeeds] {
        let job = world.service.unblock(request_without_wait(wire(device))).await?.job.ok_or("no job")?;
        world.simulator().arrived_for(device.device, 1).await;
        let reply = world.service.jobs.clone().cancel_job(cancel(&job.job_id)).await?.into_inner();
        let running = reply.job.ok_or("no job")?;
        assert_eq!(running.state(), State::Running);
        assert!(running.cancel_requested_time.is_some());
        ids.push(job.job_id);
    }
    world.simulator().release();
    let failed = world.service.job_in(&ids[0], &[State::Cancelled]).await?;
    assert_eq!(failed.error.map(|error| error.reason).as_deref(), Some("UPSTREAM_UNAVAILABLE"));
    world.service.job_in(&ids[1], &[State::Succeeded]).await?;
    assert_eq!(world.simulator().counts_for(fails.device).posts, 1);
    let late = world.service.jobs.clone().cancel_job(cancel(&ids[1])).await.expect_err("it has ended");
    assert_eq!((late.code(), reason(&late).as_str()), (Code::FailedPrecondition, "JOB_STATE_CONFLICT"));
    Ok(())
}

#[tokio::test]
async fn a_failed_job_is_given_new_attempts_once_per_expected_run() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    world.simulator().fault(device.device, [Fault::status(404)]);
    let failed = world.service.unblock(request(wire(&device))).await?.job.ok_or("no job")?;
    assert_eq!((failed.state(), failed.run), (State::Failed, 1));
    let retry = v1::RetryJobRequest {
        job_id: failed.job_id.clone(),
        expected_run: 1,
        reason: "the user exists now".to_owned(),
        ..v1::RetryJobRequest::default()
    };
    let again =
        world.service.jobs.clone().retry_job(retry.clone()).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(again.run, 2);
    assert!(again.revision > failed.revision);
    let done = world.service.job_in(&failed.job_id, &[State::Succeeded]).await?;
    assert_eq!(
        (done.run, done.attempt_count, done.attempts.len()),
        (2, 1, 3),
        "it read before it sent again"
    );
    // The same call again finds its run begun; another run is refused.
    let repeat =
        world.service.jobs.clone().retry_job(retry.clone()).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(repeat.run, 2);
    let wrong = v1::RetryJobRequest { expected_run: 2, ..retry };
    let refused = world.service.jobs.clone().retry_job(wrong).await.expect_err("it succeeded");
    assert_eq!(reason(&refused), "JOB_STATE_CONFLICT");
    assert_eq!(world.simulator().counts_for(device.device).posts, 2);
    Ok(())
}

#[tokio::test]
async fn a_retry_after_is_shown_and_survives_in_the_list() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    world.simulator().fault(device.device, [Fault::retry_after(503, RetryAfter::Seconds(600))]);
    let job = world.service.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    let job = loop {
        let seen = world.service.job(&job.job_id).await?;
        if seen.error.is_some() {
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(job.state(), State::Pending);
    assert!(job.waiting_for.contains("UPSTREAM_UNAVAILABLE"), "{}", job.waiting_for);
    let next = job.next_attempt_time.ok_or("no next attempt")?;
    assert!(next.seconds - job.create_time.ok_or("no create time")?.seconds >= 599);
    Ok(())
}

#[tokio::test]
async fn a_list_is_paged_newest_first_and_filtered() -> Result<()> {
    let world =
        World::with(Variant::default(), simulator::Settings { strict: true, ..Default::default() }).await?;
    let devices = (0..7).map(|_| some_device()).collect::<Result<Vec<_>>>()?;
    let mut ids = Vec::new();
    for (i, device) in devices.iter().enumerate() {
        if i % 2 == 0 {
            world.simulator().register(simulator::Device::blocked(*device));
        }
        let asked = v1::UnblockRequest { ticket: format!("T{}", i % 3), ..request(wire(device)) };
        ids.push(world.service.unblock(asked).await?.job.ok_or("no job")?.job_id);
    }
    ids.reverse();
    let list =
        v1::ListJobsRequest { environment_id: ENVIRONMENT.to_owned(), page_size: 3, ..Default::default() };
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let asked = v1::ListJobsRequest { page_token: token, ..list.clone() };
        let page = world.service.jobs.clone().list_jobs(asked).await?.into_inner();
        assert!(page.jobs.len() <= 3);
        seen.extend(page.jobs.into_iter().map(|job| job.job_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ids);

    let failed = v1::ListJobsRequest { states: vec![State::Failed.into()], page_size: 0, ..list.clone() };
    let page = world.service.jobs.clone().list_jobs(failed).await?.into_inner();
    assert_eq!(page.jobs.len(), 3);
    assert!(page.jobs.iter().all(|job| job.state() == State::Failed));
    let of_user = v1::ListJobsRequest { user_id: devices[4].user.to_string(), ..list.clone() };
    let page = world.service.jobs.clone().list_jobs(of_user).await?.into_inner();
    assert_eq!(page.jobs.iter().map(|job| &job.job_id).collect::<Vec<_>>(), [&ids[2]]);
    let ticket = v1::ListJobsRequest { ticket: "T1".to_owned(), ..list.clone() };
    assert_eq!(world.service.jobs.clone().list_jobs(ticket).await?.into_inner().jobs.len(), 2);

    let first = world.service.jobs.clone().list_jobs(list.clone()).await?.into_inner();
    let foreign =
        v1::ListJobsRequest { page_token: first.next_page_token, caller: "someone".to_owned(), ..list };
    let refused = world.service.jobs.clone().list_jobs(foreign).await.expect_err("the filters differ");
    assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
    Ok(())
}
