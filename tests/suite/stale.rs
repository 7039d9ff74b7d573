//! A stale unblock does not lift a newer block: what comes late, or again, looks first.

use std::time::Duration;

use pingone_unblock::{
    device::DeviceRef,
    proto::v1::{self, job::State},
    simulator::{self, Device, Fault, Garbage, On, Plan},
};
use time::OffsetDateTime;

use crate::harness::{
    Result,
    service::{ENVIRONMENT, Variant, World, eventually, request, request_without_wait, some_device, wire},
};

/// A job whose first POST is at PingOne, which will answer it with 503.
async fn about_to_fail(world: &World) -> Result<(DeviceRef, v1::Job)> {
    let device = some_device()?;
    world.simulator().register(Device::blocked(device));
    world.simulator().fault(device.device, [Fault::Hold { then: Box::new(Fault::status(503)) }]);
    let job = world.service.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    world.simulator().arrived_for(device.device, 1).await;
    Ok((device, job))
}

/// Number, whether it was a read, status and reason of every request for the job.
fn told(job: &v1::Job) -> Vec<(i32, bool, i32, &str)> {
    job.attempts
        .iter()
        .map(|attempt| {
            let reason = attempt.error.as_ref().map_or("", |error| &error.reason);
            (attempt.number, attempt.read, attempt.http_status, reason)
        })
        .collect()
}

const SENT: bool = false;
const READ: bool = true;
const FIRST: (i32, bool, i32, &str) = (1, SENT, 503, "UPSTREAM_UNAVAILABLE");

#[tokio::test]
async fn a_retry_that_finds_the_device_unblocked_sends_nothing() -> Result<()> {
    let world = World::start().await?;
    let (device, job) = about_to_fail(&world).await?;
    world.simulator().register(Device { blocked: false, blocked_at: None, ..Device::blocked(device) });
    world.simulator().release();
    let job = world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    assert_eq!(job.device.as_ref().map(|device| device.block_status.as_str()), Some("UNBLOCKED"));
    assert_eq!(told(&job), [FIRST, (2, READ, 200, "")]);
    let counts = world.simulator().counts_for(device.device);
    assert_eq!((counts.posts, counts.reads, counts.effects), (1, 1, 0));
    Ok(())
}

#[tokio::test]
async fn a_device_blocked_anew_is_left_alone() -> Result<()> {
    let world = World::start().await?;
    let (device, job) = about_to_fail(&world).await?;
    let blocked_at = Some(OffsetDateTime::now_utc() + Duration::from_secs(60));
    world.simulator().register(Device { blocked_at, ..Device::blocked(device) });
    world.simulator().release();
    let job = world.service.job_in(&job.job_id, &[State::Failed]).await?;
    assert_eq!(job.error.as_ref().map(|error| error.reason.as_str()), Some("DEVICE_REBLOCKED"));
    assert_eq!(told(&job), [FIRST, (2, READ, 200, "DEVICE_REBLOCKED")]);
    assert_eq!(world.simulator().counts_for(device.device).posts, 1);
    assert!(world.simulator().device(device.device).is_some_and(|device| device.blocked), "it stays blocked");

    // Who wants it unblocked now says so anew.
    world.simulator().register(Device::blocked(device));
    let job = world.service.unblock(request(wire(&device))).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    Ok(())
}

#[tokio::test]
async fn a_read_that_is_refused_or_not_understood_does_not_stop_the_unblock() -> Result<()> {
    let world = World::start().await?;
    for (fault, status, reason) in [
        (Fault::status(403), 403, "UPSTREAM_FORBIDDEN"),
        (Fault::status(405), 405, "UPSTREAM_REJECTED"),
        (Fault::WrongJson { garbage: Garbage::Array }, 200, "UPSTREAM_PROTOCOL"),
    ] {
        let (device, job) = about_to_fail(&world).await?;
        world.simulator().plan(Plan::new([fault]).on(On::Get).device(device.device));
        world.simulator().release();
        let job = world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
        assert_eq!(told(&job), [FIRST, (2, READ, status, reason), (2, SENT, 200, "")]);
        assert_eq!(job.attempt_count, 2);
        assert_eq!(world.simulator().counts_for(device.device).posts, 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_read_that_fails_is_the_outcome_of_its_attempt() -> Result<()> {
    let world = World::start().await?;
    let (device, job) = about_to_fail(&world).await?;
    world.simulator().plan(Plan::new([Fault::status(503)]).on(On::Get).device(device.device));
    world.simulator().release();
    let job = world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    let failed = (2, READ, 503, "UPSTREAM_UNAVAILABLE");
    assert_eq!(told(&job), [FIRST, failed, (3, READ, 200, ""), (3, SENT, 200, "")]);
    assert_eq!(job.attempt_count, 3);
    assert_eq!(world.simulator().counts_for(device.device).posts, 2);
    Ok(())
}

#[tokio::test]
async fn a_first_attempt_that_comes_late_looks_first() -> Result<()> {
    const STALE_AFTER: Duration = Duration::from_millis(1500);
    let late = Variant { stale_after: STALE_AFTER, ..Variant::default() };
    let world = World::with(late, simulator::Settings::default()).await?;
    let pause = v1::PauseEnvironmentRequest { environment_id: ENVIRONMENT.to_owned(), ..Default::default() };
    world.service.environments.clone().pause_environment(pause).await?;
    let old = some_device()?;
    let job = world.service.unblock(request_without_wait(wire(&old))).await?.job.ok_or("no job")?;
    let asked_at = job.create_time.ok_or("no time")?;
    eventually("the job is old", async || {
        let now = OffsetDateTime::now_utc().unix_timestamp_nanos();
        let asked = i128::from(asked_at.seconds) * 1_000_000_000 + i128::from(asked_at.nanos);
        Ok(now - asked > i128::try_from(STALE_AFTER.as_nanos())? + 100_000_000)
    })
    .await?;
    let resume =
        v1::ResumeEnvironmentRequest { environment_id: ENVIRONMENT.to_owned(), ..Default::default() };
    world.service.environments.clone().resume_environment(resume).await?;
    let job = world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    // A claim made just before the pause was heard of, and given back, has a number too.
    let number = job.attempts.first().map(|attempt| attempt.number).unwrap_or_default();
    assert_eq!(told(&job), [(number, READ, 200, ""), (number, SENT, 200, "")]);
    assert_eq!(job.attempt_count, 1);

    // One that comes in time does not.
    let young = some_device()?;
    world.service.unblock(request(wire(&young))).await?;
    assert_eq!(world.simulator().counts_for(young.device).reads, 0);
    Ok(())
}

#[tokio::test]
async fn a_cancel_between_the_read_and_the_unblock_means_no_unblock() -> Result<()> {
    let world = World::start().await?;
    let (device, job) = about_to_fail(&world).await?;
    world.simulator().plan(Plan::new([Fault::hold()]).on(On::Get).device(device.device));
    world.simulator().release();
    world.simulator().until(|simulator| simulator.counts_for(device.device).reads == 1).await;
    let cancel = v1::CancelJobRequest { job_id: job.job_id.clone(), reason: String::new() };
    let reply = world.service.jobs.clone().cancel_job(cancel).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(reply.state(), State::Running);
    world.simulator().release();
    let job = world.service.job_in(&job.job_id, &[State::Cancelled]).await?;
    assert_eq!(told(&job), [FIRST, (2, READ, 200, "")]);
    assert_eq!(world.simulator().counts_for(device.device).posts, 1);
    Ok(())
}
