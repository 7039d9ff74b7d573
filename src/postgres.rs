//! A private PostgreSQL cluster for `demo` and the tests: found, made, started and ended. Not for production.
//!
//! The server is a child of this process and ends with it, however it ends: [`Cluster::stop`], a drop, or, where the
//! kernel can tell a child of its parent's death (Linux), a `kill -9`. Elsewhere the next start on the folder ends it.

mod account;
mod earlier;
mod error;
mod folder;
mod programs;
mod server;
mod tie;

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret as _, SecretString};

use folder::{Folder, Lock};
use programs::Programs;
use server::{Outcome, Server, Settings};

pub use error::PostgresError;

/// The superuser of every cluster.
const USER: &str = "postgres";
/// How long a start may take, crash recovery included.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a start that failed for a reason that passes is tried again.
const RETRY_LIMIT: Duration = Duration::from_secs(15);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Which cluster to start, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that holds the cluster, its password and its sockets. Made if it is not there.
    pub data: PathBuf,
    /// Whether a commit survives a crash of the machine. `false` is for throw-away tests.
    pub durable: bool,
    /// How many sessions it allows at once.
    pub max_connections: u16,
    /// The port on 127.0.0.1. Without one any free port is taken, another one at each start.
    pub port: Option<u16>,
    /// The folder of PostgreSQL's programs. Without one they are searched for: `PG_BIN_DIR`, `PATH`, the usual folders.
    pub programs: Option<PathBuf>,
}

impl Options {
    /// A durable cluster in `data`, on any free port, of the programs found.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), durable: true, max_connections: 100, port: None, programs: None }
    }
}

/// A running server. Dropping it ends the server and waits for that, for a fraction of a second as a rule; where
/// blocking matters use [`Cluster::stop`].
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: the lock is given back when the server is gone.
    server: Server,
    folder: Folder,
    port: u16,
    password: SecretString,
    _lock: Lock,
}

impl Cluster {
    /// Starts the cluster of the folder, making it at the first start, and returns when it answers.
    ///
    /// Runs also as root, who may not run PostgreSQL: then the server runs as the owner of the cluster, else as
    /// `postgres` or `nobody`, and lives in a folder of its own where that user can not reach the one asked for.
    ///
    /// # Errors
    /// [`PostgresError`] says what is in the way and what to do about it.
    pub async fn start(options: Options) -> Result<Self, PostgresError> {
        blocking(move || start(&options)).await
    }

    /// The address of a database as sqlx and psql take it. It holds the password. The database `postgres` is always there.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let (password, port) = (self.password.expose_secret(), self.port);
        format!("postgres://{USER}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// The port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The folder it lives in: the one asked for, unless the server's user could not reach that.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.root()
    }

    /// Ends the server and returns when it is gone. Open sessions are cut off, committed work is kept.
    ///
    /// # Errors
    /// [`PostgresError::Stuck`] if even SIGKILL did not end it.
    pub async fn stop(self) -> Result<(), PostgresError> {
        blocking(move || match self.server.end() {
            true => Ok(()),
            false => Err(PostgresError::Stuck { pid: self.server.pid() }),
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PostgresError> + Send + 'static,
) -> Result<T, PostgresError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(PostgresError::io("run", "", cancelled.into())),
        },
    }
}

fn start(options: &Options) -> Result<Cluster, PostgresError> {
    let folder = Folder::settle(&options.data)?;
    let lock = folder.lock()?;
    let programs = Programs::find(options.programs.as_deref(), folder.account(), folder.major()?)?;
    earlier::end(&folder)?;
    let password = folder.initialise(&programs, options.durable)?;
    let (server, port) = launch(&folder, &programs, options)?;
    tracing::debug!(port, pid = server.pid(), folder = %folder.root().display(), "PostgreSQL answers");
    Ok(Cluster { server, folder, port, password, _lock: lock })
}

/// A free port may be taken before the server has it, and shared memory of a killed server lives on until its last session
/// is gone: both pass, so both are tried again.
fn launch(folder: &Folder, programs: &Programs, options: &Options) -> Result<(Server, u16), PostgresError> {
    let begun = Instant::now();
    loop {
        let port = match options.port {
            Some(port) => port,
            None => {
                free_port().map_err(|source| PostgresError::io("find a free port on", "127.0.0.1", source))?
            }
        };
        let settings = Settings { durable: options.durable, max_connections: options.max_connections, port };
        let server = Server::spawn(folder, programs, &settings)?;
        match server.wait_until_ready(folder, START_LIMIT) {
            Outcome::Ready => return Ok((server, port)),
            Outcome::Ended { log } if server::passes(&log) && begun.elapsed() < RETRY_LIMIT => {
                thread::sleep(RETRY_PAUSE);
            }
            Outcome::Ended { log } | Outcome::TooSlow { log } => {
                return Err(PostgresError::Start { folder: folder.root().to_owned(), log });
            }
        }
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
