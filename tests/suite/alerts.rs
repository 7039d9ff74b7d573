//! Each alert fires in its situation and no other does: real replicas, a real Prometheus, the project's rules with every time a
//! twentieth as long. What is told at leisure, of times and thresholds, promtool tests (`make alerts`).

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use pingone_unblock::simulator::{self, CLIENT_ID, Fault};
use rustix::process::Signal;
use sqlx::postgres::PgConnectOptions;

use crate::harness::{
    Result,
    callers::Callers,
    database::Database,
    process::Process,
    prometheus::Prometheus,
    proxy::Proxy,
    service::{PingOne, eventually},
};

/// Evaluations in which other alerts had their chance: the longest `for`, shortened, and a few more.
const ROUNDS: u32 = 18;

/// Two replicas that are called and well, and who watches them.
struct Scene {
    prometheus: Prometheus,
    replicas: [Process; 2],
    since: Instant,
    _callers: [Callers; 2],
}

impl Scene {
    /// None where there is no Prometheus.
    async fn start(
        database: &str,
        pingone: &PingOne,
        settings: &[(&str, &str)],
        calls: u32,
    ) -> Result<Option<Self>> {
        let replicas = [
            Process::serve_with(database, pingone, settings).await?,
            Process::serve_with(database, pingone, settings).await?,
        ];
        let Some(prometheus) =
            Prometheus::start(&[replicas[0].admin_address(), replicas[1].admin_address()]).await?
        else {
            return Ok(None);
        };
        let callers = [Callers::start(&replicas[0], calls)?, Callers::start(&replicas[1], calls)?];
        prometheus
            .has("sum(increase(unblock_jobs_finished_total{unblock_state=\"succeeded\"}[5s])) > 1")
            .await?;
        prometheus.has("sum(unblock_lanes_owned) == 256 and count(unblock_lanes_owned > 0) == 2").await?;
        // A Prometheus that has just started knows no targets for some seconds: with times so short that is an alert.
        prometheus.has("absent(ALERTS)").await?;
        Ok(Some(Self { prometheus, replicas, since: Instant::now(), _callers: callers }))
    }

    /// Waits for the alert, then until the others had their chance.
    async fn tells_only(&self, alert: &str) -> Result<()> {
        let firing = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
        self.prometheus.has(&firing).await?;
        self.prometheus.has(&format!("count_over_time({firing}[1h]) >= {ROUNDS}")).await?;
        assert_eq!(self.prometheus.fired(self.since).await?, [alert]);
        Ok(())
    }
}

/// A proxy that lets everything through.
async fn before_postgres(database: &Database) -> Result<Proxy> {
    let server: PgConnectOptions = database.url().parse()?;
    let address = tokio::net::lookup_host((server.get_host(), server.get_port())).await?.next();
    let proxy = Proxy::start(address.ok_or("Postgres has no address")?).await?;
    proxy.allow(usize::MAX >> 4);
    Ok(proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn pingone_down_is_told_as_that_alone() -> Result<()> {
    let (database, pingone) =
        (Database::create().await?, PingOne::start(simulator::Settings::default()).await?);
    let Some(scene) = Scene::start(database.url(), &pingone, &[], 5).await? else { return Ok(()) };
    pingone.simulator.fault_all(Fault::status(503));
    scene.tells_only("PingOneUnreachable").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_told_as_that_alone() -> Result<()> {
    let (database, pingone) =
        (Database::create().await?, PingOne::start(simulator::Settings::default()).await?);
    let Some(scene) = Scene::start(database.url(), &pingone, &[], 5).await? else { return Ok(()) };
    pingone.simulator.set_secret(CLIENT_ID, "another secret");
    pingone.simulator.revoke_tokens();
    scene.tells_only("PingOneCredentialRefused").await
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_down_is_told_as_that_alone() -> Result<()> {
    let (database, pingone) =
        (Database::create().await?, PingOne::start(simulator::Settings::default()).await?);
    let proxy = before_postgres(&database).await?;
    let through = database.through(proxy.address)?;
    let Some(scene) = Scene::start(&through, &pingone, &[], 5).await? else { return Ok(()) };
    // A port that nobody listens on any more.
    proxy.lead_to(TcpListener::bind("127.0.0.1:0")?.local_addr()?);
    proxy.cut();
    scene.tells_only("PostgresDown").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_postgres_is_told_as_that_alone() -> Result<()> {
    let (database, pingone) =
        (Database::create().await?, PingOne::start(simulator::Settings::default()).await?);
    let proxy = before_postgres(&database).await?;
    let through = database.through(proxy.address)?;
    let Some(scene) = Scene::start(&through, &pingone, &[], 2).await? else { return Ok(()) };
    proxy.delay(Duration::from_millis(400));
    scene.tells_only("PostgresSlow").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_queue_is_told_as_that_alone() -> Result<()> {
    let (database, pingone) =
        (Database::create().await?, PingOne::start(simulator::Settings::default()).await?);
    let slow = [("PINGONE_RATE_LIMIT", "2")];
    let Some(scene) = Scene::start(database.url(), &pingone, &slow, 5).await? else { return Ok(()) };
    scene.tells_only("QueueGrowing").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_is_told_as_that_alone() -> Result<()> {
    let (database, pingone) =
        (Database::create().await?, PingOne::start(simulator::Settings::default()).await?);
    let Some(scene) = Scene::start(database.url(), &pingone, &[], 5).await? else { return Ok(()) };
    scene.replicas[1].signal(Signal::KILL)?;
    scene.tells_only("ReplicaGone").await?;
    eventually("the other one has all lanes", async || {
        Ok(!scene.prometheus.query("sum(unblock_lanes_owned) == 256").await?.is_empty())
    })
    .await
}
