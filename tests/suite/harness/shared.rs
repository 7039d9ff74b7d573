//! One throw-away cluster for all tests, also where each test is a process: the first starts it, and it ends by itself
//! some seconds after the last.
//!
//! A process of its own keeps it (this binary again, see [`keep`]), so no test's end is its end. Three locks tell who is
//! there: every test process holds `users` shared, the keeper holds `keeper`, and who starts or ends the cluster `start`.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use pingone_unblock::postgres::{Cluster, Options};

use super::{Result, cluster, rerun};

const ROLE: &str = "keeper";
/// How long the cluster outlives its last user: the next test run finds it warm.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
const PROBE: Duration = Duration::from_secs(1);
const START_LIMIT: Duration = Duration::from_secs(120);

/// Held until the process ends, which is what the keeper looks for.
static PRESENCE: OnceLock<File> = OnceLock::new();

struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self> {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres");
        fs::create_dir_all(&place)?;
        Ok(Self(place))
    }

    fn lock(&self, name: &str) -> Result<File> {
        Ok(File::options().read(true).append(true).create(true).open(self.0.join(name))?)
    }

    fn address(&self) -> PathBuf {
        self.0.join("address")
    }

    /// For its owner alone: it holds a superuser's password.
    fn write_address(&self, address: &str) -> Result<()> {
        let unfinished = self.0.join("address.new");
        let mut options = File::options();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(address.as_bytes())?;
        // Whoever reads it reads it whole.
        Ok(fs::rename(unfinished, self.address())?)
    }

    fn log(&self) -> PathBuf {
        self.0.join("keeper.log")
    }
}

/// The address of the database `postgres` on the server for all tests: `TEST_DATABASE_URL`, else the shared cluster's,
/// which is started if it does not run. Blocks.
pub(crate) fn address() -> Result<String> {
    if let Ok(given) = std::env::var("TEST_DATABASE_URL") {
        return Ok(given);
    }
    let place = Place::new()?;
    let start = place.lock("start")?;
    start.lock()?;
    let users = place.lock("users")?;
    users.lock_shared()?;
    // A second thread of this process brings a second handle; the first is enough.
    let _ = PRESENCE.set(users);
    if !is_free(&place, "keeper")? {
        return Ok(fs::read_to_string(place.address())?);
    }
    // Its output goes to a file, not through a pipe: the pipe would end with this process, and the test runner inside the keeper
    // dies of the first line it cannot write, such as its word after 60 s.
    let log = File::create(place.log())?;
    let mut keeper = rerun::command("harness::shared::keep", ROLE)?;
    keeper.process_group(0).stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log));
    let _ = fs::remove_file(place.address());
    let mut keeper = keeper.spawn()?;
    let since = Instant::now();
    loop {
        if let Ok(address) = fs::read_to_string(place.address()) {
            return Ok(address);
        }
        if keeper.try_wait()?.is_some() || since.elapsed() > START_LIMIT {
            let log = fs::read_to_string(place.log()).unwrap_or_default();
            return Err(format!("the shared cluster did not start: {log}").into());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Not a test: the process that keeps the cluster, when [`address`] starts it.
#[test]
#[ignore = "keeps the cluster of all tests, in a process of its own"]
fn keep() -> Result<()> {
    if rerun::role().as_deref() != Some(ROLE) {
        return Ok(());
    }
    let place = Place::new()?;
    let keeper = place.lock("keeper")?;
    keeper.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = cluster::folder()?;
    let options = Options { durable: false, max_connections: 200, ..Options::new(folder.path()) };
    let cluster = runtime.block_on(Cluster::start(options))?;
    place.write_address(&cluster.url("postgres"))?;

    let start = place.lock("start")?;
    loop {
        wait_until_idle(&place)?;
        // Users come only with `start` held: who came meanwhile is seen here, and nobody comes after.
        start.lock()?;
        if is_free(&place, "users")? {
            break;
        }
        start.unlock()?;
    }
    let ended = runtime.block_on(cluster.stop());
    // Before `start` goes, or who waits for that would still see a keeper.
    keeper.unlock()?;
    Ok(ended?)
}

fn wait_until_idle(place: &Place) -> Result<()> {
    let mut since = Instant::now();
    while since.elapsed() < IDLE_LIMIT {
        thread::sleep(PROBE);
        if !is_free(place, "users")? {
            since = Instant::now();
        }
    }
    Ok(())
}

/// Looks and lets go at once: a lock kept here would hold up the next test. Closing would not do, for a child forked at this
/// moment has a copy of the handle until it runs its program.
fn is_free(place: &Place, name: &str) -> Result<bool> {
    let lock = place.lock(name)?;
    let free = lock.try_lock().is_ok();
    if free {
        lock.unlock()?;
    }
    Ok(free)
}
