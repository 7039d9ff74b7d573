//! Answers encrypted at rest. A process encrypts with a data key of its own, which is stored once, wrapped by a snapshot key that
//! only the configuration holds: docs/adr/0028.

mod keys;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::zeroize::Zeroizing;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::{device::DeviceRef, job::JobId, reload::Current, telemetry::metrics::timed};

pub use keys::{KeysError, SnapshotKeys};

use keys::Key;

/// Within it, no key comes near the number of encryptions after which random nonces could meet (2^32).
const DATA_KEY_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The first byte of what is encrypted; then the data key's id, the nonce, and what is encrypted with its tag.
pub(super) const SEALED: u8 = 2;
const ID: usize = 16;

/// The keys that this process has in memory.
#[derive(Debug, Default)]
pub(super) struct Vault {
    keys: Option<Current<SnapshotKeys>>,
    opened: Mutex<Opened>,
}

#[derive(Debug, Default)]
struct Opened {
    /// The snapshot keys by which all this was opened.
    by: Option<Arc<SnapshotKeys>>,
    own: Option<(Sealer, Instant)>,
    known: HashMap<Uuid, Arc<Key>>,
}

/// What answers are encrypted with; nothing where they are not.
#[derive(Debug, Clone, Default)]
pub(super) struct Sealer(Option<(Uuid, Arc<Key>)>);

/// The data keys that some rows need.
#[derive(Debug, Default)]
pub(super) struct Opener(HashMap<Uuid, Arc<Key>>);

/// Data keys by the snapshot key that wraps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The snapshot key's name.
    pub name: String,
    /// How many data keys it wraps.
    pub data_keys: usize,
    /// What keeps them from being opened, if anything does.
    pub wrong: Option<String>,
}

/// A data key as it is stored.
struct Row {
    data_key_id: Uuid,
    wrapped_by: String,
    wrapped: Vec<u8>,
}

impl Store {
    /// The same store, whose answers are encrypted from now on.
    #[must_use]
    pub fn with_snapshot_keys(mut self, keys: Current<SnapshotKeys>) -> Self {
        self.vault = Arc::new(Vault { keys: Some(keys), opened: Mutex::default() });
        self
    }

    /// What to encrypt with now. A new data key is stored before its first use.
    pub(super) async fn sealer(&self) -> Result<Sealer, StoreError> {
        let Some(keys) = self.vault.keys() else { return Ok(Sealer::default()) };
        let now = Instant::now();
        if let Some((sealer, until)) = &self.vault.opened(Some(&keys)).own
            && now < *until
        {
            return Ok(sealer.clone());
        }
        let secret = keys::new_secret()?;
        let (id, key) = (Uuid::now_v7(), Arc::new(Key::new(&secret)));
        let (name, first) = keys.first();
        let wrapped = first.seal(&wrapping(id), &*secret)?;
        self.insert_data_key(id, name, &wrapped).await?;
        let sealer = Sealer(Some((id, Arc::clone(&key))));
        let mut opened = self.vault.opened(Some(&keys));
        opened.known.insert(id, key);
        opened.own = Some((sealer.clone(), now + DATA_KEY_LIFE));
        Ok(sealer)
    }

    /// What opens `packed`. Not asked of the database again for keys that this process has opened before.
    pub(super) async fn opener<'a>(
        &self,
        packed: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Opener, StoreError> {
        let mut needed: HashMap<Uuid, Option<Arc<Key>>> =
            packed.filter_map(data_key_of).map(|id| (id, None)).collect();
        if needed.is_empty() {
            return Ok(Opener::default());
        }
        let keys = self.vault.keys();
        let opened = self.vault.opened(keys.as_ref()).known.clone();
        needed.iter_mut().for_each(|(id, key)| *key = opened.get(id).cloned());
        let missing: Vec<Uuid> = needed.iter().filter(|(_, key)| key.is_none()).map(|(id, _)| *id).collect();
        if !missing.is_empty() {
            for row in self.find_data_keys(&missing).await? {
                let key = Arc::new(Key::new(&*row.open(keys.as_deref())?));
                self.vault.opened(keys.as_ref()).known.insert(row.data_key_id, Arc::clone(&key));
                needed.insert(row.data_key_id, Some(key));
            }
        }
        let found = needed.into_iter().map(|(id, key)| Some((id, key?))).collect::<Option<_>>();
        found.map(Opener).ok_or_else(|| StoreError::Corrupt("an answer whose data key is gone".to_owned()))
    }

    async fn insert_data_key(&self, id: Uuid, wrapped_by: &str, wrapped: &[u8]) -> Result<(), StoreError> {
        let _timed = timed("insert_data_key");
        sqlx::query!(
            "insert into data_key (data_key_id, wrapped_by, wrapped) values ($1, $2, $3)",
            id,
            wrapped_by,
            wrapped
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn find_data_keys(&self, ids: &[Uuid]) -> Result<Vec<Row>, StoreError> {
        let _timed = timed("find_data_keys");
        let rows = sqlx::query_as!(
            Row,
            "select data_key_id, wrapped_by, wrapped from data_key where data_key_id = any($1)",
            ids
        );
        Ok(rows.fetch_all(&self.reading).await?)
    }

    /// Every data key, by the snapshot key that wraps it, and whether that opens it.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_wrapped(&self) -> Result<Vec<Wrapped>, StoreError> {
        let keys = self.vault.keys();
        let mut wrapped: BTreeMap<String, Wrapped> = BTreeMap::new();
        for row in self.all_data_keys().await? {
            let wrong = row.open(keys.as_deref()).err().map(|error| error.to_string());
            let name = row.wrapped_by;
            let one = wrapped.entry(name.clone()).or_insert(Wrapped { name, data_keys: 0, wrong: None });
            one.data_keys += 1;
            one.wrong = one.wrong.take().or(wrong);
        }
        Ok(wrapped.into_values().collect())
    }

    async fn all_data_keys(&self) -> Result<Vec<Row>, StoreError> {
        let _timed = timed("all_data_keys");
        let rows = sqlx::query_as!(
            Row,
            "select data_key_id, wrapped_by, wrapped from data_key order by wrapped_by, data_key_id"
        );
        Ok(rows.fetch_all(&self.reading).await?)
    }

    /// Wraps every data key by the first snapshot key that is wrapped by another: says how many. Then the others are not needed any
    /// more by what is stored.
    ///
    /// # Errors
    /// [`StoreError`]: those before it are wrapped anew, the others as they were.
    pub async fn rewrap_data_keys(&self) -> Result<usize, StoreError> {
        let Some(keys) = self.vault.keys() else {
            return Err(StoreError::Sealed("no snapshot key is set".to_owned()));
        };
        let (name, first) = keys.first();
        let mut rewrapped = 0;
        for row in self.all_data_keys().await?.into_iter().filter(|row| row.wrapped_by != name) {
            let secret = row.open(Some(&keys))?;
            let wrapped = first.seal(&wrapping(row.data_key_id), &*secret)?;
            rewrapped += self.update_data_key(&row, name, &wrapped).await?;
        }
        Ok(rewrapped)
    }

    async fn update_data_key(
        &self,
        row: &Row,
        wrapped_by: &str,
        wrapped: &[u8],
    ) -> Result<usize, StoreError> {
        let _timed = timed("update_data_key");
        let updated = sqlx::query!(
            "update data_key set wrapped_by = $3, wrapped = $4 where data_key_id = $1 and wrapped_by = $2",
            row.data_key_id,
            row.wrapped_by,
            wrapped_by,
            wrapped
        )
        .execute(&self.pool)
        .await?;
        Ok(usize::try_from(updated.rows_affected()).unwrap_or(usize::MAX))
    }
}

impl Vault {
    fn keys(&self) -> Option<Arc<SnapshotKeys>> {
        self.keys.as_ref().map(Current::get)
    }

    /// What was opened by `keys`; by others, it is forgotten: a key that was taken away opens nothing any more.
    fn opened(&self, keys: Option<&Arc<SnapshotKeys>>) -> MutexGuard<'_, Opened> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (&opened.by, keys) {
            (Some(by), Some(keys)) => Arc::ptr_eq(by, keys),
            (None, None) => true,
            _ => false,
        };
        if !same {
            *opened = Opened { by: keys.cloned(), ..Opened::default() };
        }
        opened
    }
}

impl Row {
    fn open(&self, keys: Option<&SnapshotKeys>) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let name = &self.wrapped_by;
        let key = keys.and_then(|keys| keys.find(name));
        let key =
            key.ok_or_else(|| StoreError::Sealed(format!("snapshot key {name:?} is needed, and not set")))?;
        let wrong = || StoreError::Sealed(format!("snapshot key {name:?} is not the one that was used"));
        let secret = Zeroizing::new(key.open(&wrapping(self.data_key_id), &self.wrapped).ok_or_else(wrong)?);
        let secret = <[u8; 32]>::try_from(secret.as_slice()).map_err(|_| wrong())?;
        Ok(Zeroizing::new(secret))
    }
}

impl Sealer {
    /// `packed`, an answer about `device` that `job` got, encrypted if it is to be.
    pub(super) fn seal(
        &self,
        device: &DeviceRef,
        job: JobId,
        packed: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        let Some((id, key)) = &self.0 else { return Ok(packed) };
        let sealed = key.seal(&belonging(device, job), &packed)?;
        Ok([&[SEALED], id.as_bytes().as_slice(), &sealed].concat())
    }
}

impl Opener {
    /// The inverse of [`Sealer::seal`] for what begins with [`SEALED`]; nothing where it was changed, or moved from another row.
    pub(super) fn open(&self, device: &DeviceRef, job: JobId, packed: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.get(&data_key_of(packed)?)?;
        key.open(&belonging(device, job), packed.get(1 + ID..)?)
    }
}

/// The data key that opens `packed`; nothing where it is not encrypted.
fn data_key_of(packed: &[u8]) -> Option<Uuid> {
    let (&SEALED, rest) = packed.split_first()? else { return None };
    Uuid::from_slice(rest.get(..ID)?).ok()
}

/// What an answer is tied to: it cannot stand in another's row.
fn belonging(device: &DeviceRef, job: JobId) -> Vec<u8> {
    let ids = [device.environment.as_uuid(), device.user.as_uuid(), device.device.as_uuid(), job.as_uuid()];
    let ids = ids.iter().flat_map(|id| id.as_bytes());
    b"answer 1 ".iter().chain(ids).copied().collect()
}

fn wrapping(data_key: Uuid) -> Vec<u8> {
    [b"data key 1 ".as_slice(), data_key.as_bytes()].concat()
}
