//! A person's call while an import of the same environment waits.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{
    goal::Goal,
    latency::Latencies,
    load::{Call, Pace, Spec},
    names,
    outcome::{Detail, Outcome},
    pingone::Behaviour,
    service::Limits,
    stage::{Bench, Stage},
};

const QUEUED: u32 = 100_000;

/// Until the POST arrives at PingOne: without a rate limit, and with one.
pub(super) async fn behind_bulk(bench: &Bench) -> Result<Outcome> {
    // 100 in flight, 50 ms each: the backlog lasts for the whole measurement.
    let busy = Behaviour { latency: Duration::from_millis(50), ..Behaviour::default() };
    let free = time_to_post(bench, "interactive, no rate limit", busy, Limits::unlimited(100), 10.0).await?;
    // No divisor of the token's interval: the calls meet it at every phase.
    let limited =
        time_to_post(bench, "interactive, 20/s", Behaviour::default(), Limits::rate(20), 3.3).await?;
    let p99 = |detail: &Detail| detail.latency.map(|latency| latency.p99).context("no latency");
    Ok(Outcome::default()
        .with(Goal::InteractiveFree, p99(&free)?)
        .with(Goal::InteractiveLimited, p99(&limited)?)
        .detailed(free)
        .detailed(limited))
}

async fn time_to_post(
    bench: &Bench,
    what: &str,
    behaviour: Behaviour,
    limits: Limits,
    rate: f64,
) -> Result<Detail> {
    let mut stage = Stage::set(bench, behaviour, limits).await?;
    stage.database.pause().await?;
    stage.enter().await?;
    stage.database.fill(names::environment(0), names::user(), QUEUED).await?;
    stage.database.settle().await?;
    stage.pingone.watch(names::watched_user()).await?;
    stage.database.resume().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let user = names::watched_user();
    let calls = bench.full_or_quick(200, 40);
    let report = stage
        .load(Spec {
            servers: stage.servers(),
            connections: 1,
            call: Call::Unblock { environment: names::environment(0), user, bulk: false, wait: true },
            pace: Pace::Rate(rate),
            calls,
            seconds: 600.0,
        })
        .await?;
    let arrivals = stage.pingone.arrivals().await?;
    let mut latencies = Latencies::new()?;
    for (device, due) in &report.due {
        let arrived = arrivals.get(device).context("a call without a POST")?;
        latencies.add(Duration::from_micros(arrived.saturating_sub(*due)));
    }
    stage.none_lost(u64::from(QUEUED) + report.answered).await?;
    stage.strike().await?;
    Ok(Detail::new(what, report.answered, report.seconds).answered(latencies.summary()))
}
