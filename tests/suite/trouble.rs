//! What goes wrong in one environment stays there, is told truly, and ends by itself.

use std::time::{Duration, Instant};

use pingone_unblock::{
    device::EnvironmentId,
    engine::Limits,
    proto::v1::{self, job::State},
    simulator::{self, Fault, On, Plan, RetryAfter},
};

use crate::harness::{
    Result,
    load::{Placed, all_succeed, bulk, device_in, place, requests_of, share_used, some_environment},
    service::{Service, Variant, World, eventually, request, request_without_wait, wire},
};

const RATE: f64 = 50.0;
const MAX_IN_FLIGHT: u32 = 16;

async fn world() -> Result<World> {
    let limits = Limits { rate: RATE, max_in_flight: MAX_IN_FLIGHT };
    World::with(Variant { limits, ..Variant::default() }, simulator::Settings::default()).await
}

/// Everything that is asked of `environment` meets `fault`, until faults are cleared.
fn all_meet(world: &World, environment: EnvironmentId, fault: Fault) {
    world.simulator().plan(Plan::new([fault]).on(On::Any).environment(environment).until_cleared());
}

async fn waits_for(service: &Service, job: &str, what: &str) -> Result<()> {
    let mut last = String::new();
    let waited = eventually("it says what it waits for", async || {
        let job = service.job(job).await?;
        last = job.waiting_for;
        Ok(last.contains(what))
    });
    Ok(waited.await.map_err(|error| format!("{error}: {what}; it says {last:?}"))?)
}

fn posts(world: &World, environment: EnvironmentId) -> usize {
    requests_of(world.simulator(), environment).len()
}

/// Every job, once all have ended.
async fn all_end(service: &Service, placed: &[Placed]) -> Result<Vec<v1::Job>> {
    let ends = [State::Succeeded, State::Failed, State::Cancelled, State::Expired];
    let mut jobs = Vec::with_capacity(placed.len());
    for one in placed {
        jobs.push(service.job_in(&one.job, &ends).await?);
    }
    Ok(jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_and_a_hanging_environment_do_not_slow_a_healthy_one_and_recover() -> Result<()> {
    let world = world().await?;
    let service = &world.service;
    let [failing, hanging, healthy] = [0; 3].map(|_| some_environment());
    all_meet(&world, failing, Fault::status(503));
    all_meet(&world, hanging, Fault::hold());
    let failed = bulk(&service.devices, failing, 60).await?;
    let hung = bulk(&service.devices, hanging, 60).await?;
    let fine = bulk(&service.devices, healthy, 300).await?;

    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let since = Instant::now();
        let asked = request(wire(&device_in(healthy)?));
        let job = service.unblock(asked).await?.job.ok_or("no job")?;
        assert_eq!(job.state(), State::Succeeded);
        slowest = slowest.max(since.elapsed());
    }
    all_succeed(service, &fine).await?;
    let share = share_used(&requests_of(world.simulator(), healthy), RATE);
    assert!(share >= 0.95, "{share:.3} of the rate was used");
    assert!(slowest < Duration::from_millis(500), "a person waited {slowest:?} in the healthy environment");

    // Five in a row open the circuit; then one job at a time. What was under way meanwhile comes on top.
    let reached = posts(&world, failing);
    assert!((5..5 + 16).contains(&reached), "{reached} requests reached the failing environment");
    assert!(posts(&world, hanging) <= 16, "no more than may be at once hang");
    let last = &failed[failed.len() - 1].job;
    waits_for(service, last, "PingOne: failing since").await?;
    waits_for(service, &hung[hung.len() - 1].job, "PingOne: failing since").await?;

    world.simulator().clear_faults();
    world.simulator().release();
    for job in all_succeed(service, &failed).await? {
        assert!(job.attempt_count <= 3, "a failed probe costs no attempt: {job:?}");
    }
    for job in all_succeed(service, &hung).await? {
        assert!(job.attempt_count <= 2, "a failed probe costs no attempt: {job:?}");
    }
    Ok(())
}

/// The end of a credential that PingOne refuses, by 403 for everything in `on`.
async fn forbidden(on: On) -> Result<()> {
    let world = world().await?;
    let service = &world.service;
    let [refused, healthy] = [0; 2].map(|_| some_environment());
    world.simulator().plan(Plan::new([Fault::status(403)]).on(on).environment(refused).until_cleared());
    let placed = bulk(&service.devices, refused, 80).await?;
    let last = &placed[placed.len() - 1].job;
    waits_for(service, last, "PingOne refuses the credential of environment").await?;
    let job = service.unblock(request(wire(&device_in(healthy)?))).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded, "only that environment waits");

    // It is tried again by one job, and costs none of them anything.
    world.simulator().idle().await;
    let before = posts(&world, refused);
    world.simulator().until(|_| posts(&world, refused) > before).await;
    waits_for(service, last, "PingOne refuses the credential of environment").await?;
    world.simulator().clear_faults();
    let jobs = all_end(service, &placed).await?;
    let (succeeded, failed): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job.state() == State::Succeeded);
    assert_eq!(failed.len(), 19, "each was its user's matter, until twenty in a row could not be");
    for job in failed {
        assert_eq!(job.error.as_ref().map(|error| error.reason.as_str()), Some("UPSTREAM_FORBIDDEN"));
    }
    for job in succeeded {
        assert_eq!((job.state(), job.attempt_count), (State::Succeeded, 1));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_may_do_nothing_pauses_its_environment_and_resumes() -> Result<()> {
    forbidden(On::Any).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_may_only_read_pauses_its_environment_and_resumes() -> Result<()> {
    forbidden(On::Post).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_says_truly_what_it_waits_for() -> Result<()> {
    let limits = Limits { rate: 5.0, max_in_flight: MAX_IN_FLIGHT };
    let world = World::with(Variant { limits, ..Variant::default() }, simulator::Settings::default()).await?;
    let service = &world.service;
    let environment = some_environment();
    let id = environment.to_string();
    let placed = bulk(&service.devices, environment, 60).await?;
    let last = &placed[placed.len() - 1].job;
    waits_for(service, last, &format!("rate limit of environment {id}: ")).await?;
    waits_for(service, last, " jobs ahead, about ").await?;

    let pause = v1::PauseEnvironmentRequest { environment_id: id.clone(), reason: "a drill".to_owned() };
    service.environments.clone().pause_environment(pause).await?;
    waits_for(service, last, "a resume: paused by anonymous since ").await?;
    waits_for(service, last, ": a drill").await?;
    let resume = v1::ResumeEnvironmentRequest { environment_id: id, ..Default::default() };
    service.environments.clone().resume_environment(resume).await?;
    waits_for(service, last, " jobs ahead, about ").await?;

    let limited = device_in(environment)?;
    world.simulator().fault(limited.device, [Fault::retry_after(429, RetryAfter::Seconds(3))]);
    place(&service.devices, vec![(limited, request_without_wait(wire(&limited)))]).await?;
    waits_for(service, last, "PingOne asked to wait until ").await?;
    waits_for(service, last, " jobs ahead, about ").await?;
    Ok(())
}
