//! Delivering what is queued already.

use std::time::Duration;

use anyhow::Result;

use crate::{
    goal::Goal,
    names,
    outcome::{Detail, Outcome},
    pingone::Behaviour,
    service::Limits,
    stage::{Bench, Stage},
};

const DELAY: Duration = Duration::from_millis(50);
/// The slowest drain that is waited for.
const PATIENCE: Duration = Duration::from_secs(240);

/// PingOne answers at once.
pub(super) async fn drain(bench: &Bench) -> Result<Outcome> {
    let jobs = bench.full_or_quick(100_000, 20_000);
    let detail = backlog(bench, "drain", jobs, Duration::ZERO, 256).await?;
    Ok(Outcome::default().with(Goal::Drain, detail.per_second()).detailed(detail))
}

/// PingOne takes its time: what is in flight decides.
pub(super) async fn delay(bench: &Bench) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (goal, in_flight, jobs) in [
        (Goal::Delay64, 64, bench.full_or_quick(20_000, 5_000)),
        (Goal::Delay500, 500, bench.full_or_quick(100_000, 20_000)),
    ] {
        let what = format!("drain, 50 ms, {in_flight} in flight");
        let detail = backlog(bench, &what, jobs, DELAY, in_flight).await?;
        let possible = f64::from(in_flight) / DELAY.as_secs_f64();
        outcome = outcome.with(goal, 100.0 * detail.per_second() / possible).detailed(detail);
    }
    Ok(outcome)
}

/// From the first durable outcome to the last.
async fn backlog(bench: &Bench, what: &str, jobs: u32, latency: Duration, in_flight: u32) -> Result<Detail> {
    let behaviour = Behaviour { latency, ..Behaviour::default() };
    // One slot of eight is kept for interactive jobs: so many more are set up that the bulk jobs have `in_flight`.
    let slots = in_flight * 8 / 7;
    let mut stage = Stage::set(bench, behaviour, Limits::unlimited(slots)).await?;
    stage.database.pause().await?;
    stage.enter().await?;
    stage.database.fill(names::environment(0), names::user(), jobs).await?;
    stage.database.settle().await?;
    let before = stage.cpu()?;
    stage.database.resume().await?;
    stage.database.drained(PATIENCE).await?;
    let after = stage.cpu()?;
    stage.all_done(u64::from(jobs)).await?;
    let seconds = stage.database.outcome_seconds().await?;
    stage.strike().await?;
    Ok(Detail::new(what, u64::from(jobs), seconds).used(before, after, 0.0))
}
