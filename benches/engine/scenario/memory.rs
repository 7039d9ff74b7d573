//! A million jobs wait.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::{
    arguments::Role,
    child,
    goal::Goal,
    load::{Call, Pace, Report, Spec},
    names,
    outcome::Outcome,
    pingone::Behaviour,
    service::Limits,
    stage::{Bench, Stage},
};

const QUEUED: u32 = 1_000_000;
const ENVIRONMENTS: u32 = 4;
const LIST: &str = "/pingone.device.v1.EnvironmentService/ListEnvironments";
/// The gRPC code of a method that is not there.
const UNIMPLEMENTED: u16 = 12;
/// A start that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Memory at work, and how soon a restarted service sends again.
pub(super) async fn a_million(bench: &Bench) -> Result<Outcome> {
    let behaviour = Behaviour { latency: Duration::from_millis(50), ..Behaviour::default() };
    let mut stage = Stage::set(bench, behaviour, Limits::rate(200)).await?;
    let queued = bench.full_or_quick(QUEUED, QUEUED / 10);
    for number in 0..ENVIRONMENTS {
        let environment = names::environment(u64::from(number));
        stage.database.fill(environment, names::user(), queued / ENVIRONMENTS).await?;
    }
    stage.database.settle().await?;
    stage.enter().await?;
    tokio::time::sleep(Duration::from_secs(bench.full_or_quick(30, 5))).await;
    let first = stage.replicas.pop().context("no replica")?;
    let memory = first.peak_memory()?;
    first.stop().await?;

    let sent = stage.pingone.counts().await?.posts;
    let begun = Instant::now();
    stage.enter().await?;
    while stage.pingone.counts().await?.posts == sent {
        ensure!(begun.elapsed() < PATIENCE, "nothing is sent after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let restart = begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let list = list(&stage).await?;
    let memory = stage
        .replicas
        .iter()
        .try_fold(memory, |most, replica| anyhow::Ok(most.max(replica.peak_memory()?)))?;
    stage.none_lost(u64::from(queued)).await?;
    stage.strike().await?;
    let outcome = Outcome::default().with(Goal::Memory, memory).with(Goal::Restart, restart);
    Ok(match list {
        Some(millis) => outcome.with(Goal::List, millis),
        None => outcome.without(Goal::List, "not there yet"),
    })
}

async fn list(stage: &Stage<'_>) -> Result<Option<f64>> {
    let spec = Spec {
        servers: stage.servers(),
        connections: 1,
        call: Call::Empty(LIST.to_owned()),
        pace: Pace::Callers(1),
        calls: 100,
        seconds: 30.0,
    };
    let report: Report = child::report(&Role::Load(spec)).await?;
    if report.refused.contains_key(&UNIMPLEMENTED) {
        return Ok(None);
    }
    ensure!(report.refused.is_empty(), "ListEnvironments was refused: {:?}", report.refused);
    Ok(Some(report.latency.p99))
}
