//! The whole way of one job: call, job, POST, snapshot.

use std::time::Duration;

use pingone_unblock::{
    proto::v1::{self, job::State},
    simulator::{self, Device, Fault, RetryAfter},
};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{
    Result,
    service::{
        DEVICE, ENVIRONMENT, USER, Variant, World, eventually, example_device, request, request_without_wait,
        some_device, wire,
    },
};

#[tokio::test]
async fn the_documented_device_is_unblocked_and_shown() -> Result<()> {
    let world = World::start().await?;
    let asked = v1::UnblockRequest {
        reason: "called back on the number on file".to_owned(),
        ticket: "INC-1".to_owned(),
        on_behalf_of: "agent 7".to_owned(),
        ..request(example_device())
    };
    let reply = world.service.unblock(asked).await?;
    let job = reply.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    assert_eq!((job.attempt_count, job.run, job.max_attempts), (1, 1, 10));
    assert_eq!(
        (job.caller.as_str(), job.reason.as_str()),
        ("anonymous", "called back on the number on file")
    );
    assert_eq!((job.ticket.as_str(), job.on_behalf_of.as_str()), ("INC-1", "agent 7"));
    let device = job.device.ok_or("no device")?;
    assert_eq!(device.block_status, "UNBLOCKED");
    assert_eq!((device.r#type.as_str(), device.phone.as_str()), ("SMS", "+14135550150"));
    assert!(device.test_mode);

    let posts = world.simulator().posts();
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0].path, format!("/v1/environments/{ENVIRONMENT}/users/{USER}/devices/{DEVICE}"));
    assert_eq!(posts[0].header("content-type"), Some("application/vnd.pingidentity.device.unblock+json"));
    assert_eq!(posts[0].header("content-length"), Some("0"));
    assert_eq!(posts[0].header("x-ping-external-transaction-id"), Some(job.job_id.as_str()));
    assert_eq!(world.simulator().deviations(), []);

    let asked = v1::GetDeviceRequest { device_ref: Some(example_device()) };
    let shown = world.service.devices.clone().get_device(asked).await?.into_inner();
    assert_eq!(shown.job_id, job.job_id);
    assert_eq!(shown.device, Some(device));
    let whole = world.service.job(&job.job_id).await?;
    assert_eq!(whole.attempts.len(), 1);
    assert_eq!(whole.attempts[0].http_status, 200);
    Ok(())
}

#[tokio::test]
async fn a_device_still_locked_is_shown_so_and_its_secrets_are_not_kept() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    world.simulator().register(
        Device::blocked(device)
            .with("type", json!("TOTP"))
            .with("lock", json!({ "status": "LOCKED", "expiresAt": "2030-01-02T03:04:05Z" }))
            .with("secret", json!("JBSWY3DPEHPK3PXP"))
            // Postgres holds no NUL: it must not cost the job, nor others saved with it.
            .with("nickname", json!("Zoë's\0phone"))
            .with("test", json!({ "otp": "918273" })),
    );
    let job = world.service.unblock(request(wire(&device))).await?.job.ok_or("no job")?;
    let shown = job.device.ok_or("no device")?;
    assert_eq!((shown.block_status.as_str(), shown.lock_status.as_str()), ("UNBLOCKED", "LOCKED"));
    assert_eq!(shown.lock_expire_time.map(|at| at.seconds), Some(1_893_553_445));

    let stored: Vec<String> = sqlx::query_scalar("select device::text from outcome")
        .fetch_all(&world.database.pool().await?)
        .await?;
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].contains("JBSWY3DPEHPK3PXP") && !stored[0].contains("918273"), "{}", stored[0]);
    Ok(())
}

#[tokio::test]
async fn a_short_deadline_gets_the_job_as_it_stands() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    world.simulator().fault(device.device, [Fault::hold()]);
    let mut asked = tonic::Request::new(request(wire(&device)));
    // Only the server knows the deadline: the client's own timer would cover up a reply that comes too late by a hair.
    asked.metadata_mut().insert("grpc-timeout", "2000m".parse()?);
    let job = world.service.devices.clone().unblock(asked).await?.into_inner().job.ok_or("no job")?;
    assert!(matches!(job.state(), State::Pending | State::Running), "{job:?}");
    world.simulator().arrived_for(device.device, 1).await;
    world.simulator().release();
    let job = world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    assert_eq!(job.attempt_count, 1);
    Ok(())
}

#[tokio::test]
async fn a_watch_shows_every_state_and_ends() -> Result<()> {
    let slow = Variant {
        limits: pingone_unblock::engine::Limits { rate: 2.0, max_in_flight: 1 },
        ..Variant::default()
    };
    let world = World::with(slow, simulator::Settings::default()).await?;
    let (first, device) = (some_device()?, some_device()?);
    world.simulator().fault(first.device, [Fault::hold()]);
    world.simulator().fault(device.device, [Fault::hold()]);
    world.service.unblock(request_without_wait(wire(&first))).await?;
    world.simulator().arrived_for(first.device, 1).await;
    // The only slot is taken: this one waits.
    let job = world.service.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Pending);
    assert!(job.waiting_for.contains("its turn"), "{}", job.waiting_for);

    let (seen, ()) = tokio::join!(world.service.watch(&job.job_id), async {
        world.simulator().release_device(first.device);
        world.simulator().arrived_for(device.device, 1).await;
        let running = world.service.job_in(&job.job_id, &[State::Running]).await;
        assert!(running.is_ok(), "{running:?}");
        world.simulator().release_device(device.device);
    });
    let seen = seen?;
    let states: Vec<State> = seen.iter().map(v1::Job::state).collect();
    assert_eq!(states, [State::Pending, State::Running, State::Succeeded]);
    assert!(seen.is_sorted_by_key(|job| job.revision));
    Ok(())
}

#[tokio::test]
async fn failures_are_tried_again_and_kept() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    world.simulator().fault(device.device, [Fault::status(503), Fault::ResetAfter]);
    let job = world.service.unblock(request(wire(&device))).await?.job.ok_or("no job")?;
    assert_eq!((job.state(), job.attempt_count), (State::Succeeded, 3));
    assert_eq!(job.error, None);
    let attempts = world.service.job(&job.job_id).await?.attempts;
    let told: Vec<(i32, bool, &str)> = attempts
        .iter()
        .map(|attempt| {
            let reason = attempt.error.as_ref().map_or("", |error| &error.reason);
            (attempt.number, attempt.read, reason)
        })
        .collect();
    // The second POST had its effect before the connection broke: the third attempt finds it by reading, and sends nothing.
    let (sent, read) = (false, true);
    let expected =
        [(1, sent, "UPSTREAM_UNAVAILABLE"), (2, read, ""), (2, sent, "UPSTREAM_TIMEOUT"), (3, read, "")];
    assert_eq!(told, expected);
    assert_eq!(world.simulator().counts_for(device.device).posts, 2);
    assert_eq!(world.simulator().counts_for(device.device).most_in_flight, 1);
    Ok(())
}

#[tokio::test]
async fn what_pingone_refuses_ends_the_job_with_its_words() -> Result<()> {
    let world =
        World::with(Variant::default(), simulator::Settings { strict: true, ..Default::default() }).await?;
    let device = some_device()?;
    let job = world.service.unblock(request(wire(&device))).await?.job.ok_or("no job")?;
    assert_eq!((job.state(), job.attempt_count), (State::Failed, 1));
    let error = job.error.ok_or("no error")?;
    assert_eq!((error.reason.as_str(), error.http_status), ("UPSTREAM_NOT_FOUND", 404));
    assert_eq!(error.pingone_code, "NOT_FOUND");
    assert!(!error.correlation_id.is_empty() && !error.pingone_id.is_empty(), "{error:?}");
    let never = v1::GetDeviceRequest { device_ref: Some(wire(&device)) };
    let refused = world.service.devices.clone().get_device(never).await.expect_err("it never succeeded");
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(reason(&refused), "DEVICE_NEVER_SEEN");
    Ok(())
}

#[tokio::test]
async fn a_rate_limit_holds_the_environment_and_costs_no_attempt() -> Result<()> {
    let world = World::start().await?;
    let (device, other) = (some_device()?, some_device()?);
    world.simulator().fault(device.device, [Fault::retry_after(429, RetryAfter::Seconds(3))]);
    let first = world.service.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    world.simulator().arrived_for(device.device, 1).await;
    let waiting = eventually("it waits as PingOne asked", async || {
        Ok(world.service.job(&first.job_id).await?.waiting_for.contains("PingOne asked to wait until"))
    });
    waiting.await?;
    // Another job of the environment waits with it.
    world.service.unblock(request_without_wait(wire(&other))).await?;

    let job = world.service.job_in(&first.job_id, &[State::Succeeded]).await?;
    assert_eq!(job.attempt_count, 1, "the limited attempt costs nothing");
    assert_eq!(job.attempts.len(), 3, "it read before it sent again");
    world.simulator().arrived_for(other.device, 1).await;
    let posts = world.simulator().posts();
    let limited = posts[0].ended.ok_or("the first never ended")?;
    for later in &posts[1..] {
        assert!(
            later.arrived - limited >= Duration::from_secs(3),
            "{:?} after the 429",
            later.arrived - limited
        );
    }
    assert_eq!(world.simulator().deviations(), []);
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_pauses_the_environment_until_it_is_right() -> Result<()> {
    let wrong = Variant { secret: "not-the-secret".to_owned(), ..Variant::default() };
    let world = World::with(wrong, simulator::Settings::default()).await?;
    let job = world.service.unblock(request_without_wait(example_device())).await?.job.ok_or("no job")?;
    let said = eventually("it says what it waits for", async || {
        Ok(world.service.job(&job.job_id).await?.waiting_for.contains("refuses the credential"))
    });
    said.await?;
    let waiting = world.service.job(&job.job_id).await?;
    assert_eq!((waiting.state(), waiting.attempt_count), (State::Pending, 0));
    assert_eq!(world.simulator().counts().posts, 0);

    world.simulator().set_secret(simulator::CLIENT_ID, "not-the-secret");
    let job = world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    assert_eq!(job.attempt_count, 1);
    // The pause is over for those that come after.
    let next = world.service.unblock(request(wire(&some_device()?))).await?.job.ok_or("no job")?;
    assert_eq!(next.state(), State::Succeeded);
    Ok(())
}

#[tokio::test]
async fn a_job_past_its_time_is_not_sent() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    world.simulator().fault(device.device, [Fault::retry_after(503, RetryAfter::Seconds(30))]);
    let asked = v1::UnblockRequest {
        time_to_live: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..request(wire(&device))
    };
    let job = world.service.unblock(asked).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Expired);
    assert_eq!(job.error.map(|error| error.reason).as_deref(), Some("UPSTREAM_UNAVAILABLE"));
    assert_eq!(world.simulator().counts_for(device.device).posts, 1);
    Ok(())
}

/// `ErrorInfo.reason` of a refusal.
pub(crate) fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
