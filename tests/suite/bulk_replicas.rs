//! Batches over several replicas: uploaded through one, sent by another, watched on a third, whichever of them dies.

use std::time::Duration;

use pingone_unblock::{
    device::EnvironmentId,
    proto::v1::{self, BatchHeader, batch::State, target_result::Outcome},
    simulator,
};
use rustix::process::Signal;
use uuid::Uuid;

use crate::harness::{
    Result,
    bulk::{Bulk, having, header, in_order, rows},
    database::Database,
    process::Process,
    service::{PingOne, eventually},
};

/// A pause is honoured within a second of its answer; and a request that had started then is on its way.
const HONOURED_WITHIN: Duration = Duration::from_millis(1100);

/// Three replicas of one database.
struct Three {
    processes: Vec<Process>,
    pingone: PingOne,
    database: Database,
}

impl Three {
    async fn start(rate: &str) -> Result<Self> {
        let database = Database::create().await?;
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let settings = [("PINGONE_RATE_LIMIT", rate), ("PINGONE_MAX_IN_FLIGHT", "16")];
        let mut processes = Vec::new();
        for _ in 0..3 {
            processes.push(Process::serve_with(database.url(), &pingone, &settings).await?);
        }
        let three = Self { processes, pingone, database };
        eventually("three share", async || Ok(three.owners().await?.len() == 3)).await?;
        Ok(three)
    }

    /// Who owns lanes, all of which are owned.
    async fn owners(&self) -> Result<Vec<Uuid>> {
        let pool = self.database.pool().await?;
        let owners: Vec<Option<Uuid>> =
            sqlx::query_scalar("select distinct owner from lane").fetch_all(&pool).await?;
        Ok(if owners.contains(&None) { Vec::new() } else { owners.into_iter().flatten().collect() })
    }

    /// Which replica sends for that environment.
    async fn owner_of(&self, environment: &str) -> Result<Uuid> {
        let lane = EnvironmentId::parse(environment)?.lane().number();
        let owner: Option<Uuid> = sqlx::query_scalar("select owner from lane where lane = $1")
            .bind(lane)
            .fetch_one(&self.database.pool().await?)
            .await?;
        Ok(owner.ok_or("nobody owns the lane")?)
    }

    fn bulk_at(&self, at: usize, header: &BatchHeader) -> Result<Bulk> {
        Ok(Bulk::over(&self.processes[at].channel()?, header.clone()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_ends_exactly_though_its_owner_is_killed() -> Result<()> {
    let mut three = Three::start("400").await?;
    // One batch for each replica, whoever it is: one of them dies.
    let mut headers: Vec<BatchHeader> = Vec::new();
    let mut owners = Vec::new();
    while headers.len() < 3 {
        let header = header();
        let owner = three.owner_of(&header.environment_id).await?;
        if !owners.contains(&owner) {
            owners.push(owner);
            headers.push(header);
        }
    }
    let mut follows = Vec::new();
    for (at, header) in headers.iter().enumerate() {
        // Uploaded through one that lives, and followed on another.
        three.bulk_at(1 + at % 2, header)?.upload(&rows(2500)).await?;
        let followed = three.bulk_at(2 - at % 2, header)?;
        follows.push(tokio::spawn(async move {
            let asked = v1::StreamBatchResultsRequest { follow: true, ..followed.asks_results() };
            followed.stream(asked).await
        }));
    }
    let simulator = &three.pingone.simulator;
    simulator.arrived(1500).await;
    three.processes[0].signal(Signal::KILL)?;
    three.processes.remove(0);
    for (header, follow) in headers.iter().zip(follows) {
        let bulk = three.bulk_at(0, header)?;
        let (batch, results) = bulk.ended(State::Done).await?;
        assert_eq!(batch.succeeded_count, 2500, "{batch:?}");
        assert_eq!(having(&results, Outcome::Unblocked).len(), 2500);
        assert_eq!(in_order(&follow.await??), results, "as it was followed");
        let (elsewhere, same) = three.bulk_at(1, header)?.ended(State::Done).await?;
        assert_eq!((elsewhere, same), (batch, results), "on every replica");
    }
    assert_eq!(simulator.counts().most_on_a_device, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_any_replica_is_honoured_by_the_owner() -> Result<()> {
    let three = Three::start("100").await?;
    let header = header();
    let everywhere: Vec<Bulk> = (0..3).map(|at| three.bulk_at(at, &header)).collect::<Result<_>>()?;
    everywhere[0].upload(&rows(900)).await?;
    let simulator = &three.pingone.simulator;
    let mut quiet = Vec::new();
    for bulk in &everywhere {
        let sent = simulator.counts().posts;
        simulator.arrived(sent + 20).await;
        assert_eq!(bulk.pause().await?.state(), State::Paused);
        let paused = simulator.counts().posts;
        tokio::time::sleep(HONOURED_WITHIN).await;
        let honoured = simulator.counts().posts;
        assert!(honoured - paused <= 115, "{} were sent", honoured - paused);
        // As long again, and nothing more.
        tokio::time::sleep(HONOURED_WITHIN).await;
        quiet.push(simulator.counts().posts - honoured);
        for other in &everywhere {
            assert_eq!(other.get().await?.state(), State::Paused);
        }
        everywhere[1].exact().await?;
        bulk.resume().await?;
    }
    assert_eq!(quiet, [0, 0, 0], "requests a second after each pause");
    let (batch, _) = everywhere[2].ended(State::Done).await?;
    assert_eq!((batch.succeeded_count, simulator.counts().posts), (900, 900));

    let other = BatchHeader { batch_id: "other".to_owned(), ..header };
    let at_each: Vec<Bulk> = (0..3).map(|at| three.bulk_at(at, &other)).collect::<Result<_>>()?;
    at_each[1].upload(&rows(900)).await?;
    simulator.arrived(920).await;
    at_each[2].cancel().await?;
    let (batch, _) = at_each[0].ended(State::Cancelled).await?;
    assert!(batch.cancelled_count > 0, "{batch:?}");
    assert_eq!(batch.cancelled_count + batch.succeeded_count, 900);
    assert_eq!(simulator.counts().posts, 900 + u64::try_from(batch.succeeded_count)?);
    Ok(())
}
