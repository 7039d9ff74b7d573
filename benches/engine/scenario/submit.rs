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
    upload,
};

/// 64 callers, each with one job at a time.
pub(super) async fn single(bench: &Bench) -> Result<Outcome> {
    let mut stage = Stage::set(bench, Behaviour::default(), Limits::rate(1)).await?;
    stage.database.pause().await?;
    stage.enter().await?;
    let call =
        Call::Unblock { environment: names::environment(0), user: names::user(), bulk: false, wait: false };
    let seconds = bench.full_or_quick(8.0, 3.0);
    let spec = |seconds, calls| Spec {
        servers: stage.servers(),
        connections: 4,
        call: call.clone(),
        pace: Pace::Callers(64),
        calls,
        seconds,
    };
    let warm = stage.load(spec(1.0, 5_000)).await?;
    let before = stage.cpu()?;
    let report = stage.load(spec(seconds, 1_000_000)).await?;
    let after = stage.cpu()?;
    stage.none_lost(warm.answered + report.answered).await?;
    stage.strike().await?;
    let detail = Detail::new("submit, 64 callers", report.answered, report.seconds)
        .used(before, after, report.cpu_seconds)
        .answered(report.latency);
    Ok(Outcome::default().with(Goal::Submit, report.per_second()).detailed(detail))
}

/// Two batches, each over a stream of its own.
pub(super) async fn bulk(bench: &Bench) -> Result<Outcome> {
    let mut stage = Stage::set(bench, Behaviour::default(), Limits::rate(1)).await?;
    stage.database.pause().await?;
    stage.enter().await?;
    let rows = bench.full_or_quick(200_000, 50_000);
    let spec = |rows, salt| upload::Spec {
        server: stage.servers()[0],
        environment: names::environment(0),
        user: names::user(),
        batches: 2,
        rows,
        salt,
    };
    let warm = stage.upload(spec(5_000, 1)).await?;
    let before = stage.cpu()?;
    let report = stage.upload(spec(rows, 2)).await?;
    let after = stage.cpu()?;
    stage.none_lost(warm.answered + report.answered).await?;
    stage.strike().await?;
    let detail = Detail::new("BulkUnblock, two streams", report.answered, report.seconds).used(
        before,
        after,
        report.cpu_seconds,
    );
    Ok(Outcome::default().with(Goal::Bulk, report.per_second()).detailed(detail))
}
