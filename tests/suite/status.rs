//! `status` of a real service: whose problem it says it is.

use std::time::Duration;

use pingone_unblock::{
    proto::v1::{PauseEnvironmentRequest, ResumeEnvironmentRequest},
    simulator::{self, Fault, On, Plan},
};
use serde_json::Value;

use crate::harness::{
    Result,
    cluster::OwnCluster,
    process::command,
    service::{
        ENVIRONMENT, PingOne, Service, Variant, World, eventually, example_device, request,
        request_without_wait, some_device, wire,
    },
};

/// What it says, and how it ends.
async fn status(service: &Service) -> Result<(Option<i32>, Value)> {
    let url = format!("http://{}", service.address);
    let mut status = command(&["status", "--output", "json", "--server", &url]);
    let output = tokio::task::spawn_blocking(move || status.output()).await??;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code(), serde_json::from_str(&told).map_err(|error| format!("{error}: {output:?}"))?))
}

async fn comes_to(service: &Service, cause: &str, code: i32) -> Result<Value> {
    let mut last = (None, Value::Null);
    let reached = eventually(cause, async || {
        last = status(service).await?;
        Ok(last.1["verdict"]["cause"] == cause)
    });
    reached.await.map_err(|error| format!("{error}: {last:?}"))?;
    assert_eq!(last.0, Some(code), "{last:?}");
    Ok(last.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_an_outage_of_pingone_are_told_apart_until_all_is_well() -> Result<()> {
    let world = World::start().await?;
    let service = &world.service;
    service.unblock(request(example_device())).await?;
    let well = comes_to(service, "WELL", 0).await?;
    assert_eq!((&well["service"]["replicas"], &well["pingone"]["sending"]), (&1.into(), &1.into()), "{well}");

    let pause =
        PauseEnvironmentRequest { environment_id: ENVIRONMENT.to_owned(), reason: "a drill".to_owned() };
    service.environments.clone().pause_environment(pause).await?;
    let paused = comes_to(service, "PAUSED", 0).await?;
    assert!(
        paused["verdict"]["sentence"].as_str().is_some_and(|said| said.ends_with(": a drill")),
        "{paused}"
    );
    let resume = ResumeEnvironmentRequest { environment_id: ENVIRONMENT.to_owned(), ..Default::default() };
    service.environments.clone().resume_environment(resume).await?;
    comes_to(service, "WELL", 0).await?;

    world.simulator().plan(Plan::new([Fault::status(503)]).on(On::Any).until_cleared());
    for _ in 0..10 {
        service.unblock(request_without_wait(wire(&some_device()?))).await?;
    }
    let down = comes_to(service, "PINGONE_UNREACHABLE", 1).await?;
    assert_eq!((&down["verdict"]["whose"], &down["pingone"]["unreachable"]), (&"PINGONE".into(), &1.into()));
    // Figures are published once a second.
    eventually("what waits is told", async || {
        Ok(status(service).await?.1["queue"]["pendingInteractive"].as_i64() > Some(0))
    })
    .await?;
    world.simulator().clear_faults();
    comes_to(service, "WELL", 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_told_as_pingones_refusal() -> Result<()> {
    let variant = Variant { secret: "not-the-secret".to_owned(), ..Variant::default() };
    let world = World::with(variant, simulator::Settings::default()).await?;
    world.service.unblock(request_without_wait(example_device())).await?;
    let told = comes_to(&world.service, "CREDENTIAL_REFUSED", 1).await?;
    let sentence = told["verdict"]["sentence"].as_str().unwrap_or_default();
    assert!(sentence.starts_with("PingOne refuses the credential of 1 environment"), "{sentence}");
    assert!(!told.to_string().contains("not-the-secret"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_postgres_is_told_and_so_is_a_server_that_has_ended() -> Result<()> {
    let mut cluster = OwnCluster::start().await?;
    let url = cluster.running().ok_or("it runs")?.url("postgres");
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let service = Service::start(&url, &pingone, Variant::default()).await?;
    service.unblock(request(example_device())).await?;
    comes_to(&service, "WELL", 0).await?;
    cluster.stop().await?;
    let told = comes_to(&service, "POSTGRES_UNAVAILABLE", 1).await?;
    assert_eq!(told["verdict"]["whose"], "POSTGRES", "{told}");
    cluster.restart().await?;
    comes_to(&service, "WELL", 0).await?;
    let address = service.address;
    service.stop().await?;
    let url = format!("http://{address}");
    let mut status = command(&["status", "--server", &url, "--timeout", "2s"]);
    let ended = tokio::task::spawn_blocking(move || status.output());
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), ended).await???.status.code(), Some(3));
    Ok(())
}
