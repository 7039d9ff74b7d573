//! Several replicas on one database: they share the lanes, any of them answers any call, and one's end is the others' work.

use std::time::Duration;

use pingone_unblock::{
    device::{DeviceRef, EnvironmentId},
    proto::v1::{self, job::State},
    simulator::{self, Fault},
    store::Role,
};
use uuid::Uuid;

use crate::harness::{
    Result,
    database::Database,
    service::{PingOne, Service, Variant, eventually, request, request_without_wait, some_device, wire},
};

async fn lanes_by_owner(database: &Database) -> Result<Vec<i64>> {
    let counts = sqlx::query_scalar(
        "select count(*) from lane join replica on replica_id = owner and lease_until > now() group by owner order by 1",
    )
    .fetch_all(&database.pool().await?)
    .await?;
    Ok(counts)
}

/// Devices of environments all over the lanes.
fn devices(n: usize) -> Result<Vec<DeviceRef>> {
    (0..n)
        .map(|_| Ok(DeviceRef { environment: EnvironmentId::from(Uuid::new_v4()), ..some_device()? }))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_and_answer_for_each_other() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let first = Service::start(database.url(), &pingone, Variant::default()).await?;
    eventually("alone, one owns all", async || Ok(lanes_by_owner(&database).await? == [256])).await?;
    let second = Service::start(database.url(), &pingone, Variant::default()).await?;
    eventually("two share", async || Ok(lanes_by_owner(&database).await? == [128, 128])).await?;

    let devices = devices(40)?;
    for (i, device) in devices.iter().enumerate() {
        let (asked, other) = if i % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let job = asked.unblock(request(wire(device))).await?.job.ok_or("no job")?;
        assert_eq!(job.state(), State::Succeeded);
        assert_eq!(other.job(&job.job_id).await?.state(), State::Succeeded);
        assert_eq!(other.watch(&job.job_id).await?.len(), 1);
    }
    assert_eq!(pingone.simulator.counts().posts, 40);

    // A cancel through the replica that does not send.
    let device = devices[0];
    pingone.simulator.fault(device.device, [Fault::Hold { then: Box::new(Fault::status(503)) }]);
    let job = first.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    pingone.simulator.arrived_for(device.device, 2).await;
    for service in [&first, &second] {
        let asked = v1::CancelJobRequest { job_id: job.job_id.clone(), reason: String::new() };
        let reply = service.jobs.clone().cancel_job(asked).await?.into_inner().job.ok_or("no job")?;
        assert_eq!(reply.state(), State::Running);
    }
    pingone.simulator.release();
    second.job_in(&job.job_id, &[State::Cancelled]).await?;

    // The end of one is the other's gain: its lanes are given up at once, not when a lease ends.
    second.stop().await?;
    let owners: i64 = sqlx::query_scalar("select count(distinct owner) from lane")
        .fetch_one(&database.pool().await?)
        .await?;
    assert_eq!(owners, 1);
    eventually("one owns all again", async || Ok(lanes_by_owner(&database).await? == [256])).await?;
    for device in &devices {
        let job = first.unblock(request(wire(device))).await?.job.ok_or("no job")?;
        assert_eq!(job.state(), State::Succeeded);
    }
    first.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answers_while_another_sends() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let api =
        Service::start(database.url(), &pingone, Variant { role: Role::Api, ..Variant::default() }).await?;
    let device = some_device()?;
    let job = api.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    let job = api.job(&job.job_id).await?;
    assert_eq!(job.state(), State::Pending);
    assert!(job.waiting_for.contains("no live replica"), "{}", job.waiting_for);

    let worker =
        Service::start(database.url(), &pingone, Variant { role: Role::Worker, ..Variant::default() })
            .await?;
    api.job_in(&job.job_id, &[State::Succeeded]).await?;
    let job = api.unblock(request(wire(&some_device()?))).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    worker.stop().await?;
    api.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_hear_no_hints_find_everything_by_themselves() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let deaf = |role| Variant { role, deaf: true, ..Variant::default() };
    let api = Service::start(database.url(), &pingone, deaf(Role::Api)).await?;
    let worker = Service::start(database.url(), &pingone, deaf(Role::Worker)).await?;
    for _ in 0..3 {
        let job = api.unblock(request(wire(&some_device()?))).await?.job.ok_or("no job")?;
        assert_eq!(job.state(), State::Succeeded);
    }
    let device = some_device()?;
    pingone.simulator.fault(device.device, [Fault::hold()]);
    let job = api.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    let (seen, ()) = tokio::join!(api.watch(&job.job_id), async {
        pingone.simulator.arrived_for(device.device, 1).await;
        pingone.simulator.release();
    });
    assert_eq!(seen?.last().map(v1::Job::state), Some(State::Succeeded));
    worker.stop().await?;
    api.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_runs_and_loses_nothing() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let service = Service::start(database.url(), &pingone, Variant::default()).await?;
    let devices = devices(50)?;
    let mut jobs = Vec::new();
    for device in &devices {
        pingone.simulator.fault(device.device, [Fault::slow(Duration::from_millis(700))]);
        jobs.push(service.unblock(request_without_wait(wire(device))).await?.job.ok_or("no job")?);
    }
    pingone.simulator.arrived(10).await;
    service.stop().await?;
    let unleased: i64 =
        sqlx::query_scalar("select count(*) from ready where lane >= 0 and lease_until > now()")
            .fetch_one(&database.pool().await?)
            .await?;
    assert_eq!(unleased, 0, "what was not finished was handed back");

    let next = Service::start(database.url(), &pingone, Variant::default()).await?;
    for job in &jobs {
        next.job_in(&job.job_id, &[State::Succeeded]).await?;
    }
    for device in &devices {
        assert_eq!(pingone.simulator.counts_for(device.device).posts, 1, "no POST is repeated");
    }
    next.stop().await
}
