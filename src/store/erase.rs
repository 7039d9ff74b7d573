//! Erasing a person: what is kept of one user of one environment, in one transaction, with an entry in the trail that is sealed in
//! it. Needs the role that owns the tables.

mod batches;
mod jobs;
mod trail;

use std::collections::BTreeSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::{
    device::{EnvironmentId, UserId},
    telemetry::metrics::timed,
};

/// Whose data is to go, and who says so.
#[derive(Debug, Clone, Copy)]
pub struct Erasure<'a> {
    /// Where.
    pub environment: EnvironmentId,
    /// Whose.
    pub user: UserId,
    /// Who has it done.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erased {
    /// Entries of the trail that have lost what was personal.
    pub entries: u64,
    /// Jobs that are gone, with all that hung on them.
    pub jobs: u64,
    /// Rows of batches that say nothing any more.
    pub rows: u64,
    /// The entries of the trail that tell of it; none where nothing was there, or nothing was to be changed.
    pub told: Vec<Uuid>,
}

impl Erased {
    /// Whether there was nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries == 0 && self.jobs == 0 && self.rows == 0
    }
}

/// Why nothing was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotErased {
    /// So many jobs of the user have not ended.
    Unfinished(usize),
    /// These batches name the user and have not ended.
    Open(Vec<String>),
    /// More of the user is being recorded at this moment.
    Changing,
}

impl Store {
    /// Whether this role in the database may erase.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn may_erase(&self) -> Result<bool, StoreError> {
        let _timed = timed("may_erase");
        Ok(sqlx::query_scalar!(
            r#"
            select coalesce(bool_and(has_table_privilege(to_regclass(name), may)), false) as "may!"
            from (values ('audit', 'update'), ('audit_seal', 'insert'), ('job', 'delete'), ('batch_target', 'update'))
                as needed (name, may)
            "#
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Erases a user. Jobs go whole, rows of batches keep their place and nothing else, entries of the trail lose what is
    /// personal. `really`: or all of it is only tried and taken back.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing went, or all did and the answer was lost; the same call again settles it.
    pub async fn erase(
        &self,
        wish: &Erasure<'_>,
        really: bool,
    ) -> Result<Result<Erased, NotErased>, StoreError> {
        let _timed = timed("erase");
        let mut transaction = self.pool.begin().await?;
        // What goes back to the pool undone is rolled back.
        let (mut erased, events) = match wish.carry_out(&mut transaction).await? {
            Ok(carried_out) => carried_out,
            Err(not) => return Ok(Err(not)),
        };
        if really && !erased.is_empty() {
            erased.told = wish.tell(&mut transaction, &events).await?;
            transaction.commit().await?;
        }
        Ok(Ok(erased))
    }
}

impl Erasure<'_> {
    async fn carry_out(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Result<(Erased, Vec<Uuid>), NotErased>, StoreError> {
        // Before the long way through the trail; for good below.
        let unfinished = self.unfinished(connection).await?;
        if unfinished > 0 {
            return Ok(Err(NotErased::Unfinished(unfinished)));
        }
        // The trail first: the job of an entry that is seen here is there for the statement that looks for jobs. What is recorded
        // after that is asked of us anew, and stays whole.
        let mut found = self.find_entries(connection).await?;
        let batches = self.find_batches(connection).await?;
        let open = self.lock_batches(connection, &batches).await?;
        if !open.is_empty() {
            return Ok(Err(NotErased::Open(open)));
        }
        let (jobs, elsewhere) = self.lock_jobs(connection, &batches).await?;
        if elsewhere {
            return Ok(Err(NotErased::Changing));
        }
        let unfinished = self.unfinished(connection).await?;
        if unfinished > 0 {
            return Ok(Err(NotErased::Unfinished(unfinished)));
        }
        found.jobs.extend(&jobs);
        self.find_entries_of_jobs(connection, &mut found).await?;
        let events: Vec<Uuid> = BTreeSet::into_iter(found.events).collect();
        let erased = Erased {
            entries: self.blank(connection, &events).await?,
            rows: self.empty_rows(connection, &batches).await?,
            jobs: self.delete_jobs(connection, &jobs).await?,
            told: Vec::new(),
        };
        Ok(Ok((erased, events)))
    }

    fn lane(&self) -> i16 {
        self.environment.lane().number()
    }
}
