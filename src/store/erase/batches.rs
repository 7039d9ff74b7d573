//! The rows of batches that name a user: found, and emptied. A row keeps its place, so that the others keep theirs.

use sqlx::PgConnection;

use super::Erasure;
use crate::store::{StoreError, column};

/// Rows looked at by one statement.
const AT_ONCE: i64 = 20_000;
/// What an emptied row says in place of the user.
const REASON: &str = "ERASED";
const MESSAGE: &str = "what was kept of this user was erased";

/// A batch that names the user.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub(super) number: i64,
    rows: i64,
}

impl Named {
    /// The offsets looked at by each statement.
    fn stretches(self) -> impl Iterator<Item = (i64, i64)> {
        let step = usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        (0..self.rows).step_by(step).map(|from| (from, from.saturating_add(AT_ONCE)))
    }
}

impl Erasure<'_> {
    /// Those of the environment's batches that name the user, also where the row was refused for something else.
    pub(super) async fn find_batches(&self, connection: &mut PgConnection) -> Result<Vec<Named>, StoreError> {
        let all = sqlx::query_as!(
            Named,
            "select number, next_offset as rows from batch where environment_id = $1",
            self.environment.as_uuid(),
        )
        .fetch_all(&mut *connection)
        .await?;
        let mut naming = Vec::new();
        for batch in all {
            for (from, to) in batch.stretches() {
                let found = sqlx::query_scalar!(
                    r#"
                    select number from batch_target
                    where lane = $1 and number = $2 and target_offset >= $3 and target_offset < $4
                      and (user_id = $5 or lower(btrim(given_user)) = $6)
                    limit 1
                    "#,
                    self.lane(),
                    batch.number,
                    from,
                    to,
                    self.user.as_uuid(),
                    self.user.to_string(),
                )
                .fetch_optional(&mut *connection)
                .await?;
                if found.is_some() {
                    naming.push(batch);
                    break;
                }
            }
        }
        Ok(naming)
    }

    /// Locks them, so that nobody opens one again meanwhile. Says which have not ended.
    pub(super) async fn lock_batches(
        &self,
        connection: &mut PgConnection,
        batches: &[Named],
    ) -> Result<Vec<String>, StoreError> {
        let numbers: Vec<i64> = batches.iter().map(|batch| batch.number).collect();
        let rows = sqlx::query!(
            r#"
            select b.batch_id, b.completed_at is null as "open!"
            from unnest($1::smallint[], $2::bigint[]) as k (lane, number)
            join batch b on b.lane = k.lane and b.number = k.number
            order by b.number for update of b
            "#,
            &column(&numbers, |_| self.lane()),
            &numbers,
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().filter(|row| row.open).map(|row| row.batch_id).collect())
    }

    /// Empties the rows that name the user. Those that a row by user became go: it stands for them.
    pub(super) async fn empty_rows(
        &self,
        connection: &mut PgConnection,
        batches: &[Named],
    ) -> Result<u64, StoreError> {
        let mut emptied = 0;
        for batch in batches {
            for (from, to) in batch.stretches() {
                let rows = sqlx::query!(
                    r#"
                    with gone as (
                        delete from batch_target
                        where lane = $1 and number = $2 and target_offset >= $3 and target_offset < $4 and sub > 0
                          and user_id = $5
                        returning target_offset
                    ), emptied as (
                        update batch_target
                        set user_id = null, device_id = null, given_user = null, given_device = null, client_reference = '',
                            job_id = null, duplicate = false, rejection = $7, message = $8
                        where lane = $1 and number = $2 and target_offset >= $3 and target_offset < $4 and sub = 0
                          and (user_id = $5 or lower(btrim(given_user)) = $6)
                        returning target_offset
                    )
                    select (select count(*) from gone) + (select count(*) from emptied) as "rows!"
                    "#,
                    self.lane(),
                    batch.number,
                    from,
                    to,
                    self.user.as_uuid(),
                    self.user.to_string(),
                    REASON,
                    MESSAGE,
                )
                .fetch_one(&mut *connection)
                .await?;
                emptied += u64::try_from(rows.rows).unwrap_or_default();
            }
        }
        Ok(emptied)
    }
}
