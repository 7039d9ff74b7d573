//! What the owner of a lane does for its batches: counts what ended, and records what becomes of them.

use std::{collections::HashMap, time::Duration};

use super::BatchKey;
use crate::{
    audit::{self, Action},
    batch::{Batch, BatchNumber, Judgement, State},
    device::Lane,
    store::{Store, StoreError, column, micros},
    telemetry::metrics::timed,
};

/// What the owner says of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// Which.
    pub key: BatchKey,
    /// Jobs finished per second.
    pub current_rate: f64,
    /// Requests at PingOne now.
    pub running: u32,
}

impl Store {
    /// Folds what was counted in `lanes` into their batches; says how many jobs of each finished.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing was folded, or all was and the answer was lost.
    pub async fn fold_batches(&self, lanes: &[Lane]) -> Result<HashMap<BatchKey, u64>, StoreError> {
        let _timed = timed("fold_batches");
        let folded = sqlx::query!(
            r#"
            with gone as (
                delete from batch_delta where lane = any($1)
                returning lane, number, jobs, rejected, duplicate, expanded, looked_up, succeeded, failed, cancelled, expired
            ), sums as (
                select lane, number, sum(jobs) as jobs, sum(rejected) as rejected, sum(duplicate) as duplicate,
                       sum(expanded) as expanded, sum(looked_up) as looked_up, sum(succeeded) as succeeded,
                       sum(failed) as failed, sum(cancelled) as cancelled, sum(expired) as expired
                from gone group by lane, number
            )
            update batch
            set jobs = batch.jobs + sums.jobs, rejected = batch.rejected + sums.rejected,
                duplicate = batch.duplicate + sums.duplicate, expanded = batch.expanded + sums.expanded,
                looked_up = batch.looked_up + sums.looked_up, succeeded = batch.succeeded + sums.succeeded,
                failed = batch.failed + sums.failed, cancelled = batch.cancelled + sums.cancelled,
                expired = batch.expired + sums.expired
            from sums where batch.lane = sums.lane and batch.number = sums.number
            returning batch.lane, batch.number,
                      (sums.succeeded + sums.failed + sums.cancelled + sums.expired)::bigint as "finished!"
            "#,
            &column(lanes, |lane| lane.number()),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(folded
            .into_iter()
            .map(|row| {
                let key = BatchKey {
                    lane: Lane::from_stored(row.lane),
                    number: BatchNumber::from_stored(row.number),
                };
                (key, u64::try_from(row.finished).unwrap_or_default())
            })
            .collect())
    }

    /// The batches of `lanes` that have not ended, in no order.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_open_batches(&self, lanes: &[Lane]) -> Result<Vec<Batch>, StoreError> {
        let _timed = timed("find_open_batches");
        let keys = sqlx::query!(
            "select lane, number from batch where lane = any($1) and completed_at is null",
            &column(lanes, |lane| lane.number()),
        )
        .fetch_all(&self.pool)
        .await?;
        let keys: Vec<BatchKey> = keys
            .into_iter()
            .map(|row| BatchKey {
                lane: Lane::from_stored(row.lane),
                number: BatchNumber::from_stored(row.number),
            })
            .collect();
        if keys.is_empty() { Ok(Vec::new()) } else { self.find_batches(&keys).await }
    }

    /// Whether jobs wait in `flow`, or are at PingOne.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn flow_waits(&self, batch: &Batch, flow: i64) -> Result<bool, StoreError> {
        let _timed = timed("flow_waits");
        let waits = sqlx::query_scalar!(
            r#"
            select exists (
                select from ready where environment_id = $1 and lane = $2 and flow = $3
            ) as "waits!"
            "#,
            batch.header.environment.as_uuid(),
            batch.header.environment.lane().number(),
            flow,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(waits)
    }

    /// Records what becomes of `batch`, unless it has changed since it was read.
    ///
    /// # Errors
    /// [`StoreError`]: then it is recorded or not; it is judged again.
    pub async fn record_judgement(&self, batch: &Batch, judgement: &Judgement) -> Result<bool, StoreError> {
        let _timed = timed("record_judgement");
        let (action, why) = match judgement.state {
            State::Paused => (Action::BatchPaused, Some(judgement.reason.as_str())),
            State::Cancelling => (Action::BatchCancelled, Some(judgement.reason.as_str())),
            // Of a cancelled one the reason is what somebody wrote when cancelling it: that is told there.
            State::Cancelled => (Action::BatchEnded, Some("cancelled")),
            State::Done | State::Running | State::Uploading => (Action::BatchEnded, None),
        };
        let recorded = sqlx::query!(
            r#"
            with judged as (
                update batch set state = $4, state_reason = $5, revision = revision + 1,
                                 completed_at = $6, paused_by_itself = $7
                where lane = $1 and number = $2 and revision = $3
                returning lane, environment_id, batch_id
            )
            insert into audit (lane, event_id, environment_id, action, caller, batch_id, detail)
            select lane, $8, environment_id, $9, $10, batch_id, $11 from judged
            "#,
            batch.header.environment.lane().number(),
            batch.number.number(),
            batch.revision,
            judgement.state.number(),
            judgement.reason,
            judgement.state.is_final().then_some(batch.now),
            judgement.state == State::Paused,
            audit::event_id(batch.header.environment.lane()),
            action.number(),
            audit::SERVICE,
            why,
        )
        .execute(&self.pool)
        .await?;
        Ok(recorded.rows_affected() == 1)
    }

    /// Says how fast batches go.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it; it is said again.
    pub async fn publish_batches(&self, published: &[Published]) -> Result<(), StoreError> {
        let _timed = timed("publish_batches");
        sqlx::query!(
            r#"
            update batch set current_rate = t.current_rate, running = t.running, published_at = now()
            from unnest($1::smallint[], $2::bigint[], $3::float8[], $4::int[]) as t (lane, number, current_rate, running)
            where batch.lane = t.lane and batch.number = t.number
            "#,
            &column(published, |batch| batch.key.lane.number()),
            &column(published, |batch| batch.key.number.number()),
            &column(published, |batch| batch.current_rate),
            &column(published, |batch| i32::try_from(batch.running).unwrap_or(i32::MAX)),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets rows of batches of `lane` that ended more than `keep` ago, at most so many at once, and the batches of which none is
    /// left. Says how many rows and batches went.
    ///
    /// # Errors
    /// [`StoreError`]: then none went, or all did and the answer was lost.
    pub async fn forget_batches(&self, lane: Lane, keep: Duration) -> Result<u64, StoreError> {
        let _timed = timed("forget_batches");
        let old = sqlx::query_scalar!(
            r#"
            select number from batch
            where lane = $1 and completed_at < now() - $2::bigint * interval '1 microsecond'
            order by number limit 1
            "#,
            lane.number(),
            micros(keep),
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(number) = old else { return Ok(0) };
        let rows = sqlx::query!(
            r#"
            delete from batch_target using (
                select lane, number, target_offset, sub from batch_target
                where lane = $1 and number = $2 order by target_offset, sub limit 1000
            ) old
            where batch_target.lane = old.lane and batch_target.number = old.number
              and batch_target.target_offset = old.target_offset and batch_target.sub = old.sub
            "#,
            lane.number(),
            number,
        )
        .execute(&self.pool)
        .await?;
        if rows.rows_affected() > 0 {
            return Ok(rows.rows_affected());
        }
        let gone = sqlx::query!(
            r#"
            delete from batch
            where lane = $1 and number = $2 and completed_at < now() - $3::bigint * interval '1 microsecond'
            "#,
            lane.number(),
            number,
            micros(keep),
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }
}
