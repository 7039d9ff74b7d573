//! The folder a cluster lives in: where it is, who may use it, what is in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{PostgresError, USER, account::Account, programs::Programs, tie};

/// Where a cluster goes whose folder the server's user can not reach.
const STEAD: &str = "/var/tmp";
/// The shortest limit for a socket's path is macOS's.
const SOCKET_PATH_LIMIT: usize = 103;
const LONGEST_SOCKET_NAME: &str = "/.s.PGSQL.65535";

/// A folder that the server's user can reach, and that user.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    account: Account,
}

/// Says that the folder is ours. Given up when it is dropped or this process dies.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing would not do: a child forked at this moment has a copy of the handle until it runs its program.
    fn drop(&mut self) {
        // What could go wrong is that it is unlocked already.
        let _ = self.0.unlock();
    }
}

impl Folder {
    /// The folder `asked` for, or, with a warning, one in its stead.
    pub(super) fn settle(asked: &Path) -> Result<Self, PostgresError> {
        let asked = std::path::absolute(asked)
            .map_err(|source| PostgresError::io("make sense of the path", asked, source))?;
        let folder = Self::open(&asked)?;
        if folder.is_reachable()? {
            return Ok(folder);
        }
        let stead = Self::open(&stead_of(&asked))?;
        // Anybody may make folders there: one that root did not make is somebody's trap.
        let made = fs::symlink_metadata(&stead.root)
            .map_err(|source| PostgresError::io("look at", &stead.root, source))?;
        if !made.is_dir() || made.uid() != 0 || !stead.is_reachable()? {
            let user = stead.account.name().to_owned();
            return Err(PostgresError::Unreachable { folder: stead.root, user });
        }
        tracing::warn!(
            "root may not run PostgreSQL, so it runs as {}, who can not reach {}: the cluster is in {}",
            stead.account.name(),
            asked.display(),
            stead.root.display(),
        );
        Ok(stead)
    }

    fn open(root: &Path) -> Result<Self, PostgresError> {
        let account = Account::of(&root.join("data"))?;
        // The server's user must pass through; what it may see inside is its own.
        let mode = if account == Account::Own { 0o700 } else { 0o711 };
        let parents = root.parent().map_or(Ok(()), fs::create_dir_all);
        parents.and_then(|()| ensure_folder(root, mode)).map_err(|e| PostgresError::io("make", root, e))?;
        Ok(Self { root: root.to_owned(), account })
    }

    /// Lets a process of the server's user enter, which answers for every parent folder and every kind of permission.
    fn is_reachable(&self) -> Result<bool, PostgresError> {
        if self.account == Account::Own {
            return Ok(true);
        }
        let shell = Path::new("/bin/sh");
        match self.account.command(shell).args(["-c", ":"]).current_dir(&self.root).status() {
            Ok(_) => Ok(true),
            Err(refused) if refused.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(source) => Err(PostgresError::io("enter", &self.root, source)),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) const fn account(&self) -> &Account {
        &self.account
    }

    /// The cluster itself, PostgreSQL's data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What the server writes to its standard error.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// Takes the folder for this process.
    pub(super) fn lock(&self) -> Result<Lock, PostgresError> {
        let path = self.root.join("lock");
        let fails = |source| PostgresError::io("lock", &path, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(fails)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
                return Err(PostgresError::InUse { folder: self.root.clone(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(fails(source)),
        }
        // Only for the message above.
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(fails)?;
        Ok(Lock(file))
    }

    /// The major version that made the cluster, where there is one.
    pub(super) fn major(&self) -> Result<Option<u32>, PostgresError> {
        let path = self.data().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PostgresError::io("read", path, source)),
        }
    }

    /// Makes the cluster if it is not there, and gives its password.
    pub(super) fn initialise(
        &self,
        programs: &Programs,
        durable: bool,
    ) -> Result<SecretString, PostgresError> {
        let file = self.root.join("password");
        if self.data().exists() {
            return match fs::read_to_string(&file) {
                Ok(password) => Ok(password.trim().into()),
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                    Err(PostgresError::PasswordLost { file })
                }
                Err(source) => Err(PostgresError::io("read", file, source)),
            };
        }
        let password = Uuid::new_v4().simple().to_string();
        self.write_password(&file, &password).map_err(|source| PostgresError::io("write", &file, source))?;
        self.make_cluster(programs, &file, durable)?;
        Ok(password.into())
    }

    fn write_password(&self, file: &Path, password: &str) -> io::Result<()> {
        remove(fs::remove_file(file))?;
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        opened.write_all(password.as_bytes())?;
        opened.sync_all()?;
        self.account.own(file)
    }

    /// Makes it under another name first: a first start that broke off never looks like a cluster.
    fn make_cluster(&self, programs: &Programs, password: &Path, durable: bool) -> Result<(), PostgresError> {
        let new = self.root.join("data.new");
        let fails = |doing| move |source| PostgresError::io(doing, self.root.join("data.new"), source);
        remove(fs::remove_dir_all(&new)).map_err(fails("remove"))?;
        ensure_folder(&new, 0o700).and_then(|()| self.account.own(&new)).map_err(fails("make"))?;
        let mut initdb = self.account.command(&programs.initdb);
        initdb.current_dir(&new).arg("--pgdata").arg(&new).arg("--pwfile").arg(password);
        initdb.args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
        initdb.args(["--data-checksums", "--no-instructions"]);
        if !durable {
            initdb.arg("--no-sync");
        }
        // Left alone it would write into the folder of the next start.
        tie::to_this_thread(&mut initdb, Signal::KILL);
        let said = initdb.output().map_err(fails("run initdb in"))?;
        if !said.status.success() {
            let output = [said.stdout, said.stderr].concat();
            let output = String::from_utf8_lossy(&output).trim().to_owned();
            return Err(PostgresError::Initialise { folder: self.root.clone(), output });
        }
        fs::rename(&new, self.data()).map_err(fails("rename"))?;
        File::open(&self.root).and_then(|root| root.sync_all()).map_err(fails("save the renaming of"))
    }

    /// A folder for the server's sockets, unless their paths would be longer than a socket's may be.
    pub(super) fn sockets(&self) -> Result<Option<PathBuf>, PostgresError> {
        let folder = self.root.join("sockets");
        if !can_hold_sockets(&folder) {
            return Ok(None);
        }
        ensure_folder(&folder, 0o700)
            .and_then(|()| self.account.own(&folder))
            .map_err(|source| PostgresError::io("make", &folder, source))?;
        Ok(Some(folder))
    }
}

/// The server reads the setting as a list, so commas and quotes can not be in it.
fn can_hold_sockets(folder: &Path) -> bool {
    folder.to_str().is_some_and(|text| {
        text.len() + LONGEST_SOCKET_NAME.len() <= SOCKET_PATH_LIMIT && !text.contains([',', '"'])
    })
}

/// The same for the same folder, so that the next start finds the cluster again.
fn stead_of(asked: &Path) -> PathBuf {
    let digest = Sha256::digest(asked.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Path::new(STEAD).join(format!("pingone-unblock-{name}"))
}

fn ensure_folder(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(there) if there.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn remove(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_in_stead_of_another_is_always_the_same() {
        let stead = stead_of(Path::new("/root/demo"));
        assert_eq!(stead, stead_of(Path::new("/root/demo")));
        assert_ne!(stead, stead_of(Path::new("/root/other")));
        assert!(can_hold_sockets(&stead.join("sockets")));
    }

    #[test]
    fn sockets_are_left_out_where_their_path_would_be_too_long() {
        assert!(can_hold_sockets(Path::new("/home/someone/.local/share/pingone-unblock/sockets")));
        assert!(!can_hold_sockets(&Path::new("/home").join("x".repeat(90))));
        assert!(!can_hold_sockets(Path::new("/home/a,b")));
    }
}
