//! A cluster of a test's own, for tests that stop, kill and restart PostgreSQL.

use std::{fs::Permissions, net::TcpListener, os::unix::fs::PermissionsExt as _};

use pingone_unblock::postgres::{Cluster, Options, PostgresError};
use tempfile::TempDir;

use super::Result;

/// A temporary folder that PostgreSQL's user can reach, also where root runs the tests.
pub(crate) fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("unblock-").permissions(Permissions::from_mode(0o711)).tempdir()?)
}

/// A durable cluster that keeps its folder and its port when it is restarted.
pub(crate) struct OwnCluster {
    // Dropped in this order: the folder goes when the server is gone.
    running: Option<Cluster>,
    options: Options,
    _folder: TempDir,
}

impl OwnCluster {
    /// Starts it.
    pub(crate) async fn start() -> Result<Self> {
        let folder = folder()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let options = Options { port: Some(port), ..Options::new(folder.path()) };
        let running = Some(Cluster::start(options.clone()).await?);
        Ok(Self { running, options, _folder: folder })
    }

    /// The server; none while it is stopped.
    pub(crate) const fn running(&self) -> Option<&Cluster> {
        self.running.as_ref()
    }

    /// Stops it, as an administrator would.
    pub(crate) async fn stop(&mut self) -> Result<(), PostgresError> {
        match self.running.take() {
            Some(cluster) => cluster.stop().await,
            None => Ok(()),
        }
    }

    /// Stops it if it runs and starts it again: same data, same address.
    pub(crate) async fn restart(&mut self) -> Result<(), PostgresError> {
        self.stop().await?;
        self.running = Some(Cluster::start(self.options.clone()).await?);
        Ok(())
    }
}
