//! How much of what is allowed is used, and whether more is tried.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    goal::Goal,
    names,
    outcome::{Detail, Outcome},
    pingone::{Behaviour, Counts},
    service::Limits,
    stage::{Bench, Stage},
};

/// What PingOne allows in any second, and the service is told.
const RATE: u32 = 50;
/// Until the first seconds, in which a replica takes its lanes, are over.
const WARM: Duration = Duration::from_secs(5);

/// One environment, one replica.
pub(super) async fn environment(bench: &Bench) -> Result<Outcome> {
    let mut stage = Stage::set(bench, behaviour(), Limits::rate(RATE)).await?;
    stage.database.fill(names::environment(0), names::user(), 5_000).await?;
    stage.database.settle().await?;
    stage.enter().await?;
    let (share, refused, detail) = steady(&stage, "50/s, one environment").await?;
    stage.none_lost(5_000).await?;
    stage.strike().await?;
    Ok(Outcome::default().with(Goal::Share, share).with(Goal::Refused, refused).detailed(detail))
}

/// A licence's rate: two environments, three replicas.
pub(super) async fn group(bench: &Bench) -> Result<Outcome> {
    let file = bench.log.with_file_name("group.toml");
    fs::write(&file, configuration()?)?;
    let limits = Limits { file: Some(file), ..Limits::unlimited(32) };
    let mut stage = Stage::set(bench, behaviour(), limits).await?;
    for number in 0..2 {
        stage.database.fill(names::environment(number), names::user(), 10_000).await?;
    }
    stage.database.settle().await?;
    if stage.enter().await.is_err() {
        stage.strike().await?;
        let why = "limit groups are not there yet";
        return Ok(Outcome::default().without(Goal::GroupShare, why).without(Goal::GroupRefused, why));
    }
    stage.enter().await?;
    stage.enter().await?;
    let (share, refused, detail) = steady(&stage, "50/s, a licence, 3 replicas").await?;
    stage.none_lost(20_000).await?;
    stage.strike().await?;
    Ok(Outcome::default().with(Goal::GroupShare, share).with(Goal::GroupRefused, refused).detailed(detail))
}

fn behaviour() -> Behaviour {
    Behaviour { rate_limit: Some(RATE), latency: Duration::from_millis(30) }
}

fn configuration() -> Result<String> {
    let mut text = format!("[[limit_group]]\nname = \"licence\"\nrate_limit = {RATE}\n");
    for number in 0..2 {
        let id = names::environment(number);
        write!(text, "\n[[environment]]\nid = \"{id}\"\nlimit_group = \"licence\"\n")?;
    }
    Ok(text)
}

/// Percent of the allowed rate that PingOne granted, and its refusals.
async fn steady(stage: &Stage<'_>, what: &str) -> Result<(f64, f64, Detail)> {
    tokio::time::sleep(WARM).await;
    let (first, begun, before) = (stage.pingone.counts().await?, Instant::now(), stage.cpu()?);
    tokio::time::sleep(Duration::from_secs(stage.bench.full_or_quick(60, 10))).await;
    let (last, seconds, after) = (stage.pingone.counts().await?, begun.elapsed().as_secs_f64(), stage.cpu()?);
    let granted = |counts: Counts| counts.posts - counts.limited;
    let jobs = granted(last) - granted(first);
    let share = 100.0 * jobs as f64 / (seconds * f64::from(RATE));
    let detail = Detail::new(what, jobs, seconds).used(before, after, 0.0);
    // Counted from the very start: the first second is where a burst would be.
    Ok((share, last.limited as f64, detail))
}
