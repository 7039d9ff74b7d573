//! What the benchmark is asked to do.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{load, posts, upload};

/// Measures the service beside its own Postgres, a simulated PingOne and callers, all on this machine
#[derive(Debug, Parser)]
#[command(name = "engine", override_usage = "make bench ARGS=\"[OPTIONS]\"")]
pub(crate) struct Arguments {
    /// Only these, separated by commas
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Smaller counts, one run of each, and nothing that takes minutes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write what was measured into BENCHMARKS.md
    #[arg(long)]
    pub(crate) write: bool,
    /// The build of the service to measure
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_pingone-unblock"))]
    pub(crate) binary: PathBuf,
    /// What another process of the benchmark does, as JSON
    #[arg(long, hide = true, value_parser = role)]
    pub(crate) role: Option<Role>,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// What the machine can do without the service
    Anchors,
    /// Durable single submits, nothing sent
    Submit,
    /// Bulk submits, nothing sent
    Bulk,
    /// A backlog, PingOne answers at once
    Drain,
    /// A backlog, PingOne takes 50 ms
    Delay,
    /// Submitting and delivering at once
    EndToEnd,
    /// From call to durable result at 100/s
    Latency,
    /// An interactive call behind 100,000 bulk jobs
    Interactive,
    /// Share of the allowed rate that is used
    Rate,
    /// The same of a licence's rate, three replicas
    Group,
    /// A million queued jobs
    Memory,
    /// Five minutes with a forgotten transaction
    Snapshot,
    /// `kill -9` of one of two replicas
    Recovery,
    /// What telemetry costs
    Telemetry,
}

impl Scenario {
    const fn takes_minutes(self) -> bool {
        matches!(self, Self::Memory | Self::Snapshot | Self::Recovery | Self::Telemetry)
    }

    /// How often it is run; of several runs the median counts.
    pub(crate) const fn runs(self, quick: bool) -> u32 {
        let once = self.takes_minutes() || matches!(self, Self::Anchors | Self::Rate | Self::Group);
        if quick || once { 1 } else { 3 }
    }
}

impl Arguments {
    /// The scenarios asked for, in their order.
    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let asked = |scenario: &Scenario| match self.only.is_empty() {
            true => !(self.quick && scenario.takes_minutes()),
            false => self.only.contains(scenario),
        };
        Scenario::value_variants().iter().copied().filter(asked).collect()
    }
}

/// What a process of the benchmark does that is not the benchmark itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Calls the service.
    Load(load::Spec),
    /// Uploads batches.
    Upload(upload::Spec),
    /// POSTs to the simulator.
    Posts(posts::Spec),
    /// Answers calls with nothing behind them.
    Echo(SocketAddr),
    /// Takes telemetry and keeps nothing.
    Sink(SocketAddr),
}

fn role(text: &str) -> Result<Role, serde_json::Error> {
    serde_json::from_str(text)
}
