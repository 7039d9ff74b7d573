//! Replicas die, freeze and are stopped under load: nothing is lost, nothing is sent twice at once or too late.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use pingone_unblock::{
    device::EnvironmentId,
    proto::v1::{self, device_service_client::DeviceServiceClient},
    simulator::{self, Record},
};
use rustix::process::Signal;
use time::OffsetDateTime;
use tokio::{sync::watch, time::timeout};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::harness::{
    Result,
    database::Database,
    load::{Placed, bulk, bulk_request, device_in, requests_of, some_environment},
    process::Process,
    service::{PingOne, eventually},
};

const ENVIRONMENTS: usize = 6;
const JOBS_EACH: usize = 1_000;
const SETTINGS: [(&str, &str); 2] = [("PINGONE_RATE_LIMIT", "25"), ("PINGONE_MAX_IN_FLIGHT", "16")];
/// Longer than its lease, so that others send for its lanes.
const FROZEN: Duration = Duration::from_secs(30);
/// Two clocks of this machine, read one after the other.
const CLOCKS: Duration = Duration::from_millis(50);

/// Has a job recorded by whichever replica answers, however often it has to ask: always the same job.
async fn insist(clients: &[DeviceServiceClient<Channel>], environment: EnvironmentId) -> Result<Placed> {
    let device = device_in(environment)?;
    let asked = v1::UnblockRequest { request_id: Uuid::new_v4().to_string(), ..bulk_request(&device) };
    for client in clients.iter().cycle().take(200) {
        let calling = client.clone().unblock(asked.clone()).await;
        if let Ok(reply) = calling {
            return Ok(Placed { device, job: reply.into_inner().job.ok_or("no job")?.job_id });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("no replica took the job".into())
}

/// Calls all the time until told to stop; the jobs that were accepted.
async fn call_on(
    clients: Vec<DeviceServiceClient<Channel>>,
    environments: Vec<EnvironmentId>,
    stop: watch::Receiver<bool>,
) -> Result<Vec<Placed>> {
    let mut placed = Vec::new();
    for environment in environments.iter().cycle() {
        if *stop.borrow() {
            break;
        }
        placed.push(insist(&clients, *environment).await?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(placed)
}

async fn owners(database: &Database) -> Result<usize> {
    let pool = database.pool().await?;
    let owners: Vec<Option<Uuid>> =
        sqlx::query_scalar("select distinct owner from lane").fetch_all(&pool).await?;
    Ok(if owners.contains(&None) { 0 } else { owners.len() })
}

/// When each job ended, and how.
async fn ends(database: &Database) -> Result<HashMap<String, (OffsetDateTime, i16)>> {
    let pool = database.pool().await?;
    let rows: Vec<(Uuid, OffsetDateTime, i16)> =
        sqlx::query_as("select job_id, completed_at, state from outcome").fetch_all(&pool).await?;
    let count = rows.len();
    let ends: HashMap<_, _> = rows.into_iter().map(|(id, at, state)| (id.to_string(), (at, state))).collect();
    assert_eq!(ends.len(), count, "one outcome of each job");
    Ok(ends)
}

/// Requests that were under way at `at`.
fn under_way(requests: &[Record], at: Duration) -> HashSet<Uuid> {
    let under_way =
        requests.iter().filter(|one| one.arrived <= at && one.ended.is_none_or(|ended| ended >= at));
    under_way.filter_map(|one| one.device).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_die_freeze_and_stop_under_load_and_every_job_succeeds_once() -> Result<()> {
    let database = Database::create().await?;
    let started = (OffsetDateTime::now_utc(), std::time::Instant::now());
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let simulator = &pingone.simulator;
    simulator.set_latency(Duration::from_millis(100), Duration::from_millis(100));
    let serve = || Process::serve_with(database.url(), &pingone, &SETTINGS);
    let (killed, frozen, stopped) = (serve().await?, serve().await?, serve().await?);
    eventually("three share", async || Ok(owners(&database).await? == 3)).await?;

    let environments: Vec<_> = (0..ENVIRONMENTS).map(|_| some_environment()).collect();
    let mut placed = Vec::new();
    for (environment, process) in environments.iter().zip([&killed, &frozen, &stopped].into_iter().cycle()) {
        placed.extend(bulk(&process.devices()?, *environment, JOBS_EACH).await?);
    }
    let (stop, told) = watch::channel(false);
    let clients = [
        killed.devices_within(Duration::from_secs(2))?,
        stopped.devices_within(Duration::from_secs(2))?,
        frozen.devices_within(Duration::from_secs(2))?,
    ];
    let calling = tokio::spawn(call_on(clients.to_vec(), environments.clone(), told));

    simulator.arrived(simulator.counts().posts + 150).await;
    killed.signal(Signal::KILL)?;
    frozen.signal(Signal::STOP)?;
    let trouble = started.1.elapsed();
    // How long it is frozen is the point here, not a wait for something.
    tokio::time::sleep(FROZEN).await;
    frozen.signal(Signal::CONT)?;
    let awake = started.1.elapsed();
    let back = serve().await?;
    stopped.signal(Signal::TERM)?;
    let terminated = started.1.elapsed();
    assert!(timeout(Duration::from_secs(30), stopped.end()).await??.success());
    stop.send(true)?;
    placed.extend(calling.await??);

    let pool = database.pool().await?;
    eventually("every job ends", async || {
        let left: i64 =
            sqlx::query_scalar("select count(*) from ready where lane >= 0").fetch_one(&pool).await?;
        Ok(left == 0)
    })
    .await?;
    let ends = ends(&database).await?;
    assert_eq!(ends.len(), placed.len(), "every accepted job, and no other");
    assert!(ends.values().all(|(_, state)| *state == 3), "all succeeded");
    assert_eq!(simulator.counts().most_on_a_device, 1, "never two at once");

    let requests = simulator.requests();
    let unknown = &under_way(&requests, trouble) | &under_way(&requests, terminated);
    for one in &placed {
        let (ended_at, _) = ends[&one.job];
        let posts = simulator.counts_for(one.device.device).posts;
        let most = if unknown.contains(&one.device.device.as_uuid()) { 2 } else { 1 };
        assert!((1..=most).contains(&posts), "{posts} POSTs for a job that nobody had in flight");
        for request in simulator.requests_for(one.device.device).iter().filter(|request| request.is_post()) {
            assert!(started.0 + request.arrived <= ended_at + CLOCKS, "a POST after the end: {request:?}");
        }
    }
    for device in under_way(&requests, trouble) {
        let last = requests.iter().rfind(|request| request.device == Some(device)).ok_or("no request")?;
        let wait = last.arrived.saturating_sub(trouble);
        let of_device = simulator.requests_for(device.into());
        assert!(
            wait <= Duration::from_secs(25),
            "in flight at {trouble:?}, settled after {wait:?}: {of_device:#?}"
        );
    }
    for environment in &environments {
        let arrivals = requests_of(simulator, *environment);
        let longest =
            arrivals.windows(2).map(|two| two[1].arrived - two[0].arrived).max().unwrap_or_default();
        assert!(longest <= Duration::from_secs(8), "an environment waited {longest:?}");
        let stood = arrivals.windows(2).filter(|two| two[0].arrived >= awake);
        let longest = stood.map(|two| two[1].arrived - two[0].arrived).max().unwrap_or_default();
        assert!(longest <= Duration::from_secs(3), "hand-overs on purpose took {longest:?}");
        let busiest = simulator.busiest(Duration::from_secs(1), Some(*environment));
        // Of 25, and what a busy machine delays arrives with what comes after it. Two that send are twice as many.
        assert!(busiest <= 32, "{busiest} in a second: two replicas sent for one environment");
    }
    drop((killed, frozen, back));
    Ok(())
}
