//! Batches: making and finding them. Their rows are in `append` and `results`, what is asked of them in `steer` and `retry`, what becomes of
//! them in `keep`.

mod append;
mod expand;
mod keep;
mod note;
mod results;
mod retry;
mod rows;
mod steer;

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, audit::Note, column, micros};
use crate::{
    audit::{Action, Personal},
    batch::{Batch, BatchNumber, Counts, Header, State},
    device::{EnvironmentId, Lane},
    job::Actor,
    telemetry::metrics::timed,
};

pub use append::{Appended, Unfit};
pub use expand::Found;
pub use keep::Published;
pub use results::{Place, TargetRow};
pub use retry::{Retried, RetryWish};
pub use rows::Refusal;

/// Where a batch is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchKey {
    /// The lane of its environment.
    pub lane: Lane,
    /// Its number.
    pub number: BatchNumber,
}

/// What opening a batch for an upload met.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    /// It is there, made now or before.
    Open(Box<Batch>),
    /// It was made with another header: the field that differs.
    Differs(&'static str),
}

/// Which batches to list. Every filter that is set must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFilter {
    /// Of this environment.
    pub environment: EnvironmentId,
    /// In one of these states; none: in any.
    pub states: Vec<State>,
    /// Made by this caller.
    pub caller: Option<String>,
    /// For this case.
    pub ticket: Option<String>,
}

impl Store {
    /// Makes the batch, or finds it.
    ///
    /// # Errors
    /// [`StoreError`]: then it is made or not; the same call again is harmless.
    pub async fn open_batch(
        &self,
        header: &Header,
        actor: &Actor,
        trace_parent: Option<&str>,
    ) -> Result<Opened, StoreError> {
        let _timed = timed("open_batch");
        let lane = header.environment.lane();
        loop {
            if let Some(batch) = self.find_batch(header.environment, &header.id).await? {
                if let Some(field) = batch.header.differing(header) {
                    return Ok(Opened::Differs(field));
                }
                return Ok(Opened::Open(Box::new(batch)));
            }
            let state = if header.start_when_sealed { State::Uploading } else { State::Running };
            let note = Note::by(actor, lane, personal(header));
            // A conflict is another call that makes it, or another batch of the same microsecond.
            sqlx::query!(
                r#"
                with made as (
                    insert into batch (lane, number, environment_id, batch_id, caller, reason, ticket, on_behalf_of, expires_at,
                                       time_to_live_us, trace_parent, max_failure_ratio, canary_count, start_when_sealed, state,
                                       upload)
                    values ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9::bigint * interval '1 microsecond', $9, $10, $11, $12,
                            $13, $14, 0)
                    on conflict do nothing
                    returning lane, environment_id, batch_id
                )
                insert into audit (lane, event_id, environment_id, trace_id, action, caller, policy, batch_id, personal_digest,
                                   personal)
                select lane, $15, environment_id, $16, $17, $18, $19, batch_id, $20, $21 from made
                "#,
                lane.number(),
                BatchNumber::now().number(),
                header.environment.as_uuid(),
                header.id,
                header.caller,
                header.reason,
                header.ticket,
                header.on_behalf_of,
                micros(header.time_to_live),
                trace_parent,
                header.max_failure_ratio,
                i32::try_from(header.canary_count).unwrap_or(i32::MAX),
                header.start_when_sealed,
                state.number(),
                note.event_id,
                note.trace_id,
                Action::BatchOpened.number(),
                note.caller,
                note.policy,
                note.digest,
                note.personal,
            )
            .execute(&self.pool)
            .await?;
        }
    }

    /// Of all streams, only who holds this number may write: whoever calls later takes it over.
    ///
    /// # Errors
    /// [`StoreError`]: then the caller does not write, and whoever did may not any more either.
    pub async fn take_upload(&self, key: BatchKey) -> Result<i64, StoreError> {
        let _timed = timed("take_upload");
        let upload = sqlx::query_scalar!(
            r#"
            update batch set upload = upload + 1, uploaded_at = now(), revision = revision + 1
            where lane = $1 and number = $2
            returning upload
            "#,
            key.lane.number(),
            key.number.number(),
        )
        .fetch_optional(&self.pool)
        .await?;
        upload.ok_or_else(|| {
            StoreError::Corrupt(format!("batch {} went as it was opened", key.number.number()))
        })
    }

    /// The batch of that name.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_batch(
        &self,
        environment: EnvironmentId,
        id: &str,
    ) -> Result<Option<Batch>, StoreError> {
        let _timed = timed("find_batch");
        let lane = environment.lane();
        let number = sqlx::query_scalar!(
            "select number from batch where lane = $1 and environment_id = $2 and batch_id = $3",
            lane.number(),
            environment.as_uuid(),
            id,
        )
        .fetch_optional(&self.reading)
        .await?;
        let Some(number) = number else { return Ok(None) };
        let key = BatchKey { lane, number: BatchNumber::from_stored(number) };
        Ok(self.find_batches(&[key]).await?.pop())
    }

    /// One page of at most `size` batches made before `before`, newest first, and where the next begins.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn list_batches(
        &self,
        filter: &BatchFilter,
        size: usize,
        before: Option<BatchNumber>,
    ) -> Result<(Vec<Batch>, Option<BatchNumber>), StoreError> {
        let _timed = timed("list_batches");
        let lane = filter.environment.lane();
        let numbers = sqlx::query_scalar!(
            r#"
            select number from batch
            where lane = $1 and environment_id = $2 and number < $3 and (cardinality($4::smallint[]) = 0 or state = any($4))
              and ($5::text is null or caller = $5) and ($6::text is null or ticket = $6)
            order by number desc limit $7
            "#,
            lane.number(),
            filter.environment.as_uuid(),
            before.map_or(i64::MAX, BatchNumber::number),
            &column(&filter.states, |state| state.number()),
            filter.caller,
            filter.ticket,
            i64::try_from(size + 1).unwrap_or(i64::MAX),
        )
        .fetch_all(&self.reading)
        .await?;
        let more = numbers.len() > size;
        let keys: Vec<BatchKey> = numbers
            .into_iter()
            .take(size)
            .map(|number| BatchKey { lane, number: BatchNumber::from_stored(number) })
            .collect();
        let next = keys.last().filter(|_| more).map(|key| key.number);
        let mut batches = self.find_batches(&keys).await?;
        batches.sort_by_key(|batch| std::cmp::Reverse(batch.number));
        Ok((batches, next))
    }

    /// The batches of `keys` that exist, in no order.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_batches(&self, keys: &[BatchKey]) -> Result<Vec<Batch>, StoreError> {
        let _timed = timed("find_batches");
        let rows = sqlx::query_as!(
            Row,
            r#"
            select b.number, b.environment_id, b.batch_id, b.caller, b.reason, b.ticket, b.on_behalf_of, b.created_at,
                   b.expires_at, b.time_to_live_us, b.max_failure_ratio, b.canary_count, b.canary_passed, b.start_when_sealed,
                   b.uploaded_at, b.next_offset, b.sealed, b.state, b.state_reason, b.paused_by_itself, b.completed_at, b.revision,
                   b.finished_before, b.failed_before,
                   b.jobs + coalesce(d.jobs, 0) as "jobs!", b.rejected + coalesce(d.rejected, 0) as "rejected!",
                   b.duplicate + coalesce(d.duplicate, 0) as "duplicate!", b.expanded + coalesce(d.expanded, 0) as "expanded!",
                   b.looked_up + coalesce(d.looked_up, 0) as "looked_up!", b.succeeded + coalesce(d.succeeded, 0) as "succeeded!",
                   b.failed + coalesce(d.failed, 0) as "failed!", b.cancelled + coalesce(d.cancelled, 0) as "cancelled!",
                   b.expired + coalesce(d.expired, 0) as "expired!",
                   case when b.completed_at is null and b.published_at > now() - interval '5 seconds' then b.current_rate else 0 end as "current_rate!",
                   case when b.completed_at is null and b.published_at > now() - interval '5 seconds' then b.running else 0 end as "running!",
                   now() as "now!"
            from unnest($1::smallint[], $2::bigint[]) as k (lane, number)
            join batch b on b.lane = k.lane and b.number = k.number
            left join lateral (
                select sum(jobs) as jobs, sum(rejected) as rejected, sum(duplicate) as duplicate, sum(expanded) as expanded,
                       sum(looked_up) as looked_up, sum(succeeded) as succeeded, sum(failed) as failed,
                       sum(cancelled) as cancelled, sum(expired) as expired
                from batch_delta where batch_delta.lane = k.lane and batch_delta.number = k.number
            ) d on true
            "#,
            &column(keys, |key| key.lane.number()),
            &column(keys, |key| key.number.number()),
        )
        .fetch_all(&self.reading)
        .await?;
        rows.into_iter().map(Row::into_batch).collect()
    }
}

/// What of a batch is personal, and of each of its rows.
fn personal(header: &Header) -> Personal {
    Personal {
        on_behalf_of: header.on_behalf_of.clone(),
        reason: header.reason.clone(),
        ticket: header.ticket.clone(),
        ..Personal::default()
    }
}

#[derive(Debug)]
struct Row {
    number: i64,
    environment_id: Uuid,
    batch_id: String,
    caller: String,
    reason: String,
    ticket: String,
    on_behalf_of: String,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    time_to_live_us: i64,
    max_failure_ratio: f64,
    canary_count: i32,
    canary_passed: bool,
    start_when_sealed: bool,
    uploaded_at: OffsetDateTime,
    next_offset: i64,
    sealed: bool,
    state: i16,
    state_reason: String,
    paused_by_itself: bool,
    completed_at: Option<OffsetDateTime>,
    revision: i64,
    finished_before: i64,
    failed_before: i64,
    jobs: i64,
    rejected: i64,
    duplicate: i64,
    expanded: i64,
    looked_up: i64,
    succeeded: i64,
    failed: i64,
    cancelled: i64,
    expired: i64,
    current_rate: f64,
    running: i32,
    now: OffsetDateTime,
}

impl Row {
    fn into_batch(self) -> Result<Batch, StoreError> {
        let count = |stored: i64| u64::try_from(stored).unwrap_or_default();
        let state = State::from_number(self.state).ok_or_else(|| {
            StoreError::Corrupt(format!("batch {} is in state {}", self.batch_id, self.state))
        })?;
        Ok(Batch {
            number: BatchNumber::from_stored(self.number),
            header: Header {
                id: self.batch_id,
                environment: self.environment_id.into(),
                caller: self.caller,
                reason: self.reason,
                ticket: self.ticket,
                on_behalf_of: self.on_behalf_of,
                time_to_live: Duration::from_micros(count(self.time_to_live_us)),
                max_failure_ratio: self.max_failure_ratio,
                canary_count: super::count(self.canary_count),
                start_when_sealed: self.start_when_sealed,
            },
            created_at: self.created_at,
            expires_at: self.expires_at,
            uploaded_at: self.uploaded_at,
            next_offset: count(self.next_offset),
            sealed: self.sealed,
            canary_passed: self.canary_passed,
            state,
            state_reason: self.state_reason,
            paused_by_itself: self.paused_by_itself,
            completed_at: self.completed_at,
            revision: self.revision,
            before: (count(self.finished_before), count(self.failed_before)),
            counts: Counts {
                jobs: count(self.jobs),
                rejected: count(self.rejected),
                duplicate: count(self.duplicate),
                expanded: count(self.expanded),
                looked_up: count(self.looked_up),
                succeeded: count(self.succeeded),
                failed: count(self.failed),
                cancelled: count(self.cancelled),
                expired: count(self.expired),
            },
            current_rate: self.current_rate,
            running: super::count(self.running),
            now: self.now,
        })
    }
}
