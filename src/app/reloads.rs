//! What is made of files and read anew while the server runs: secrets, and what they lead to.

use std::{fmt, path::PathBuf, pin::Pin};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    config,
    pingone::Credential,
    redact::Redacted,
    reload::{Current, ReloadError, Reloader},
    store::{self, SnapshotKeys, Store},
};

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// All that looks at files, before it does.
#[derive(Default)]
pub struct Reloads {
    looking: Vec<Box<dyn FnOnce(CancellationToken) -> Running + Send + Sync>>,
    snapshot_keys: Option<Current<SnapshotKeys>>,
    database: Option<Current<store::Access>>,
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").field("looking", &self.looking.len()).finish_non_exhaustive()
    }
}

impl Reloads {
    /// Has `reloader` look while the server runs.
    pub fn add<T: Send + Sync + 'static>(&mut self, reloader: Reloader<T>) {
        self.looking.push(Box::new(|stopped| Box::pin(reloader.run(stopped))));
    }

    /// The secret of a credential, which stands in `file`.
    pub(super) fn credential(
        &mut self,
        file: PathBuf,
        credential: &Credential,
    ) -> Result<Current<SecretString>, ReloadError> {
        let credential = credential.clone();
        let make = move |files: &[Vec<u8>]| {
            let secret = text(&files[0])?;
            let wrong = || Redacted::of("the file is empty, or holds what is no secret", 100);
            if credential.accepts(&secret) { Ok(secret) } else { Err(wrong()) }
        };
        let (current, reloader) = Reloader::new("credentials", vec![file], make)?;
        self.add(reloader);
        Ok(current)
    }

    /// What answers are encrypted with, and the password of the database.
    pub(super) fn database(&mut self, database: &config::Database) -> Result<(), ReloadError> {
        let parse = |text: &SecretString| {
            SnapshotKeys::parse(text.expose_secret()).map_err(|error| Redacted::of(&error.to_string(), 200))
        };
        self.snapshot_keys = match &database.snapshot_keys {
            None => None,
            Some((text, None)) => {
                let keys = parse(text).map_err(|why| ReloadError { what: "snapshot_keys", why })?;
                Some(Current::fixed(keys))
            }
            Some((_, Some(file))) => {
                let make = move |files: &[Vec<u8>]| parse(&text(&files[0])?);
                let (current, reloader) = Reloader::new("snapshot_keys", vec![file.clone()], make)?;
                self.add(reloader);
                Some(current)
            }
        };
        let files: Vec<PathBuf> = database.url_files.iter().flatten().cloned().collect();
        if !files.is_empty() {
            let (current, reloader) = Reloader::new("credentials", files, addresses(database))?;
            self.add(reloader);
            self.database = Some(current);
        }
        Ok(())
    }

    /// The store that these concern.
    pub(super) fn applied_to(mut self, store: Store) -> (Store, Self) {
        let store = match self.snapshot_keys.take() {
            Some(keys) => store.with_snapshot_keys(keys),
            None => store,
        };
        if let Some(access) = self.database.take() {
            let store = store.clone();
            self.looking.push(Box::new(|stopped| Box::pin(reconnect(store, access, stopped))));
        }
        (store, self)
    }

    /// Looks until `stopped`; ends with what it returns.
    pub(super) fn run(self, stopped: &CancellationToken) -> JoinSet<()> {
        self.looking.into_iter().map(|look| look(stopped.clone())).collect()
    }
}

/// The access that the files of `database` make, in their order.
fn addresses(
    database: &config::Database,
) -> impl Fn(&[Vec<u8>]) -> Result<store::Access, Redacted> + Send + Sync + 'static {
    let (was, files) = (super::access(database), database.url_files.clone());
    move |read| {
        let mut read = read.iter();
        let mut next = |file: &Option<PathBuf>, was: &SecretString| match file {
            Some(_) => read.next().map_or_else(|| Ok(was.clone()), |bytes| text(bytes)),
            None => Ok(was.clone()),
        };
        let access = store::Access {
            url: next(&files[0], &was.url)?,
            direct_url: next(&files[1], &was.direct_url)?,
            ..was.clone()
        };
        // Whether they can be used, before they are.
        Store::check_addresses(&access).map_err(|error| Redacted::of(&error.to_string(), 200))?;
        Ok(access)
    }
}

async fn reconnect(store: Store, mut access: Current<store::Access>, stopped: CancellationToken) {
    while tokio::select! { changed = access.changed() => changed, () = stopped.cancelled() => false } {
        match store.reconnect(&access.get()) {
            Ok(()) => tracing::info!("new connections to the database use the changed address"),
            Err(error) => tracing::error!(%error, "the changed address of the database cannot be used"),
        }
    }
}

fn text(bytes: &[u8]) -> Result<SecretString, Redacted> {
    let text = std::str::from_utf8(bytes).map_err(|_| Redacted::of("the file is not UTF-8", 50))?;
    Ok(text.trim().into())
}
