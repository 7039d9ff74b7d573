//! From the call to the durable result the caller sees.

use anyhow::Result;

use crate::{
    goal::Goal,
    load::{Call, Pace, Spec},
    names,
    outcome::{Detail, Outcome},
    pingone::Behaviour,
    service::Limits,
    stage::{Bench, Stage},
    wal,
};

/// 64 callers, each waiting for its result before the next call.
pub(super) async fn throughput(bench: &Bench) -> Result<Outcome> {
    let mut stage = Stage::set(bench, Behaviour::default(), Limits::unlimited(256)).await?;
    stage.enter().await?;
    let warm = stage.load(callers(&stage, 5_000, 2.0)).await?;
    bench.server.checkpoint().await?;
    let (before, from) = (stage.cpu()?, stage.database.wal_position().await?);
    let spec = callers(&stage, 1_000_000, bench.full_or_quick(10.0, 3.0));
    let report = stage.load(spec).await?;
    let (after, to) = (stage.cpu()?, stage.database.wal_position().await?);
    stage.all_done(warm.answered + report.answered).await?;
    let bytes = wal::bytes(&bench.server, &from, &to).await?;
    stage.strike().await?;
    let detail = Detail::new("end to end, 64 callers", report.answered, report.seconds)
        .used(before, after, report.cpu_seconds)
        .answered(report.latency);
    Ok(Outcome::default()
        .with(Goal::EndToEnd, report.per_second())
        .with(Goal::Cpu, detail.per_thousand(detail.service + detail.postgres))
        .with(Goal::Wal, bytes / 1_000.0 / report.answered as f64)
        .detailed(detail))
}

/// 100 calls a second, whether or not earlier ones were answered.
pub(super) async fn latency(bench: &Bench) -> Result<Outcome> {
    let mut stage = Stage::set(bench, Behaviour::default(), Limits::unlimited(256)).await?;
    stage.enter().await?;
    let warm = stage.load(spec(&stage, Pace::Rate(100.0), 300, 3.0)).await?;
    let before = stage.cpu()?;
    let report = stage.load(spec(&stage, Pace::Rate(100.0), 6_000, bench.full_or_quick(30.0, 5.0))).await?;
    let after = stage.cpu()?;
    stage.all_done(warm.answered + report.answered).await?;
    stage.strike().await?;
    let detail = Detail::new("latency at 100/s", report.answered, report.seconds)
        .used(before, after, report.cpu_seconds)
        .answered(report.latency);
    Ok(Outcome::default()
        .with(Goal::LatencyP50, report.latency.p50)
        .with(Goal::LatencyP99, report.latency.p99)
        .detailed(detail))
}

/// 64 callers, for so many calls or seconds, whichever ends first.
pub(super) fn callers(stage: &Stage<'_>, calls: u64, seconds: f64) -> Spec {
    spec(stage, Pace::Callers(64), calls, seconds)
}

fn spec(stage: &Stage<'_>, pace: Pace, calls: u64, seconds: f64) -> Spec {
    let call =
        Call::Unblock { environment: names::environment(0), user: names::user(), bulk: false, wait: true };
    Spec { servers: stage.servers(), connections: 4, call, pace, calls, seconds }
}
