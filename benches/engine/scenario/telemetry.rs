//! What telemetry costs: the same load with none, with metrics that are scraped, and with all signals sent to a collector.

use std::time::Duration;

use anyhow::Result;

use super::end_to_end::callers;
use crate::{
    arguments::Role,
    child::{self, Process},
    goal::Goal,
    outcome::{Detail, Outcome},
    pingone::Behaviour,
    service::Limits,
    stage::{Bench, Stage},
};

const SCRAPED_EVERY: Duration = Duration::from_secs(5);

/// In turn, so that what else the machine does falls on all alike.
pub(super) async fn cost(bench: &Bench) -> Result<Outcome> {
    let collector = child::free_address()?;
    let _sink = Process::start(child::role(&Role::Sink(collector))?, &bench.log)?;
    let collector = format!("http://{collector}");
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str());
    let modes: [(&str, &[(&str, &str)]); 3] = [
        ("telemetry off", &[("OTEL_SDK_DISABLED", "true")]),
        ("metrics, scraped", &[]),
        ("… and traces, logs, metrics sent", &[endpoint, ("OTEL_METRIC_EXPORT_INTERVAL", "5000")]),
    ];
    let mut runs = [const { Vec::new() }; 3];
    for round in 0..bench.full_or_quick(9, 2) {
        for turn in 0..modes.len() {
            // Each has each turn equally often.
            let mode = (round + turn) % modes.len();
            runs[mode].push(run(bench, modes[mode].0, modes[mode].1).await?);
        }
    }
    let details = runs.map(middle);
    let cpu = details.each_ref().map(cpu);
    let outcome = Outcome::default()
        .with(Goal::MetricsCost, 100.0 * (cpu[1] / cpu[0] - 1.0))
        .with(Goal::TelemetryCost, 100.0 * (cpu[2] / cpu[0] - 1.0));
    Ok(details.into_iter().fold(outcome, Outcome::detailed))
}

/// Of service and Postgres, for 1,000 jobs.
fn cpu(detail: &Detail) -> f64 {
    detail.per_thousand(detail.service + detail.postgres)
}

fn middle(mut runs: Vec<Detail>) -> Detail {
    runs.sort_by(|a, b| cpu(a).total_cmp(&cpu(b)));
    runs.swap_remove(runs.len() / 2)
}

async fn run(bench: &Bench, what: &str, variables: &[(&str, &str)]) -> Result<Detail> {
    let mut limits = Limits::unlimited(256);
    limits.variables =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut stage = Stage::set(bench, Behaviour::default(), limits).await?;
    stage.enter().await?;
    let warm = stage.load(callers(&stage, 5_000, 2.0)).await?;
    let before = stage.cpu()?;
    let scraping = tokio::spawn(scrape(stage.replicas[0].metrics()));
    let report = stage.load(callers(&stage, 1_000_000, bench.full_or_quick(6.0, 3.0))).await?;
    scraping.abort();
    let after = stage.cpu()?;
    stage.all_done(warm.answered + report.answered).await?;
    stage.strike().await?;
    Ok(Detail::new(what, report.answered, report.seconds).used(before, after, report.cpu_seconds))
}

async fn scrape(url: String) {
    loop {
        // Where telemetry is off there is nothing to read.
        if let Ok(answer) = reqwest::get(&url).await {
            let _ = answer.bytes().await;
        }
        tokio::time::sleep(SCRAPED_EVERY).await;
    }
}
