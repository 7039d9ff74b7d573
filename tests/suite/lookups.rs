//! A job that lists a user's devices is a job like any other: limits, holds, deadlines, cancellation, new attempts.

use std::time::{Duration, Instant};

use pingone_unblock::{
    device::EnvironmentId,
    engine::Limits,
    proto::v1::{self, job::State},
    simulator::{self, Fault, On, Plan, RetryAfter},
    store::Role,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    harness::{
        Result,
        database::Database,
        service::{
            ENVIRONMENT, PingOne, Service, USER, Variant, World, eventually, request, some_device, wire,
        },
    },
    unblock::reason,
    user_devices::{asked, list, lookups},
};

/// Refused, and only the server knows the deadline: the client's own timer would cover up a reply that comes too late.
async fn refused_within(world: &World, user: &str, deadline: &str) -> Result<(Status, Duration)> {
    let mut request = tonic::Request::new(asked(user));
    request.metadata_mut().insert("grpc-timeout", deadline.parse()?);
    let began = Instant::now();
    let answer = world.service.devices.clone().list_user_devices(request).await;
    Ok((answer.err().ok_or("it was answered")?, began.elapsed()))
}

fn limited(rate: f64, max_in_flight: u32) -> Variant {
    Variant { limits: Limits { rate, max_in_flight }, ..Variant::default() }
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_and_costs_no_attempt() -> Result<()> {
    let world = World::start().await?;
    world.simulator().plan(Plan::new([Fault::retry_after(429, RetryAfter::Seconds(1))]).on(On::Get));
    let began = Instant::now();
    assert_eq!(list(&world, USER).await?.len(), 1);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let job = lookups(&world).await?.pop().ok_or("no job")?;
    assert_eq!(job.attempt_count, 1, "the limited attempt costs nothing");
    // A list is never read before it is read.
    assert_eq!(world.simulator().counts().reads, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_keep_within_the_rate_of_their_environment() -> Result<()> {
    let allowing = simulator::Settings { rate_limit: Some(20 + 1), ..simulator::Settings::default() };
    let world = World::with(limited(20.0, 8), allowing).await?;
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..50 {
        let mut devices = world.service.devices.clone();
        let device = some_device()?;
        asking.spawn(async move {
            match number % 2 {
                0 => devices.list_user_devices(asked(&device.user.to_string())).await.map(drop),
                _ => devices.unblock(request(wire(&device))).await.map(drop),
            }
        });
    }
    while let Some(answered) = asking.join_next().await {
        answered??;
    }
    let counts = world.simulator().counts();
    assert_eq!((counts.reads, counts.posts, counts.limited), (25, 25, 0));
    let environment = EnvironmentId::parse(ENVIRONMENT)?;
    let busiest = world.simulator().busiest(Duration::from_millis(970), Some(environment));
    assert!(busiest <= 20, "{busiest} in a second");
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_is_said_so_in_time() -> Result<()> {
    let wrong = Variant { secret: "not-the-secret".to_owned(), ..Variant::default() };
    let world = World::with(wrong, simulator::Settings::default()).await?;
    let (refused, took) = refused_within(&world, USER, "1S").await?;
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unavailable, "UPSTREAM_CREDENTIAL_REFUSED")
    );
    assert!(refused.get_error_details().retry_info().is_some());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(world.simulator().counts().reads, 0);
    // Another call meets the environment as it is held.
    let (refused, _) = refused_within(&world, USER, "500m").await?;
    assert_eq!(reason(&refused), "UPSTREAM_CREDENTIAL_REFUSED");
    Ok(())
}

#[tokio::test]
async fn pingone_that_is_down_is_said_so_in_time_and_asked_no_more_after_it() -> Result<()> {
    let world = World::start().await?;
    world.simulator().plan(Plan::new([Fault::status(503)]).on(On::Get).until_cleared());
    let (refused, took) = refused_within(&world, USER, "1S").await?;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"));
    assert!(refused.get_error_details().retry_info().is_some());
    assert!(took < Duration::from_secs(1), "{took:?}");
    let job = lookups(&world).await?.pop().ok_or("no job")?;
    let job = world.service.job_in(&job.job_id, &[State::Expired]).await?;
    let lived = job.expire_time.zip(job.create_time).map(|(end, begin)| {
        (end.seconds - begin.seconds) * 1000 + i64::from((end.nanos - begin.nanos) / 1_000_000)
    });
    assert!(lived.is_some_and(|lived| lived <= 1000), "{lived:?} ms: the caller has given up by then");
    Ok(())
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_as_that_and_what_was_waited_for() -> Result<()> {
    let world = World::with(limited(1000.0, 1), simulator::Settings::default()).await?;
    world.simulator().plan(Plan::new([Fault::hold()]).on(On::Get));
    let (refused, took) = refused_within(&world, USER, "600m").await?;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::DeadlineExceeded, "DEADLINE_PASSED"));
    assert!(took < Duration::from_millis(600), "{took:?}");
    // The only slot is taken.
    let (refused, _) = refused_within(&world, USER, "600m").await?;
    assert_eq!(reason(&refused), "DEADLINE_PASSED");
    assert!(refused.message().contains("its turn"), "{}", refused.message());
    world.simulator().release();
    world.simulator().idle().await;
    assert_eq!(list(&world, USER).await?.len(), 1);
    assert_eq!(world.simulator().counts().reads, 2, "the one that came too late was not sent");
    Ok(())
}

#[tokio::test]
async fn a_lookup_is_cancelled_and_given_new_attempts_as_any_job() -> Result<()> {
    let world = World::start().await?;
    world.simulator().plan(Plan::new([Fault::status(400)]).on(On::Get));
    let refused = list(&world, USER).await.expect_err("PingOne refuses it");
    assert_eq!(reason(&refused), "UPSTREAM_REJECTED");
    let job = lookups(&world).await?.pop().ok_or("no job")?;
    let mut jobs = world.service.jobs.clone();
    jobs.retry_job(v1::RetryJobRequest { job_id: job.job_id.clone(), ..Default::default() }).await?;
    let job = world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    assert_eq!((job.run, job.device), (2, None));

    world.simulator().plan(Plan::new([Fault::retry_after(503, RetryAfter::Seconds(20))]).on(On::Get));
    let (answered, ()) = tokio::join!(list(&world, USER), async {
        let waiting = eventually("it waits for its second attempt", async || {
            let jobs = lookups(&world).await?;
            Ok(jobs.iter().any(|job| job.state() == State::Pending && job.attempt_count == 1))
        });
        assert!(waiting.await.is_ok());
        let pending = lookups(&world).await.into_iter().flatten().find(|job| job.state() == State::Pending);
        let id = pending.map(|job| job.job_id).unwrap_or_default();
        let cancel = v1::CancelJobRequest { job_id: id, reason: String::new() };
        assert!(world.service.jobs.clone().cancel_job(cancel).await.is_ok());
    });
    let refused = answered.expect_err("it was cancelled");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "JOB_STATE_CONFLICT"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_is_asked_and_another_asks_pingone() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    // Behind a pooler nobody hears a notification: polling finds the job, and its end.
    for deaf in [false, true] {
        let role = |role| Variant { role, deaf, ..Variant::default() };
        let api = Service::start(database.url(), &pingone, role(Role::Api)).await?;
        let worker = Service::start(database.url(), &pingone, role(Role::Worker)).await?;
        let devices = api.devices.clone().list_user_devices(asked(USER)).await?.into_inner().devices;
        assert_eq!(devices.len(), 1);
        worker.stop().await?;
        api.stop().await?;
    }
    assert_eq!(pingone.simulator.counts().reads, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_sends_its_callers_to_another() -> Result<()> {
    let World { service, pingone, database: _database } = World::start().await?;
    pingone.simulator.plan(Plan::new([Fault::hold()]).on(On::Get));
    let mut devices = service.devices.clone();
    let asking = tokio::spawn(async move { devices.list_user_devices(asked(USER)).await });
    pingone.simulator.until(|simulator| simulator.counts().reads == 1).await;
    let stopping = tokio::spawn(service.stop());
    let refused = asking.await?.expect_err("it stops");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "DRAINING"));
    pingone.simulator.release();
    stopping.await?
}
