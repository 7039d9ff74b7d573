//! What the machine can do without the service: numbers of other machines can be compared by them.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::{
    arguments::Role,
    child::{self, Process},
    echo,
    goal::thousands,
    latency::Latency,
    load::{self, Call, Pace, Report},
    pingone::{Behaviour, PingOne},
    posts,
    stage::Bench,
    usage,
};

/// The anchors of this run.
pub(crate) struct Anchors {
    /// Milliseconds of one commit of one row, one client.
    pub(crate) commit: Option<f64>,
    commits: Option<f64>,
    echo: Measured,
    /// CPU seconds of the callers per 1,000 calls.
    callers: f64,
    /// Of the same call at the pace that latencies are measured at.
    calm: Latency,
    posts: Measured,
}

/// How many a second, and CPU seconds of the server per 1,000.
struct Measured {
    per_second: f64,
    cpu: f64,
}

/// Measures them.
pub(crate) async fn measure(bench: &Bench) -> Result<Anchors> {
    let seconds = bench.full_or_quick(5, 2);
    let (commit, commits) = match bench.server.program("pgbench") {
        None => (None, None),
        Some(_) => {
            let single = commits(bench, 1, seconds).await?;
            (Some(1_000.0 / single), Some(commits(bench, 64, seconds).await?))
        }
    };
    let (echo, callers, calm) = echo(bench).await?;
    Ok(Anchors { commit, commits, echo, callers, calm, posts: posts(bench).await? })
}

/// Single-row transactions a second of so many clients.
async fn commits(bench: &Bench, clients: u32, seconds: u32) -> Result<f64> {
    let program = bench.server.program("pgbench").context("pgbench is not installed")?;
    let script = bench.log.with_file_name("commit.sql");
    std::fs::write(&script, "insert into anchor (value) values (gen_random_uuid());\n")?;
    let database = bench.server.database(&bench.binary).await?;
    sqlx::query("create table anchor (value uuid primary key)").execute(database.pool()).await?;
    let said = Command::new(program)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=1", "--client", &clients.to_string()])
        .args(["--time", &seconds.to_string(), "--file"])
        .arg(&script)
        .arg(database.url())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(said.status.success(), "pgbench: {}", String::from_utf8_lossy(&said.stderr));
    database.pool().close().await;
    bench.server.drop_database().await?;
    let text = String::from_utf8_lossy(&said.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.context("pgbench says no rate")
}

/// A bare tonic unary call: 64 in flight, and 100 a second.
async fn echo(bench: &Bench) -> Result<(Measured, f64, Latency)> {
    let address = child::free_address()?;
    let mut server = Process::start(child::role(&Role::Echo(address))?, &bench.log)?;
    server.ready(async || tokio::net::TcpStream::connect(address).await.is_ok()).await?;
    let call = async |pace, calls| {
        let call = Call::Empty(echo::METHOD.to_owned());
        let spec = load::Spec { servers: vec![address], connections: 4, call, pace, calls, seconds: 30.0 };
        let report: Report = child::report(&Role::Load(spec)).await?;
        ensure!(report.refused.is_empty(), "the echo refused calls: {:?}", report.refused);
        anyhow::Ok(report)
    };
    let before = usage::cpu_seconds(server.pid())?;
    let report = call(Pace::Callers(64), bench.full_or_quick(200_000, 50_000)).await?;
    let thousand = report.answered as f64 / 1_000.0;
    let cpu = (usage::cpu_seconds(server.pid())? - before) / thousand;
    let calm = call(Pace::Rate(100.0), bench.full_or_quick(1_000, 300)).await?;
    let measured = Measured { per_second: report.per_second(), cpu };
    Ok((measured, report.cpu_seconds / thousand, calm.latency))
}

/// The simulator alone, 64 in flight.
async fn posts(bench: &Bench) -> Result<Measured> {
    let pingone = PingOne::start(&bench.binary, &bench.log, Behaviour::default()).await?;
    let before = pingone.cpu_seconds()?;
    let posts = bench.full_or_quick(192_000, 64_000);
    let spec = posts::Spec { simulator: pingone.address(), in_flight: 64, posts };
    let seconds: f64 = child::report(&Role::Posts(spec)).await?;
    let cpu = (pingone.cpu_seconds()? - before) * 1_000.0 / f64::from(posts);
    Ok(Measured { per_second: f64::from(posts) / seconds, cpu })
}

impl Anchors {
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        let missing = || "pgbench is not installed".to_owned();
        let commit = self.commit.map_or_else(missing, |millis| format!("{millis:.2} ms"));
        let commits = self.commits.map_or_else(missing, |rate| format!("{}/s", thousands(rate)));
        let measured =
            |of: &Measured| format!("{}/s, {:.4} CPU-s per 1,000", thousands(of.per_second), of.cpu);
        [
            ("one single-row commit, one client (pgbench)", commit),
            ("single-row commits, 64 clients (pgbench)", commits),
            ("bare tonic unary call, 64 in flight", measured(&self.echo)),
            ("the benchmark's own callers meanwhile", format!("{:.4} CPU-s per 1,000", self.callers)),
            (
                "bare tonic unary call at 100/s",
                format!("p50 {:.2} ms, p99 {:.2} ms", self.calm.p50, self.calm.p99),
            ),
            ("the simulator alone, 64 in flight", measured(&self.posts)),
        ]
        .into_iter()
        .map(|(what, value)| vec![what.to_owned(), value])
        .collect()
    }
}
