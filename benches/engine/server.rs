//! The benchmark's own Postgres: durable or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use pingone_unblock::postgres::{Cluster, Options};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{child, database::Database, usage};

/// A running cluster, gone with its folder when [`stop`](Self::stop)ped.
pub(crate) struct Server {
    cluster: Cluster,
    programs: PathBuf,
    version: String,
}

impl Server {
    /// A fresh cluster in `folder`, with Postgres's own defaults.
    ///
    /// # Errors
    /// Also when a commit would not survive a crash: then there is nothing to measure.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        let options = Options { max_connections: 200, ..Options::new(folder) };
        let cluster = Cluster::start(options).await?;
        let mut connection = PgConnection::connect(&cluster.url("postgres")).await?;
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&mut connection)
                .await?;
            ensure!(value == "on", "{setting} is {value}: what is measured would not be durable");
        }
        // What was written while measuring is read afterwards.
        connection.execute("alter system set wal_keep_size = '8GB'").await?;
        connection.execute("select pg_reload_conf()").await?;
        let programs: String = sqlx::query_scalar("select setting from pg_config() where name = 'BINDIR'")
            .fetch_one(&mut connection)
            .await?;
        let version = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(Self { cluster, programs: programs.into(), version })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn folder(&self) -> &Path {
        self.cluster.folder()
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    /// One of the programs that came with it; none where this installation lacks it.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        Some(self.programs.join(name)).filter(|program| program.is_file())
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        usage::family_cpu_seconds(self.cluster.pid())
    }

    /// A database as this build of the service wants it.
    pub(crate) async fn database(&self, binary: &Path) -> Result<Database> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        connection.execute("drop database if exists bench with (force)").await?;
        connection.execute("create database bench").await?;
        connection.close().await?;
        let url = self.url("bench");
        let said = child::command(binary).arg("migrate").env("UNBLOCK_DATABASE_URL", &url).output().await?;
        ensure!(said.status.success(), "migrate: {}", String::from_utf8_lossy(&said.stderr));
        Database::open(&url).await
    }

    /// Drops it again, so that the next scenario shares nothing with it.
    pub(crate) async fn drop_database(&self) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        connection.execute("drop database if exists bench with (force)").await?;
        connection.execute("checkpoint").await?;
        Ok(connection.close().await?)
    }

    /// Has all that was written so far in its place, so that it is not written while something is measured.
    pub(crate) async fn checkpoint(&self) -> Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        connection.execute("checkpoint").await?;
        Ok(connection.close().await?)
    }

    pub(crate) async fn stop(self) -> Result<()> {
        let folder = self.cluster.folder().to_owned();
        self.cluster.stop().await?;
        Ok(std::fs::remove_dir_all(folder)?)
    }
}
