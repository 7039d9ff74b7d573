//! A database for each test: fresh, migrated, its own, gone with it.

use std::{net::SocketAddr, path::Path, thread};

use pingone_unblock::store::{Access, Store};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use super::{Result, shared};

/// Any number that all processes share: who makes the template holds it as an advisory lock.
const MAKING_TEMPLATE: i64 = 0x7465_6d70_6c61_7465;

/// A database. Dropping this drops it, whoever is still connected.
pub(crate) struct Database {
    server: String,
    name: String,
    url: String,
}

impl Database {
    /// A database with all migrations.
    pub(crate) async fn create() -> Result<Self> {
        let server = tokio::task::spawn_blocking(shared::address).await??;
        let mut connection = PgConnection::connect(&server).await?;
        let template = template(&mut connection, &server).await?;
        let name = format!("test_{}", Uuid::now_v7().simple());
        copy(&mut connection, &name, &template).await?;
        connection.close().await?;
        let url = url_of(&server, &name)?;
        Ok(Self { server, name, url })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its address by way of a proxy.
    pub(crate) fn through(&self, proxy: SocketAddr) -> Result<String> {
        use sqlx::ConnectOptions as _;
        let options: PgConnectOptions = self.url.parse()?;
        Ok(options.host(&proxy.ip().to_string()).port(proxy.port()).to_url_lossy().into())
    }

    /// What the service keeps in it.
    pub(crate) fn store(&self) -> Result<Store> {
        let url = SecretString::from(self.url.clone());
        Ok(Store::new(&Access { direct_url: url.clone(), url, pooled: false, connections: 20 })?)
    }

    /// Connections to it.
    pub(crate) async fn pool(&self) -> Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(8).connect(&self.url).await?)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A drop can not wait for a future, and the test's runtime may be ending.
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await?;
                run(&mut connection, format!("drop database if exists {name} with (force)")).await
            })
        });
        // What is left goes with the cluster.
        let _: thread::Result<Result<()>> = dropping.join();
    }
}

/// The migrations as they stand in the folder now, not when this was compiled. None while there is no folder.
async fn migrations() -> Result<Migrator> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    match folder.exists() {
        true => Ok(Migrator::new(folder).await?),
        false => Ok(Migrator::with_migrations(Vec::new())),
    }
}

/// The name of a migrated database to copy, made by the first who needs it. Under its name it is always whole.
async fn template(connection: &mut PgConnection, server: &str) -> Result<String> {
    let migrations = migrations().await?;
    let digest = migrations.iter().fold(Sha256::new(), |digest, migration| {
        digest.chain_update(migration.version.to_be_bytes()).chain_update(&migration.checksum)
    });
    let hex: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("template_{hex}");

    sqlx::query("select pg_advisory_lock($1)").bind(MAKING_TEMPLATE).execute(&mut *connection).await?;
    let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(&name)
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        let making = format!("{name}_making");
        run(connection, format!("drop database if exists {making} with (force)")).await?;
        run(connection, format!("create database {making}")).await?;
        let mut inside = PgConnection::connect(&url_of(server, &making)?).await?;
        migrations.run(&mut inside).await?;
        inside.close().await?;
        run(connection, format!("alter database {making} rename to {name}")).await?;
    }
    sqlx::query("select pg_advisory_unlock($1)").bind(MAKING_TEMPLATE).execute(&mut *connection).await?;
    Ok(name)
}

/// Copies files instead of writing every page to the log, where the server (15 or newer) knows both ways; 14 copies always.
async fn copy(connection: &mut PgConnection, name: &str, template: &str) -> Result<()> {
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut *connection)
        .await?;
    let strategy = if version >= 150_000 { "strategy file_copy" } else { "" };
    run(connection, format!("create database {name} template {template} {strategy}")).await
}

/// Names can not be bound. These are made here, of lower case letters, digits and underscores.
async fn run(connection: &mut PgConnection, statement: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

fn url_of(server: &str, database: &str) -> Result<String> {
    use sqlx::ConnectOptions as _;
    let options: PgConnectOptions = server.parse()?;
    Ok(options.database(database).to_url_lossy().into())
}
