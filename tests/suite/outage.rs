//! Postgres goes away and comes back under load.

use std::time::Duration;

use pingone_unblock::{
    proto::v1::{self, job::State},
    simulator,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    harness::{
        Result,
        cluster::OwnCluster,
        service::{PingOne, Service, Variant, eventually, request_without_wait, some_device, wire},
    },
    unblock::reason,
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_while_postgres_is_away() -> Result<()> {
    let mut cluster = OwnCluster::start().await?;
    let url = cluster.running().ok_or("it runs")?.url("postgres");
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    pingone.simulator.set_latency(Duration::from_millis(100), Duration::from_millis(200));
    let service = Service::start(&url, &pingone, Variant::default()).await?;

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (mut devices, stopped) = (service.devices.clone(), stopped.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
                while !*stopped.borrow() {
                    let asked = request_without_wait(wire(&some_device()?));
                    let asked = v1::UnblockRequest { request_id: uuid::Uuid::new_v4().to_string(), ..asked };
                    match devices.unblock(asked).await {
                        Ok(reply) => acknowledged.extend(reply.into_inner().job.map(|job| job.job_id)),
                        Err(status) => refused.push(status),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((acknowledged, refused))
            })
        })
        .collect();
    pingone.simulator.arrived(50).await;
    cluster.stop().await?;
    let readyz = format!("http://{}/readyz", service.admin);
    eventually("readiness falls", async || Ok(reqwest::get(&readyz).await?.status().as_u16() == 503)).await?;
    // How long it is away is the point here, not a wait for something.
    tokio::time::sleep(Duration::from_secs(10)).await;
    cluster.restart().await?;
    eventually("readiness is back", async || Ok(reqwest::get(&readyz).await?.status().as_u16() == 200))
        .await?;
    let before = pingone.simulator.counts().posts;
    pingone.simulator.arrived(before + 50).await;
    stop.send(true)?;

    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    for caller in callers {
        let (jobs, statuses) = caller.await??;
        acknowledged.extend(jobs);
        refused.extend(statuses);
    }
    assert!(!refused.is_empty(), "callers were told");
    for status in &refused {
        assert_eq!(
            (status.code(), reason(status).as_str()),
            (Code::Unavailable, "STORE_UNAVAILABLE"),
            "{status:?}"
        );
        assert!(status.get_error_details().retry_info().is_some());
    }
    for job in &acknowledged {
        service.job_in(job, &[State::Succeeded]).await?;
    }
    assert_eq!(pingone.simulator.counts().most_on_a_device, 1, "never two at once");
    service.stop().await
}
