//! Real signals to a real process.

use std::time::{Duration, Instant};

use pingone_unblock::{
    device::DeviceRef,
    proto::v1::job::State,
    simulator::{self, Fault},
};
use rustix::process::Signal;

use crate::harness::{
    Result,
    database::Database,
    process::Process,
    service::{PingOne, eventually, request_without_wait, some_device, wire},
};

const JOBS: u64 = 50;

/// Fifty jobs whose POSTs are all in flight.
async fn fifty_in_flight(
    process: &Process,
    pingone: &PingOne,
    fault: Fault,
) -> Result<Vec<(DeviceRef, String)>> {
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        let device = some_device()?;
        pingone.simulator.fault(device.device, [fault.clone()]);
        let reply = process.devices()?.unblock(request_without_wait(wire(&device))).await?.into_inner();
        jobs.push((device, reply.job.ok_or("no job")?.job_id));
    }
    pingone.simulator.arrived(JOBS).await;
    Ok(jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_and_sends_nothing_twice_at_once() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let process = Process::serve(database.url(), &pingone).await?;
    let jobs = fifty_in_flight(&process, &pingone, Fault::hold()).await?;
    process.signal(Signal::KILL)?;
    process.end().await?;

    let since = Instant::now();
    let next = Process::serve(database.url(), &pingone).await?;
    for (_, job) in &jobs {
        eventually("the job succeeds", async || Ok(next.job(job).await?.state() == State::Succeeded)).await?;
    }
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    for (device, job) in &jobs {
        let counts = pingone.simulator.counts_for(device.device);
        assert_eq!((counts.posts, counts.most_in_flight), (2, 1), "{job}");
        let whole = next.job(job).await?;
        let reasons: Vec<String> =
            whole.attempts.iter().map(|attempt| attempt.error.clone().unwrap_or_default().reason).collect();
        assert_eq!(
            reasons,
            ["UPSTREAM_TIMEOUT", "", ""],
            "the lost attempt is told, then a read, then the unblock"
        );
    }
    let ended = pingone.simulator.counts().posts;
    next.signal(Signal::TERM)?;
    assert!(next.end().await?.success());
    assert_eq!(pingone.simulator.counts().posts, ended, "nothing is sent after its end");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_process_finishes_what_it_sent() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let process = Process::serve(database.url(), &pingone).await?;
    let jobs = fifty_in_flight(&process, &pingone, Fault::hold()).await?;
    process.signal(Signal::TERM)?;
    eventually("it takes nothing new", async || {
        let asked = request_without_wait(wire(&some_device()?));
        Ok(process.devices()?.unblock(asked).await.is_err())
    })
    .await?;
    pingone.simulator.release();
    assert!(process.end().await?.success());

    let states: Vec<i16> =
        sqlx::query_scalar("select state from outcome").fetch_all(&database.pool().await?).await?;
    assert!(states.iter().filter(|state| **state == 3).count() >= jobs.len());
    for (device, _) in &jobs {
        assert_eq!(pingone.simulator.counts_for(device.device).posts, 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let process = Process::serve(database.url(), &pingone).await?;
    let device = some_device()?;
    pingone.simulator.fault(device.device, [Fault::hold()]);
    process.devices()?.unblock(request_without_wait(wire(&device))).await?;
    pingone.simulator.arrived(1).await;
    process.signal(Signal::TERM)?;
    eventually("it drains", async || {
        let asked = request_without_wait(wire(&some_device()?));
        Ok(process.devices()?.unblock(asked).await.is_err())
    })
    .await?;
    let since = Instant::now();
    process.signal(Signal::TERM)?;
    assert!(!process.end().await?.success());
    assert!(since.elapsed() < Duration::from_secs(5), "it did not wait for the attempt");
    Ok(())
}
