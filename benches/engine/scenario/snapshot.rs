//! Somebody forgets a transaction: nothing that is deleted can be cleaned up while it is open.

use std::time::Duration;

use anyhow::Result;

use crate::{
    goal::Goal,
    load::{Call, Pace, Report, Spec},
    names,
    outcome::{Detail, Outcome},
    pingone::Behaviour,
    service::Limits,
    stage::{Bench, Stage},
};

const RATE: f64 = 1_000.0;

/// A clean minute, five with the transaction open; each ends with as much as 64 callers can do.
pub(super) async fn pinned(bench: &Bench) -> Result<Outcome> {
    let mut stage = Stage::set(bench, Behaviour::default(), Limits::unlimited(256)).await?;
    stage.enter().await?;
    let (minute, burst) = bench.full_or_quick((60.0, 10.0), (5.0, 2.0));
    let mut jobs = 0;
    let mut load = async |pace, seconds| {
        let report = stage.load(spec(&stage, pace, seconds)).await?;
        jobs += report.answered;
        anyhow::Ok(report)
    };
    load(Pace::Callers(64), 2.0).await?;
    let clean = load(Pace::Rate(RATE), minute).await?;
    let clean_burst = load(Pace::Callers(64), burst).await?;

    let mut forgotten = stage.database.pool().begin().await?;
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *forgotten).await?;
    sqlx::query("select count(*) from replica").execute(&mut *forgotten).await?;
    load(Pace::Rate(RATE), minute * 4.0).await?;
    let pinned = load(Pace::Rate(RATE), minute).await?;
    let pinned_burst = load(Pace::Callers(64), burst).await?;
    forgotten.rollback().await?;

    stage.all_done(jobs).await?;
    stage.strike().await?;
    let share = |of: f64, clean: f64| 100.0 * of / clean;
    Ok(Outcome::default()
        .with(Goal::SnapshotThroughput, share(pinned_burst.per_second(), clean_burst.per_second()))
        .with(Goal::SnapshotLatency, share(pinned.latency.p50, clean.latency.p50))
        .detailed(detail("1,000/s, clean", &clean))
        .detailed(detail("1,000/s, snapshot pinned, last minute", &pinned))
        .detailed(detail("64 callers, clean", &clean_burst))
        .detailed(detail("64 callers, snapshot pinned", &pinned_burst)))
}

fn spec(stage: &Stage<'_>, pace: Pace, seconds: f64) -> Spec {
    let call =
        Call::Unblock { environment: names::environment(0), user: names::user(), bulk: false, wait: true };
    let seconds = Duration::from_secs_f64(seconds).as_secs_f64();
    Spec { servers: stage.servers(), connections: 4, call, pace, calls: u64::MAX, seconds }
}

fn detail(what: &str, report: &Report) -> Detail {
    Detail {
        callers: report.cpu_seconds,
        ..Detail::new(what, report.answered, report.seconds).answered(report.latency)
    }
}
