//! Recording jobs, nothing sent.

use anyhow::Result;

use crate::{
    goal::Goal,
    load::{Call, Pace, Spec},
    names,
    outcome::{Detail, Outcome},
    pingone::Behaviour,
    service::Limits,
    stage::{Bench, Stage},
};

/// 64 callers, each with one job at a time.
pub(super) async fn single(bench: &Bench) -> Result<Outcome> {
    submit(bench, "submit, 64 callers", Goal::Submit, false, 64).await
}

/// A thousand at once.
pub(super) async fn bulk(bench: &Bench) -> Result<Outcome> {
    submit(bench, "bulk submit, 1,000 at once", Goal::Bulk, true, 1_000).await
}

async fn submit(bench: &Bench, what: &str, goal: Goal, bulk: bool, callers: u64) -> Result<Outcome> {
    let mut stage = Stage::set(bench, Behaviour::default(), Limits::rate(1)).await?;
    stage.database.pause().await?;
    stage.enter().await?;
    let call = Call::Unblock { environment: names::environment(0), user: names::user(), bulk, wait: false };
    let seconds = bench.full_or_quick(8.0, 3.0);
    let spec = |seconds, calls| Spec {
        servers: stage.servers(),
        connections: 4,
        call: call.clone(),
        pace: Pace::Callers(callers),
        calls,
        seconds,
    };
    let warm = stage.load(spec(1.0, 5_000)).await?;
    let before = stage.cpu()?;
    let report = stage.load(spec(seconds, 1_000_000)).await?;
    let after = stage.cpu()?;
    stage.none_lost(warm.answered + report.answered).await?;
    stage.strike().await?;
    let detail = Detail::new(what, report.answered, report.seconds)
        .used(before, after, report.cpu_seconds)
        .answered(report.latency);
    Ok(Outcome::default().with(goal, report.per_second()).detailed(detail))
}
