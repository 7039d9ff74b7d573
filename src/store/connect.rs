//! Connections, and the shape of the database behind them.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};

use super::{StoreError, error::why, vault::Vault};
use crate::{
    device::LANES,
    redact::Redacted,
    telemetry::metrics::{Connections, timed},
};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// A caller waits for a connection at most this long: it rather hears that Postgres is not available.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Statements are short; one that is not would hold up its whole batch.
const STATEMENT_TIMEOUT: &str = "5s";
const LOCK_TIMEOUT: &str = "3s";
/// Every statement but the sweep looks a few rows up by key, whatever the planner believes of tables that grow and shrink by the
/// second: a plan made while a table was small must not be kept for when it is large.
pub const PLANNING: [(&str, &str); 7] = [
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_memoize", "off"),
];

/// Where Postgres is and how to speak to it.
#[derive(Debug, Clone)]
pub struct Access {
    /// The address for all statements.
    pub url: SecretString,
    /// The address for LISTEN and migrations, which a transaction pooler does not carry.
    pub direct_url: SecretString,
    /// Whether a transaction pooler stands in between: no statement cache, no settings of the session.
    pub pooled: bool,
    /// How many connections at most, two or more: a quarter of them is for what callers read.
    pub connections: u32,
}

impl Access {
    /// For all statements.
    fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = options(&self.url)?;
        if self.pooled {
            return Ok(options.statement_cache_capacity(0));
        }
        let timeouts = [("statement_timeout", STATEMENT_TIMEOUT), ("lock_timeout", LOCK_TIMEOUT)];
        Ok(options.options(timeouts.into_iter().chain(PLANNING)))
    }
}

fn options(url: &SecretString) -> Result<PgConnectOptions, StoreError> {
    Ok(PgConnectOptions::from_str(url.expose_secret())
        .map_err(|error| StoreError::Address(why(&error)))?
        .application_name("pingone-unblock")
        // Asked for every statement whether it is logged, the subscriber forgets other events (per-layer filters).
        .disable_statement_logging())
}

/// All that this service knows, in Postgres. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// For the engine.
    pub(super) pool: PgPool,
    /// For what callers read: however much they read, results find a connection to be saved on.
    pub(super) reading: PgPool,
    direct: Arc<RwLock<PgConnectOptions>>,
    /// What answers are encrypted with.
    pub(super) vault: Arc<Vault>,
}

/// What [`Store::migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Number and name of each migration that was run now, in order.
    pub applied: Vec<(i64, String)>,
    /// The number of the newest migration.
    pub version: i64,
}

/// Without how it connects: sqlx's options print the password.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Prepares to connect. Nothing is sent yet: a Postgres that is down is waited for by the statements.
    ///
    /// # Errors
    /// [`StoreError::Address`] when a URL cannot be used.
    pub fn new(access: &Access) -> Result<Self, StoreError> {
        let (options, direct) = (access.options()?, options(&access.direct_url)?);
        let reading = (access.connections / 4).max(1);
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                // A connection that broke while it was idle fails the statement, which is tried again or told as unavailable;
                // asking before each statement would cost a round trip each.
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        Ok(Self {
            pool: pool((access.connections - reading).max(1)),
            reading: pool(reading),
            direct: Arc::new(RwLock::new(direct)),
            vault: Arc::default(),
        })
    }

    /// Whether `access` can be used at all.
    ///
    /// # Errors
    /// [`StoreError::Address`] when a URL cannot be used.
    pub fn check_addresses(access: &Access) -> Result<(), StoreError> {
        access.options().and_then(|_| options(&access.direct_url)).map(drop)
    }

    /// Connects by `access` from now on, as with another password. Connections that are there stay.
    ///
    /// # Errors
    /// [`StoreError::Address`] when a URL cannot be used: then nothing changes.
    pub fn reconnect(&self, access: &Access) -> Result<(), StoreError> {
        let (options, direct) = (access.options()?, options(&access.direct_url)?);
        self.pool.set_connect_options(options.clone());
        self.reading.set_connect_options(options);
        *self.direct.write().unwrap_or_else(PoisonError::into_inner) = direct;
        Ok(())
    }

    fn direct(&self) -> PgConnectOptions {
        self.direct.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Brings the database up to date.
    ///
    /// # Errors
    /// [`StoreError::SchemaNewer`] when it is newer than this binary; [`StoreError::Migration`] when a migration fails.
    pub async fn migrate(&self) -> Result<Migrated, StoreError> {
        // First, since a pool would only say that it waited in vain.
        self.check_reachable().await?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(self.direct())
            .await?;
        let before = applied(&mut *pool.acquire().await?).await?;
        if let Some(&unknown) = before.iter().find(|version| !MIGRATIONS.version_exists(**version)) {
            return Err(StoreError::SchemaNewer { unknown });
        }
        MIGRATIONS.run(&pool).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(cause) => StoreError::from(cause),
            other => StoreError::Migration(Redacted::of(&other.to_string(), 300)),
        })?;
        pool.close().await;
        let fresh = MIGRATIONS.iter().filter(|migration| !before.contains(&migration.version));
        Ok(Migrated {
            applied: fresh.map(|migration| (migration.version, migration.description.to_string())).collect(),
            version: newest(),
        })
    }

    /// Checks that the database is as this binary expects it.
    ///
    /// # Errors
    /// [`StoreError::SchemaOlder`], [`StoreError::SchemaNewer`] or [`StoreError::Lanes`] when it is not.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let there = applied(&mut connection).await?;
        if let Some(&unknown) = there.iter().find(|version| !MIGRATIONS.version_exists(**version)) {
            return Err(StoreError::SchemaNewer { unknown });
        }
        if let Some(missing) = MIGRATIONS.iter().find(|migration| !there.contains(&migration.version)) {
            return Err(StoreError::SchemaOlder { missing: missing.version });
        }
        let found = sqlx::query_scalar!("select value from fixed_setting where name = 'lanes'")
            .fetch_optional(&mut *connection)
            .await?
            .unwrap_or_default();
        if found != LANES.to_string() {
            return Err(StoreError::Lanes { found });
        }
        Ok(())
    }

    /// Whether Postgres can be reached, and if not, why.
    ///
    /// # Errors
    /// [`StoreError`] with what stood in the way.
    pub async fn check_reachable(&self) -> Result<(), StoreError> {
        let direct = self.direct();
        let connecting = PgConnection::connect_with(&direct);
        match tokio::time::timeout(ACQUIRE_TIMEOUT, connecting).await {
            Ok(connection) => Ok(connection?.close().await?),
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    /// Asks Postgres for anything at all.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not answer.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query!("select 1 as one").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// How many connections there are now.
    #[must_use]
    pub fn connections(&self) -> [Connections; 2] {
        [("engine", &self.pool), ("reading", &self.reading)].map(|(name, pool)| Connections {
            pool: name,
            open: pool.size(),
            idle: pool.num_idle(),
            max: pool.options().get_max_connections(),
        })
    }

    /// Says `payload` to every replica that listens: by itself, in no other transaction, since Postgres lets only one
    /// transaction with a notification commit at a time.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it; it was only a hint.
    pub async fn notify(&self, payload: &str) -> Result<(), StoreError> {
        let _timed = timed("notify");
        sqlx::query!("select pg_notify($1, $2)", CHANNEL, payload).execute(&self.pool).await?;
        Ok(())
    }

    /// Listens to what other replicas [`notify`](Self::notify).
    ///
    /// # Errors
    /// [`StoreError`] when there is no direct connection.
    pub async fn listen(&self) -> Result<PgListener, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_with(self.direct())
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// Gives all connections back.
    pub async fn close(&self) {
        self.reading.close().await;
        self.pool.close().await;
    }
}

const CHANNEL: &str = "pingone_unblock";

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The migrations that the database has; none where it never saw one.
async fn applied(connection: &mut PgConnection) -> Result<Vec<i64>, StoreError> {
    let known = sqlx::query_scalar!("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await?
        .unwrap_or(false);
    if !known {
        return Ok(Vec::new());
    }
    // Not a checked query: the table is sqlx's own and appears with the first migration.
    let applied = sqlx::query_scalar("select version from _sqlx_migrations where success order by version")
        .fetch_all(connection)
        .await?;
    Ok(applied)
}
