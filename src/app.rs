//! The server as a whole: acquires, starts its parts, watches over their health, drains with a deadline.

mod admin;
mod assemble;
mod log;
mod policy;
mod readiness;
mod reloads;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Server, Services},
    auth::Authenticator,
    device::EnvironmentId,
    engine::{self, Engine, Routes},
    job::{Actor, Caller},
    reload::ReloadError,
    store::{Access, Role, Store, StoreError},
    telemetry::{Levels, metrics},
    watch::Watch,
};

pub use assemble::{access, routes, store};
pub use policy::policy;
pub use readiness::Readiness;
pub use reloads::Reloads;

/// What the server is made of.
#[derive(Debug)]
pub struct Settings {
    /// Where Postgres is.
    pub access: Access,
    /// Whether the database is brought up to date at the start.
    pub migrate: bool,
    /// Whether all sending is paused before any is begun.
    pub hold: bool,
    /// How jobs are sent.
    pub engine: engine::Settings,
    /// What the gRPC port is like.
    pub api: api::Options,
    /// Who is let in.
    pub admission: api::Admission,
    /// What is read anew while it runs.
    pub reloads: Reloads,
}

/// Why the server could not start, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The database cannot be used, now or ever.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A credential no client can be made of.
    #[error(transparent)]
    PingOne(#[from] crate::pingone::PingOneError),
    /// A file of which nothing can be made.
    #[error(transparent)]
    Reload(#[from] ReloadError),
    /// Issuers that no tokens can be verified of.
    #[error(transparent)]
    Tokens(#[from] crate::auth::token::TokensError),
    /// The compiled contract is damaged.
    #[error("the contract for reflection is damaged: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The server, ready to run.
#[derive(Debug)]
pub struct App {
    store: Store,
    preparation: Preparation,
    role: Role,
    grace: Duration,
    engine: Engine,
    server: Server,
    readiness: Readiness,
    reloads: Reloads,
    levels: Option<Levels>,
    authenticator: Authenticator,
    denials: api::Denials,
    draining: CancellationToken,
}

/// What is done to the database before it is used.
#[derive(Debug)]
struct Preparation {
    migrate: bool,
    hold: bool,
    /// Made known at once, so that they are listed before their first job.
    environments: Vec<EnvironmentId>,
}

/// Where the server listens. Handed in, so that tests can choose any free port.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For `/livez`, `/readyz` and `/log`.
    pub admin: TcpListener,
}

const START_AGAIN_FIRST: Duration = Duration::from_millis(200);
const START_AGAIN_LONGEST: Duration = Duration::from_secs(5);
/// Connections end within this after the engine has drained.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl App {
    /// Puts the server together. Nothing is sent yet; a Postgres that is down is waited for when it runs.
    ///
    /// # Errors
    /// [`AppError`] when a setting cannot be used.
    pub async fn build(settings: Settings) -> Result<Self, AppError> {
        let (store, reloads) = settings.reloads.applied_to(Store::new(&settings.access)?);
        let connections = store.clone();
        metrics().postgres.watch_connections(move || connections.connections());
        let policy = settings.admission.policy.clone();
        metrics().security.watch_policy(move || policy.get().version().to_string());
        let (role, grace) = (settings.engine.role, settings.engine.grace);
        let preparation = Preparation {
            migrate: settings.migrate,
            hold: settings.hold,
            environments: named(&settings.engine.routes),
        };
        let watch = Arc::new(Watch::default());
        let (engine, submitter, control) = Engine::new(store.clone(), settings.engine, Arc::clone(&watch));
        let draining = CancellationToken::new();
        let readiness = Readiness::default();
        let services =
            Services { submitter, control, store: store.clone(), watch, draining: draining.clone() };
        let authenticator = settings.admission.authenticator.clone();
        let denials = settings.admission.denials.clone();
        let server = Server::new(services, settings.api, settings.admission, readiness.gate()).await?;
        Ok(Self {
            store,
            preparation,
            role,
            grace,
            engine,
            server,
            readiness,
            reloads,
            levels: None,
            authenticator,
            denials,
            draining,
        })
    }

    /// Whether calls are answered, and why not.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Has the admin port show and change what is logged.
    #[must_use]
    pub fn with_levels(self, levels: Levels) -> Self {
        Self { levels: Some(levels), ..self }
    }

    /// Answers and sends until `shutdown`, then drains within the grace period.
    ///
    /// # Errors
    /// [`AppError::Store`] when the database is not this service's or of another version.
    pub async fn run(self, listeners: Listeners, shutdown: CancellationToken) -> Result<(), AppError> {
        let stopped = CancellationToken::new();
        let _stop_helpers = stopped.clone().drop_guard();
        let admin = admin::run(listeners.admin, self.readiness.clone(), self.levels, stopped.clone());
        let admin = tokio::spawn(admin);
        let _reloading = self.reloads.run(&stopped);
        tokio::spawn(self.authenticator.run(stopped.clone()));
        let denials = tokio::spawn(self.denials.run(self.store.clone(), stopped.clone()));
        let health = self.server.health();
        let close_connections = CancellationToken::new();
        let answering = self
            .role
            .answers()
            .then(|| tokio::spawn(self.server.run(listeners.grpc, close_connections.clone())));

        let started = tokio::select! {
            started = prepare(&self.store, &self.preparation, &self.readiness) => started.map(|()| true),
            () = shutdown.cancelled() => Ok(false),
        };
        if matches!(started, Ok(true)) {
            let joined = self.engine.joined();
            let engine = tokio::spawn(self.engine.run(shutdown.child_token()));
            tokio::select! {
                () = joined.cancelled() => self.readiness.prepared(),
                () = shutdown.cancelled() => {}
            }
            let watching = tokio::spawn(readiness::watch(
                self.store.clone(),
                self.readiness.clone(),
                health.clone(),
                stopped.clone(),
            ));
            shutdown.cancelled().await;
            let since = Instant::now();
            tracing::info!("draining: nothing new is taken");
            watching.abort();
            self.readiness.draining();
            health.set(false).await;
            self.draining.cancel();
            close_connections.cancel();
            // Not the error: it quotes the panic, which was logged where it was.
            if engine.await.is_err() {
                tracing::error!("the engine died");
            }
            tracing::info!(elapsed_s = since.elapsed().as_secs_f64(), "drained");
        }
        close_connections.cancel();
        if let Some(answering) = answering {
            let limit = LAST_WORDS.min(self.grace);
            let abort = answering.abort_handle();
            if tokio::time::timeout(limit, answering).await.is_err() {
                abort.abort();
                tracing::warn!("connections that did not end were cut");
            }
        }
        stopped.cancel();
        let _ = admin.await;
        let _ = tokio::time::timeout(LAST_WORDS.min(self.grace), denials).await;
        self.store.close().await;
        started.map(drop).map_err(AppError::from)
    }
}

/// Waits for a database that is as this version needs it.
async fn prepare(store: &Store, preparation: &Preparation, readiness: &Readiness) -> Result<(), StoreError> {
    let mut wait = START_AGAIN_FIRST;
    loop {
        match preparation.run_once(store).await {
            Ok(()) => return Ok(()),
            Err(error @ (StoreError::Unavailable(_) | StoreError::SchemaOlder { .. })) => {
                tracing::warn!(%error, "waiting for the database");
                readiness.not_prepared(&error);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(START_AGAIN_LONGEST);
            }
            Err(error) => return Err(error),
        }
    }
}

impl Preparation {
    async fn run_once(&self, store: &Store) -> Result<(), StoreError> {
        if self.migrate {
            let migrated = store.migrate().await?;
            for (version, name) in &migrated.applied {
                tracing::info!(version, name, "migrated");
            }
        }
        store.check_schema().await?;
        if store.may_change_audit().await? {
            tracing::warn!(
                "this role of the database may change the audit trail: serve with one that owns no table, as deploy/postgres/roles.sql makes it"
            );
        }
        if self.hold {
            store.pause_everything(&operator(), "held at the start: look at `job list` first").await?;
            tracing::warn!("all sending is paused, on every replica, until `env resume --all`");
        }
        store.register_environments(&self.environments).await
    }
}

/// Whoever starts this process has it hold.
fn operator() -> Actor {
    let caller = Caller::named("serve --hold").unwrap_or_else(Caller::anonymous);
    Actor { caller, ..Actor::anonymous() }
}

/// The environments that are configured by their ids.
fn named(routes: &Routes) -> Vec<EnvironmentId> {
    let own: HashSet<EnvironmentId> = routes.own.keys().copied().collect();
    own.union(&routes.default_serves.clone().unwrap_or_default()).copied().collect()
}
