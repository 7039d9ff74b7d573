//! What one run of a scenario plays on: a fresh database, a fresh simulator, fresh replicas.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::{
    arguments::Role,
    child,
    database::{Database, Progress},
    load::{self, Report},
    pingone::{Behaviour, Counts, PingOne},
    server::Server,
    service::{Limits, Service},
    upload,
};

/// Counters that are read at different moments agree after so long, or never.
const AGREE: Duration = Duration::from_secs(10);

/// What every run needs.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) binary: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) quick: bool,
}

impl Bench {
    /// One number for a full run, another for a quick one.
    pub(crate) const fn full_or_quick<T: Copy>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// CPU seconds so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) service: f64,
    pub(crate) postgres: f64,
    pub(crate) simulator: f64,
}

/// A run under way. Dropped, its processes end.
pub(crate) struct Stage<'a> {
    pub(crate) bench: &'a Bench,
    pub(crate) database: Database,
    pub(crate) pingone: PingOne,
    pub(crate) limits: Limits,
    pub(crate) replicas: Vec<Service>,
}

impl<'a> Stage<'a> {
    /// Without a replica yet.
    pub(crate) async fn set(bench: &'a Bench, behaviour: Behaviour, limits: Limits) -> Result<Self> {
        let database = bench.server.database(&bench.binary).await?;
        let pingone = PingOne::start(&bench.binary, &bench.log, behaviour).await?;
        Ok(Self { bench, database, pingone, limits, replicas: Vec::new() })
    }

    /// One replica more; the time from its start until it was ready.
    pub(crate) async fn enter(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let bench = self.bench;
        let service =
            Service::start(&bench.binary, &bench.log, self.database.url(), &self.pingone, &self.limits)
                .await?;
        self.replicas.push(service);
        Ok(begun.elapsed())
    }

    pub(crate) fn servers(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(Service::grpc).collect()
    }

    /// Has calls made by another process. All of them must have been answered OK.
    pub(crate) async fn load(&self, spec: load::Spec) -> Result<Report> {
        let report: Report = child::report(&Role::Load(spec)).await?;
        ensure!(report.refused.is_empty(), "calls were refused (gRPC code: how many): {:?}", report.refused);
        ensure!(report.unfinished == 0, "{} calls did not see the end of their job", report.unfinished);
        Ok(report)
    }

    /// Has batches uploaded by another process.
    pub(crate) async fn upload(&self, spec: upload::Spec) -> Result<Report> {
        child::report(&Role::Upload(spec)).await
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Ok(Cpu {
            service: self.replicas.iter().map(Service::cpu_seconds).sum::<Result<f64>>()?,
            postgres: self.bench.server.cpu_seconds()?,
            simulator: self.pingone.cpu_seconds()?,
        })
    }

    /// Checks that all jobs were done, each with one POST.
    pub(crate) async fn all_done(&self, jobs: u64) -> Result<()> {
        self.agrees("every job succeeded with one POST", |progress, counts| {
            let succeeded = progress.succeeded as u64;
            progress.jobs as u64 == jobs && succeeded == jobs && counts.posts - counts.limited == jobs
        })
        .await
    }

    /// Has the replicas finish what runs and stop; then checks that no job is lost, and that each that is done had one POST.
    pub(crate) async fn none_lost(&mut self, jobs: u64) -> Result<()> {
        for replica in self.replicas.drain(..) {
            replica.stop().await?;
        }
        self.agrees("no job is lost, one POST for each that is done", |progress, counts| {
            let (succeeded, waiting) = (progress.succeeded as u64, progress.waiting as u64);
            let all = progress.jobs as u64 == jobs && succeeded + waiting == jobs;
            all && counts.effects == succeeded && counts.posts - counts.limited == succeeded
        })
        .await
    }

    async fn agrees(&self, what: &str, agree: impl Fn(Progress, Counts) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            let (progress, counts) = (self.database.progress().await?, self.pingone.counts().await?);
            let proper = counts.deviations == 0 && counts.most_on_a_device <= 1 && progress.otherwise == 0;
            if proper && agree(progress, counts) {
                return Ok(());
            }
            ensure!(begun.elapsed() < AGREE, "NOT SO: {what}. Database: {progress:?}; simulator: {counts:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends the replicas and drops the database.
    pub(crate) async fn strike(mut self) -> Result<()> {
        for service in self.replicas.drain(..) {
            service.kill().await?;
        }
        self.database.pool().close().await;
        self.bench.server.drop_database().await
    }
}

/// Where processes of the benchmark write what they log.
pub(crate) fn log_file() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench.log")
}
