//! The simulator in a process of its own, and what it says of itself.

use std::{collections::HashMap, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    child::{self, Process},
    usage,
};

/// A running simulator.
pub(crate) struct PingOne {
    process: Process,
    address: SocketAddr,
    client: reqwest::Client,
}

/// How it behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behaviour {
    pub(crate) latency: Duration,
    pub(crate) rate_limit: Option<u32>,
}

/// Its own counters.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Counts {
    pub(crate) posts: u64,
    pub(crate) effects: u64,
    pub(crate) limited: u64,
    pub(crate) deviations: u64,
    pub(crate) most_on_a_device: u32,
}

#[derive(Deserialize)]
struct Arrival {
    device: Uuid,
    at_us: u64,
}

impl PingOne {
    pub(crate) async fn start(binary: &Path, log: &Path, behaviour: Behaviour) -> Result<Self> {
        let address = child::free_address()?;
        let mut command = child::command(binary);
        command.args(["simulate", "--records", "0", "--jitter", "0ms", "--listen"]).arg(address.to_string());
        command.arg("--latency").arg(format!("{}ms", behaviour.latency.as_millis()));
        if let Some(limit) = behaviour.rate_limit {
            command.arg("--rate-limit").arg(limit.to_string());
        }
        // More would only hand requests from one to the other.
        command.env("TOKIO_WORKER_THREADS", "1");
        let process = Process::start(command, log)?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut pingone = Self { process, address, client };
        let client = pingone.client.clone();
        let url = format!("http://{address}/control/counts");
        let ready = async || client.get(&url).send().await.is_ok();
        pingone.process.ready(ready).await.context("the simulator")?;
        Ok(pingone)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        usage::cpu_seconds(self.process.pid())
    }

    pub(crate) async fn counts(&self) -> Result<Counts> {
        let answer = self.client.get(self.control("counts")).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    /// From now on the arrivals of that user's POSTs are kept.
    pub(crate) async fn watch(&self, user: Uuid) -> Result<()> {
        let answer = self.client.put(self.control("watched")).json(&json!({ "user": user })).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    /// When a POST for each device of the watched user arrived first, in microseconds since 1970.
    pub(crate) async fn arrivals(&self) -> Result<HashMap<Uuid, u64>> {
        let answer = self.client.get(self.control("arrivals")).send().await?.error_for_status()?;
        let arrivals: Vec<Arrival> = answer.json().await?;
        // The last of several wins a map, hence from the last to the first.
        Ok(arrivals.into_iter().rev().map(|arrival| (arrival.device, arrival.at_us)).collect())
    }

    fn control(&self, call: &str) -> String {
        format!("http://{}/control/{call}", self.address)
    }
}
