//! An engine with its doors, and no gRPC before it: what callers may have done comes with each actor.

use std::{collections::HashMap, sync::Arc};

use pingone_unblock::{
    engine::{Control, Engine, Limits, QueueLimits, Route, Routes, Settings, Submitter},
    simulator,
    store::{Access, Role, Store},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    Result,
    database::Database,
    service::{PingOne, eventually},
};

pub(super) struct Replica {
    pub(super) submitter: Submitter,
    pub(super) control: Control,
    pub(super) store: Store,
    pub(super) pingone: PingOne,
    stop: CancellationToken,
    _running: JoinHandle<()>,
}

impl Replica {
    pub(super) async fn start(database: &Database, role: Role) -> Result<Self> {
        Self::at(database.url(), role).await
    }

    pub(super) async fn at(url: &str, role: Role) -> Result<Self> {
        let access = Access {
            url: url.to_owned().into(),
            direct_url: url.to_owned().into(),
            pooled: false,
            connections: 8,
        };
        let settings = simulator::Settings { strict: true, ..simulator::Settings::default() };
        let pingone = PingOne::start(settings).await?;
        let limits = Limits { rate: 1000.0, max_in_flight: 200 };
        let route = Route { client: pingone.client(simulator::CLIENT_SECRET)?, limits, limit_group: None };
        let routes = Routes {
            own: HashMap::new(),
            default: Some(route),
            default_serves: None,
            limit_groups: HashMap::new(),
            elsewhere: false,
        };
        let queue = QueueLimits { interactive: 1_000_000, bulk: 1_000_000 };
        let store = Store::new(&access)?;
        let settings = Settings { queue, ..Settings::new(role, routes) };
        let (engine, submitter, control) = Engine::new(store.clone(), settings, Arc::default());
        let (stop, joined) = (CancellationToken::new(), engine.joined());
        let running = tokio::spawn(engine.run(stop.clone()));
        joined.cancelled().await;
        Ok(Self { submitter, control, store, pingone, stop, _running: running })
    }

    /// The first of a database, which it brings up to date.
    pub(super) async fn migrated(url: &str) -> Result<Self> {
        let url_of = || url.to_owned().into();
        let access = Access { url: url_of(), direct_url: url_of(), pooled: false, connections: 2 };
        Store::new(&access)?.migrate().await?;
        Self::at(url, Role::Api).await
    }

    /// Once it knows how many live.
    pub(super) async fn sees(&self, replicas: usize) -> Result<()> {
        let seen = self.control.replicas();
        eventually("all replicas are seen", async || {
            Ok(seen.load(std::sync::atomic::Ordering::Relaxed) == replicas)
        })
        .await
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_replica_knows_how_many_share_a_bound() -> Result<()> {
    let database = Database::create().await?;
    let first = Replica::start(&database, Role::Api).await?;
    first.sees(1).await?;
    let second = Replica::start(&database, Role::All).await?;
    second.sees(2).await?;
    first.sees(2).await?;
    drop(second);
    first.sees(1).await
}
