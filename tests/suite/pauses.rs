//! Pauses of one environment and of everything: told, kept and taken back.

use pingone_unblock::{
    device::{DeviceRef, EnvironmentId},
    job::{Actor, Caller},
    proto::v1::{self, environment::State, job},
    simulator::{self, Fault},
    store::Role,
};
use tonic::Code;
use uuid::Uuid;

use crate::{
    environments::list,
    harness::{
        Result,
        database::Database,
        service::{ENVIRONMENT, Service, Variant, World, request, request_without_wait, some_device, wire},
    },
    unblock::reason,
};

/// Pauses one, or everything.
async fn pause(service: &Service, id: &str, reason: &str) -> Result<v1::Environment, tonic::Status> {
    let asked = v1::PauseEnvironmentRequest { environment_id: id.to_owned(), reason: reason.to_owned() };
    let reply = service.environments.clone().pause_environment(asked).await?.into_inner();
    Ok(reply.environment.unwrap_or_default())
}

/// Resumes one, or everything.
async fn resume(service: &Service, id: &str) -> Result<v1::Environment, tonic::Status> {
    let asked =
        v1::ResumeEnvironmentRequest { environment_id: id.to_owned(), reason: "it is over".to_owned() };
    let reply = service.environments.clone().resume_environment(asked).await?.into_inner();
    Ok(reply.environment.unwrap_or_default())
}

#[tokio::test]
async fn a_pause_is_told_with_who_and_why_until_it_is_taken_back() -> Result<()> {
    let world = World::start().await?;
    for _ in 0..2 {
        let paused = pause(&world.service, ENVIRONMENT, "a change of roles").await?;
        assert_eq!((paused.state(), paused.environment_id.as_str()), (State::Paused, ENVIRONMENT));
        assert!(paused.state_reason.starts_with("paused by anonymous since "), "{}", paused.state_reason);
        assert!(paused.state_reason.ends_with(": a change of roles"), "{}", paused.state_reason);
        assert_eq!(paused.resume_time, None);
    }
    let listed = list(&world.service).await?;
    assert_eq!((listed.environments[0].state(), listed.all_paused), (State::Paused, false));
    for _ in 0..2 {
        let resumed = resume(&world.service, ENVIRONMENT).await?;
        assert_eq!((resumed.state(), resumed.state_reason.as_str()), (State::Sending, ""));
    }
    let nobody_knows = Uuid::new_v4().to_string();
    assert_eq!(resume(&world.service, &nobody_knows).await?.state(), State::Sending);
    Ok(())
}

fn named(caller: &str) -> Result<Actor> {
    let caller = Caller::named(caller).ok_or("no name")?;
    Ok(Actor { caller, ..Actor::anonymous() })
}

#[tokio::test]
async fn a_second_pause_keeps_the_first_ones_time_unless_its_reason_differs() -> Result<()> {
    let database = Database::create().await?;
    let (store, id) = (database.store()?, EnvironmentId::parse(ENVIRONMENT)?);
    let in_force = async || -> Result<_> {
        let pauses = store.find_pauses(&[id.lane()]).await?;
        Ok((pauses.environments.first().map(|(_, pause)| pause.clone()), pauses.everything))
    };
    store.pause_environment(id, &named("first")?, "one").await?;
    store.pause_everything(&named("first")?, "one").await?;
    let before = in_force().await?;
    assert!(before.0.is_some() && before.1.is_some());
    store.pause_environment(id, &named("second")?, "one").await?;
    store.pause_everything(&named("second")?, "one").await?;
    assert_eq!(in_force().await?, before);
    store.pause_environment(id, &named("second")?, "two").await?;
    store.pause_everything(&named("second")?, "two").await?;
    let (own, all) = in_force().await?;
    for (pause, before) in [(own, before.0), (all, before.1)] {
        let (pause, before) = (pause.ok_or("no pause")?, before.ok_or("no pause")?);
        assert_eq!((pause.by.as_str(), pause.reason.as_str()), ("second", "two"));
        assert!(pause.at > before.at);
    }
    store.resume_everything(&named("third")?, "").await?;
    assert!(store.find_pauses(&[id.lane()]).await?.of(id).is_some(), "each pause ends by itself");
    store.resume_environment(id, &named("third")?, "").await?;
    assert_eq!(in_force().await?, (None, None));
    Ok(())
}

#[tokio::test]
async fn the_emergency_stop_holds_everything_whatever_is_served() -> Result<()> {
    let only = EnvironmentId::parse(ENVIRONMENT)?;
    let world =
        World::with(Variant { only: Some(only), ..Variant::default() }, simulator::Settings::default())
            .await?;
    let elsewhere = Uuid::new_v4().to_string();
    for refused in
        [pause(&world.service, &elsewhere, "").await.err(), resume(&world.service, &elsewhere).await.err()]
    {
        let refused = refused.ok_or("that environment is not served")?;
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "ENVIRONMENT_NOT_SERVED")
        );
    }
    let all = pause(&world.service, "", "breach").await?;
    assert_eq!((all.state(), all.environment_id.as_str()), (State::Paused, ""));
    let listed = list(&world.service).await?;
    assert!(listed.all_paused);
    assert!(
        listed.all_paused_reason.starts_with("everything is paused by anonymous since ")
            && listed.all_paused_reason.ends_with(": breach"),
        "{}",
        listed.all_paused_reason
    );
    let environment = &listed.environments[0];
    assert_eq!(environment.state(), State::Paused);
    assert_eq!(environment.state_reason, listed.all_paused_reason);
    assert_eq!(resume(&world.service, ENVIRONMENT).await?.state(), State::Paused, "that resumes one only");
    let all = resume(&world.service, "").await?;
    assert_eq!((all.state(), all.state_reason.as_str()), (State::Sending, ""));
    assert!(!list(&world.service).await?.all_paused);
    Ok(())
}

#[tokio::test]
async fn a_held_start_pauses_everything_and_shows_what_is_configured() -> Result<()> {
    let only = EnvironmentId::parse(ENVIRONMENT)?;
    let held = Variant { hold: true, only: Some(only), ..Variant::default() };
    let world = World::with(held, simulator::Settings::default()).await?;
    let listed = list(&world.service).await?;
    assert!(listed.all_paused);
    assert!(
        listed.all_paused_reason.starts_with("everything is paused by serve --hold since "),
        "{}",
        listed.all_paused_reason
    );
    let ids: Vec<_> = listed.environments.iter().map(|e| e.environment_id.as_str()).collect();
    assert_eq!(ids, [ENVIRONMENT], "it has had no job yet");
    assert_eq!(resume(&world.service, "").await?.state(), State::Sending);
    Ok(())
}

/// A job that waits for a second at most: once it is EXPIRED, whoever sends has looked at what there is.
async fn short_lived(service: &Service, device: &DeviceRef) -> Result<String> {
    let time_to_live = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let asked = v1::UnblockRequest { time_to_live, ..request_without_wait(wire(device)) };
    Ok(service.unblock(asked).await?.job.ok_or("no job")?.job_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_more_is_sent_to_a_paused_environment_and_others_go_on() -> Result<()> {
    let world = World::start().await?;
    let (running, waiting, expiring) = (some_device()?, some_device()?, some_device()?);
    world.simulator().fault(running.device, [Fault::hold()]);
    let in_flight = world.service.unblock(request_without_wait(wire(&running))).await?.job.ok_or("no job")?;
    world.simulator().arrived_for(running.device, 1).await;
    pause(&world.service, ENVIRONMENT, "a change of roles").await?;

    let job = world.service.unblock(request_without_wait(wire(&waiting))).await?.job.ok_or("no job")?;
    let short = short_lived(&world.service, &expiring).await?;
    let elsewhere = DeviceRef { environment: EnvironmentId::from(Uuid::new_v4()), ..some_device()? };
    let other = world.service.unblock(request(wire(&elsewhere))).await?.job.ok_or("no job")?;
    assert_eq!(other.state(), job::State::Succeeded);
    world.simulator().release();
    world.service.job_in(&in_flight.job_id, &[job::State::Succeeded]).await?;

    world.service.job_in(&short, &[job::State::Expired]).await?;
    let waits = world.service.job(&job.job_id).await?;
    assert_eq!(waits.state(), job::State::Pending);
    assert!(waits.waiting_for.contains("paused"), "{}", waits.waiting_for);
    for device in [&waiting, &expiring] {
        assert_eq!(world.simulator().counts_for(device.device).posts, 0);
    }
    resume(&world.service, ENVIRONMENT).await?;
    world.service.job_in(&job.job_id, &[job::State::Succeeded]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_start_sends_nothing_of_what_waits_until_everything_is_resumed() -> Result<()> {
    let api = Variant { role: Role::Api, ..Variant::default() };
    let world = World::with(api, simulator::Settings::default()).await?;
    let old =
        world.service.unblock(request_without_wait(wire(&some_device()?))).await?.job.ok_or("no job")?;

    let held = Variant { hold: true, ..Variant::default() };
    let service = Service::start(world.database.url(), &world.pingone, held).await?;
    let unseen = DeviceRef { environment: EnvironmentId::from(Uuid::new_v4()), ..some_device()? };
    for device in [some_device()?, unseen] {
        let short = short_lived(&service, &device).await?;
        service.job_in(&short, &[job::State::Expired]).await?;
    }
    assert_eq!(service.job(&old.job_id).await?.state(), job::State::Pending);
    assert_eq!(world.simulator().counts().posts, 0);

    // Through a replica that does not send.
    resume(&world.service, "").await?;
    service.job_in(&old.job_id, &[job::State::Succeeded]).await?;
    assert_eq!(world.simulator().counts().posts, 1);
    service.stop().await
}
