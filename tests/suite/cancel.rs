//! A cancel that was answered is kept: no unblock of that job starts afterwards.

use std::time::{Duration, Instant};

use pingone_unblock::{
    engine::Limits,
    proto::v1::{self, job::State},
    simulator::{self, Fault, On, Plan},
};
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{
    Result,
    load::{all_succeed, bulk, some_environment},
    service::{Service, Variant, World, request_without_wait, some_device, wire},
};

/// From the first byte written to the whole request read, on a busy machine.
const ON_THE_WIRE: Duration = Duration::from_millis(25);

async fn cancel(service: &Service, job: &str) -> Result<v1::Job, tonic::Status> {
    let asked = v1::CancelJobRequest { job_id: job.to_owned(), reason: String::new() };
    Ok(service.jobs.clone().cancel_job(asked).await?.into_inner().job.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_unblock_starts_after_its_cancel_was_answered() -> Result<()> {
    const JOBS: usize = 240;
    const KEPT: usize = 80;
    let began = Instant::now();
    let limits = Limits { rate: 50.0, max_in_flight: 64 };
    let world = World::with(Variant { limits, ..Variant::default() }, simulator::Settings::default()).await?;
    // Slow enough for a request to be under way when its cancel is answered.
    world.simulator().set_latency(Duration::from_millis(700), Duration::ZERO);
    let placed = bulk(&world.service.devices, some_environment(), JOBS).await?;
    let (kept, unwanted): (Vec<_>, Vec<_>) = placed.iter().enumerate().partition(|(at, _)| at % 3 == 0);
    assert_eq!(kept.len(), KEPT);

    // Each is cancelled about when its turn comes: some wait, some are claimed and about to start, some are under way.
    let mut cancels = JoinSet::new();
    for (at, one) in unwanted {
        let when = u64::try_from((at / 3 + fastrand::usize(0..6)).min(KEPT - 1))?;
        let (service, simulator) = ((world.service.jobs.clone()), world.simulator().clone());
        let one = one.clone();
        cancels.spawn(async move {
            simulator.arrived(when).await;
            let asked = v1::CancelJobRequest { job_id: one.job.clone(), reason: String::new() };
            let reply = service.clone().cancel_job(asked).await;
            (one, reply, Instant::now())
        });
    }
    let (mut running, mut waiting) = (0, 0);
    for (one, reply, answered) in cancels.join_all().await {
        let state = match reply {
            Ok(reply) => reply.into_inner().job.ok_or("no job")?.state(),
            Err(status) if status.code() == Code::FailedPrecondition => continue,
            Err(status) => return Err(status.into()),
        };
        match state {
            State::Running => running += 1,
            State::Cancelled => waiting += 1,
            // It ended while the answer was being made.
            State::Succeeded => continue,
            other => panic!("cancelled, and then {other:?}"),
        }
        let ended = world.service.job_in(&one.job, &[State::Cancelled, State::Succeeded]).await?;
        for request in world.simulator().requests_for(one.device.device) {
            let late = (began + request.arrived).checked_duration_since(answered).unwrap_or_default();
            assert!(late <= ON_THE_WIRE, "{late:?} after the answer {state:?}: {request:?} of {ended:?}");
        }
    }
    assert!(waiting > 0 && running > 0, "{waiting} waited, {running} were claimed");
    let kept: Vec<_> = kept.into_iter().map(|(_, one)| one.clone()).collect();
    all_succeed(&world.service, &kept).await?;
    for one in &placed {
        assert!(world.simulator().counts_for(one.device.device).posts <= 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_kept_while_the_attempt_waits_for_a_token() -> Result<()> {
    let world = World::start().await?;
    world.simulator().plan(Plan::new([Fault::hold()]).on(On::Token));
    let device = some_device()?;
    let job = world.service.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    world.simulator().until(|simulator| simulator.counts().token_requests == 1).await;
    let cancelled = cancel(&world.service, &job.job_id).await?;
    assert!(matches!(cancelled.state(), State::Running | State::Cancelled), "{cancelled:?}");
    world.simulator().release();
    world.service.job_in(&job.job_id, &[State::Cancelled]).await?;
    assert_eq!(world.simulator().counts().posts, 0, "nothing was sent");
    Ok(())
}
