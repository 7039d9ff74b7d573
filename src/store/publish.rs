//! What owners publish of their environments, for any replica to show.

use uuid::Uuid;

use super::{Store, StoreError, column, stored_count};
use crate::{environment::Status, telemetry::metrics::timed};

impl Store {
    /// Publishes how environments stand, each at most once in a call, in the name of the replica that sends for them. Lost,
    /// it is said again.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn publish_status(&self, owner: Uuid, statuses: &[Status]) -> Result<(), StoreError> {
        let _timed = timed("publish_status");
        sqlx::query!(
            r#"
            insert into environment_status (lane, environment_id, owner, published_at, rate_limit, effective_rate,
                                            current_rate, in_flight, max_in_flight, limit_group, pending_interactive,
                                            pending_bulk, oldest_due_at)
            select lane, environment_id, $1, now(), rate_limit, effective_rate, current_rate, in_flight, max_in_flight,
                   limit_group, pending_interactive, pending_bulk, oldest_due_at
            from unnest(
                $2::smallint[], $3::uuid[], $4::float8[], $5::float8[], $6::float8[], $7::int[], $8::int[], $9::text[],
                $10::bigint[], $11::bigint[], $12::timestamptz[]
            ) as t (lane, environment_id, rate_limit, effective_rate, current_rate, in_flight, max_in_flight, limit_group,
                    pending_interactive, pending_bulk, oldest_due_at)
            -- One order for all replicas: two that both believe they own a lane wait for each other, never in a circle.
            order by lane, environment_id
            on conflict (lane, environment_id) do update
            set owner = excluded.owner, published_at = excluded.published_at, rate_limit = excluded.rate_limit,
                effective_rate = excluded.effective_rate, current_rate = excluded.current_rate,
                in_flight = excluded.in_flight, max_in_flight = excluded.max_in_flight, limit_group = excluded.limit_group,
                pending_interactive = excluded.pending_interactive, pending_bulk = excluded.pending_bulk,
                oldest_due_at = excluded.oldest_due_at
            "#,
            owner,
            &column(statuses, |status| status.environment.lane().number()),
            &column(statuses, |status| status.environment.as_uuid()),
            &column(statuses, |status| finite(status.rate_limit)) as &[Option<f64>],
            &column(statuses, |status| finite(status.effective_rate)) as &[Option<f64>],
            &column(statuses, |status| status.current_rate),
            &column(statuses, |status| stored_count(status.in_flight)),
            &column(statuses, |status| stored_count(status.max_in_flight)),
            &column(statuses, |status| status.limit_group.clone()) as &[Option<String>],
            &column(statuses, |status| stored_large_count(status.pending_interactive)),
            &column(statuses, |status| stored_large_count(status.pending_bulk)),
            &column(statuses, |status| status.oldest_due_at) as &[Option<time::OffsetDateTime>],
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Unlimited is stored as nothing.
fn finite(rate: f64) -> Option<f64> {
    rate.is_finite().then_some(rate)
}

fn stored_large_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
