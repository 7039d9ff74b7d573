//! What is measured, one file for what is measured alike.

mod backlog;
mod end_to_end;
mod interactive;
mod memory;
mod rate;
mod recovery;
mod snapshot;
mod submit;
mod telemetry;

use anyhow::{Result, bail};

use crate::{arguments::Scenario, outcome::Outcome, stage::Bench};

/// One run of it.
pub(crate) async fn run(scenario: Scenario, bench: &Bench) -> Result<Outcome> {
    match scenario {
        Scenario::Anchors => bail!("the anchors are no scenario"),
        Scenario::Submit => submit::single(bench).await,
        Scenario::Bulk => submit::bulk(bench).await,
        Scenario::Drain => backlog::drain(bench).await,
        Scenario::Delay => backlog::delay(bench).await,
        Scenario::EndToEnd => end_to_end::throughput(bench).await,
        Scenario::Latency => end_to_end::latency(bench).await,
        Scenario::Interactive => interactive::behind_bulk(bench).await,
        Scenario::Rate => rate::environment(bench).await,
        Scenario::Group => rate::group(bench).await,
        Scenario::Memory => memory::a_million(bench).await,
        Scenario::Snapshot => snapshot::pinned(bench).await,
        Scenario::Recovery => recovery::killed(bench).await,
        Scenario::Telemetry => telemetry::cost(bench).await,
    }
}
