//! The service in a process of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use pingone_unblock::simulator::{CLIENT_ID, CLIENT_SECRET};

use crate::{
    child::{self, Process},
    names,
    pingone::PingOne,
    usage,
};

/// How it is configured.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Requests per second and environment, as it is written in the configuration.
    pub(crate) rate: String,
    pub(crate) in_flight: u32,
    /// What only a file can say.
    pub(crate) file: Option<PathBuf>,
    /// Variables of its own.
    pub(crate) variables: Vec<(String, String)>,
}

impl Limits {
    /// No rate; so many at once.
    pub(crate) fn unlimited(in_flight: u32) -> Self {
        Self { rate: "unlimited".to_owned(), in_flight, file: None, variables: Vec::new() }
    }

    pub(crate) fn rate(rate: u32) -> Self {
        Self { rate: rate.to_string(), in_flight: 32, file: None, variables: Vec::new() }
    }
}

/// One replica.
pub(crate) struct Service {
    process: Process,
    grpc: SocketAddr,
    admin: SocketAddr,
}

impl Service {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(
        binary: &Path,
        log: &Path,
        database: &str,
        pingone: &PingOne,
        limits: &Limits,
    ) -> Result<Self> {
        let (grpc, admin) = (child::free_address()?, child::free_address()?);
        let base = format!("http://{}", pingone.address());
        let mut command = child::command(binary);
        command
            .arg("serve")
            .env("UNBLOCK_DATABASE_URL", database)
            .env("UNBLOCK_LISTEN", grpc.to_string())
            .env("UNBLOCK_ADMIN_LISTEN", admin.to_string())
            .env("UNBLOCK_MAX_CONCURRENT_CALLS", "4096")
            .env("UNBLOCK_QUEUE_LIMIT_INTERACTIVE", "5000000")
            .env("UNBLOCK_QUEUE_LIMIT_BULK", "5000000")
            .env("UNBLOCK_LOG", "warn")
            .env("PINGONE_API_PATH", &base)
            .env("PINGONE_AUTH_PATH", &base)
            .env("PINGONE_AUTH_ENVIRONMENT_ID", names::environment(0).to_string())
            .env("PINGONE_CLIENT_ID", CLIENT_ID)
            .env("PINGONE_CLIENT_SECRET", CLIENT_SECRET)
            .env("PINGONE_RATE_LIMIT", &limits.rate)
            .env("PINGONE_MAX_IN_FLIGHT", limits.in_flight.to_string());
        command.envs(limits.variables.iter().map(|(name, value)| (name, value)));
        if let Some(file) = &limits.file {
            command.arg("--config").arg(file);
        }
        let mut process = Process::start(command, log)?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://{admin}/readyz");
        let ready = async || client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
        process.ready(ready).await.with_context(|| format!("the service, see {}", log.display()))?;
        Ok(Self { process, grpc, admin })
    }

    pub(crate) const fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where Prometheus would read.
    pub(crate) fn metrics(&self) -> String {
        format!("http://{}/metrics", self.admin)
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.process.pid())
    }

    /// MiB.
    pub(crate) fn peak_memory(&self) -> Result<f64> {
        usage::peak_memory(self.process.pid())
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(self) -> Result<()> {
        self.process.stop().await.context("the service")
    }

    /// `kill -9`.
    pub(crate) async fn kill(self) -> Result<()> {
        self.process.kill().await
    }
}
