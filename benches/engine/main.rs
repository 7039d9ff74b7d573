//! `make bench`: what the service can do on this machine, beside what is to be reached.
//!
//! It starts everything itself: a private, durable Postgres; the simulator, the service and the callers, each in a process of its
//! own; and takes everything away again. After each scenario it checks that POSTs, jobs and results agree. BENCHMARKS.md says how
//! to read the tables.

mod anchors;
mod arguments;
mod caller;
mod child;
mod database;
mod echo;
mod goal;
mod latency;
mod load;
mod machine;
mod names;
mod outcome;
mod pingone;
mod posts;
mod report;
mod scenario;
mod server;
mod service;
mod sink;
mod stage;
mod upload;
mod usage;
mod wal;

use std::{
    fs::{File, TryLockError},
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    task::LocalSet,
};

use crate::{
    anchors::Anchors,
    arguments::{Arguments, Role, Scenario},
    machine::Machine,
    outcome::Outcome,
    report::Report,
    server::Server,
    stage::Bench,
};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Builder::new_current_thread().enable_all().build().map_err(Into::into).and_then(|runtime| {
        LocalSet::new().block_on(&runtime, async {
            match &arguments.role {
                Some(role) => play(role.clone()).await,
                None => measure(&arguments).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn play(role: Role) -> Result<()> {
    match role {
        Role::Load(spec) => show(&serde_json::to_string(&load::run(spec).await?)?),
        Role::Upload(spec) => show(&serde_json::to_string(&upload::run(spec).await?)?),
        Role::Posts(spec) => show(&serde_json::to_string(&posts::run(spec).await?)?),
        Role::Echo(address) => echo::run(address).await,
        Role::Sink(address) => sink::run(address).await,
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let log = stage::log_file();
    let _alone = alone(&log.with_file_name("bench.lock"))?;
    std::fs::write(&log, "")?;
    let server = Server::start(&log.with_file_name("bench-postgres")).await?;
    let bench = Bench { server, binary: arguments.binary.clone(), log, quick: arguments.quick };
    let measured = tokio::select! {
        measured = scenarios(arguments, &bench) => measured,
        interrupted = interruption() => interrupted.and_then(|()| bail!("interrupted")),
    };
    bench.server.stop().await?;
    measured
}

/// Ctrl-C, or a polite `kill`.
async fn interruption() -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    Ok(())
}

/// Two at once would measure each other. Given up when dropped.
fn alone(lock: &Path) -> Result<File> {
    let file = File::create(lock)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say("another run is under way: waiting for its end");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(file)
}

async fn scenarios(arguments: &Arguments, bench: &Bench) -> Result<()> {
    let machine = Machine::look(bench.server.version(), bench.server.folder())?;
    say(&machine.line());
    let (mut anchors, mut outcomes, mut failed) = (None, Vec::new(), Vec::new());
    for scenario in arguments.scenarios() {
        match one(scenario, bench, &mut anchors).await {
            Ok(outcome) => outcomes.extend(outcome),
            Err(error) => {
                say(&format!("{scenario:?} FAILED: {error:#}"));
                failed.push(scenario);
            }
        }
    }
    let report =
        Report { machine: &machine, anchors: anchors.as_ref(), outcomes: &outcomes, quick: bench.quick };
    show(&report.text()?)?;
    if !failed.is_empty() {
        bail!("failed: {failed:?}; what the processes said is in {}", bench.log.display());
    }
    if arguments.write {
        report
            .write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("BENCHMARKS.md"))
            .context("BENCHMARKS.md")?;
    }
    Ok(())
}

/// All runs of one scenario.
async fn one(scenario: Scenario, bench: &Bench, anchors: &mut Option<Anchors>) -> Result<Option<Outcome>> {
    let begun = Instant::now();
    if scenario == Scenario::Anchors {
        *anchors = Some(anchors::measure(bench).await?);
        return Ok(None);
    }
    let mut runs = Vec::new();
    for run in 1..=scenario.runs(bench.quick) {
        let outcome = scenario::run(scenario, bench).await?;
        let figures = outcome.figures.iter().map(|(goal, figure)| figure.text(*goal)).collect::<Vec<_>>();
        let seconds = begun.elapsed().as_secs();
        say(&format!("{scenario:?}, run {run}, {seconds} s: {}", figures.join(", ")));
        runs.push(outcome);
    }
    Ok(Some(outcome::median(runs)))
}

fn show(text: &str) -> Result<()> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

fn say(text: &str) {
    // Whoever closed this does not want to know.
    let _ = writeln!(io::stderr(), "{text}");
}
