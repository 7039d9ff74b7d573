//! What all replicas must know of a PingOne environment.

use std::time::Duration;

use super::{Store, StoreError, between, column};
use crate::device::{EnvironmentId, Lane};

/// Whether an environment may be sent to.
#[derive(Debug, Clone)]
pub struct EnvironmentStatus {
    /// Which.
    pub id: EnvironmentId,
    /// How long PingOne asked to wait still.
    pub hold: Duration,
    /// What PingOne said of the credential it refuses, and how long until it is tried again.
    pub credential: Option<(String, Duration)>,
}

impl Store {
    /// Makes sure that each environment has its row: jobs of an environment without one would not be found.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn register_environments(&self, environments: &[EnvironmentId]) -> Result<(), StoreError> {
        sqlx::query!(
            r#"
            insert into environment (lane, environment_id)
            select lane, environment_id from unnest($1::smallint[], $2::uuid[]) as t (lane, environment_id)
            order by lane, environment_id
            on conflict do nothing
            "#,
            &column(environments, |environment| environment.lane().number()),
            &column(environments, |environment| environment.as_uuid()),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The environments of `lanes` that have unfinished jobs.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_environments(&self, lanes: &[Lane]) -> Result<Vec<EnvironmentStatus>, StoreError> {
        let rows = sqlx::query!(
            r#"
            select environment_id, credential_error, now() as "now!",
                   greatest(hold_until, now()) as "hold_until!", greatest(credential_retry_at, now()) as "retry_at!"
            from environment e
            where lane = any($1)
              and exists (select from ready r where r.lane = e.lane and r.environment_id = e.environment_id)
            "#,
            &column(lanes, |lane| lane.number()),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| EnvironmentStatus {
                id: row.environment_id.into(),
                hold: between(row.now, row.hold_until),
                credential: row.credential_error.map(|error| (error, between(row.now, row.retry_at))),
            })
            .collect())
    }

    /// Forgets that PingOne refused the credential: it takes it again.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn credential_accepted(&self, environment: EnvironmentId) -> Result<(), StoreError> {
        sqlx::query!(
            r#"
            update environment set credential_error = null, credential_retry_at = null
            where lane = $1 and environment_id = $2 and credential_error is not null
            "#,
            environment.lane().number(),
            environment.as_uuid(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
