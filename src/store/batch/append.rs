//! Recording rows of a batch, each once, in the order of their offsets; and the seal.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    BatchKey,
    note::{Asked, NewRow, note_rows},
};
use crate::{
    audit::{Action, Personal},
    batch::{Header, Named, State, Target},
    device::DeviceId,
    job::{Actor, JobId, Priority},
    store::{Store, StoreError, audit::Note, column},
    telemetry::{metrics, metrics::timed},
};

/// Why rows or a seal were not taken. Nothing was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// There is no such batch.
    Unknown,
    /// A newer upload writes this batch.
    Superseded,
    /// Rows before this one are missing.
    Gap {
        /// Where the upload goes on.
        next_offset: u64,
    },
    /// This row was recorded before, and otherwise.
    Conflict {
        /// Which.
        offset: u64,
    },
    /// The batch is sealed: it has so many rows.
    Sealed {
        /// How many.
        rows: u64,
    },
    /// The seal counts other rows than were recorded.
    Count {
        /// How many were.
        rows: u64,
    },
    /// It takes no more rows: it is cancelled.
    Cancelled,
    /// It takes no more rows: its time is over.
    Expired,
}

/// What was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Everything below is durable.
    pub next_offset: u64,
    /// So many jobs are new.
    pub jobs: usize,
}

struct Standing {
    state: i16,
    upload: i64,
    next_offset: i64,
    sealed: bool,
    expired: bool,
    canary_left: i64,
}

struct Stored {
    user_id: Option<Uuid>,
    device_id: Option<Uuid>,
    given_user: Option<String>,
    given_device: Option<String>,
    client_reference: String,
}

/// A row as it is to be recorded.
struct Fresh<'a> {
    target: &'a Target,
    job: Option<JobId>,
    duplicate: bool,
}

impl Store {
    /// Records rows from `offset` on. Those recorded before are compared, not repeated. `upload`: as the opening said, where it is
    /// one of a stream.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing was recorded, or the answer was lost; the same call again is harmless.
    pub async fn append_targets(
        &self,
        key: BatchKey,
        header: &Header,
        actor: &Actor,
        upload: Option<i64>,
        offset: u64,
        targets: &[Target],
    ) -> Result<Result<Appended, Unfit>, StoreError> {
        let _timed = timed("append_targets");
        let mut transaction = self.pool.begin().await?;
        let Some(standing) = lock(&mut transaction, key).await? else { return Ok(Err(Unfit::Unknown)) };
        if upload.is_some_and(|upload| upload != standing.upload) {
            return Ok(Err(Unfit::Superseded));
        }
        let next_offset = u64::try_from(standing.next_offset).unwrap_or_default();
        if offset > next_offset {
            return Ok(Err(Unfit::Gap { next_offset }));
        }
        let known = usize::try_from(next_offset - offset).unwrap_or(usize::MAX).min(targets.len());
        let (before, new) = targets.split_at(known);
        metrics().jobs.rows(false, before.len());
        if let Some(offset) = conflict(&mut transaction, key, offset, before).await? {
            return Ok(Err(Unfit::Conflict { offset }));
        }
        if new.is_empty() {
            return Ok(Ok(Appended { next_offset, jobs: 0 }));
        }
        if let Err(unfit) = takes_rows(&standing, next_offset) {
            return Ok(Err(unfit));
        }
        let mut fresh = first_of_each(key, new);
        let recorded = record_jobs(&mut transaction, key, &fresh, standing.canary_left).await?;
        for row in &mut fresh {
            row.duplicate |= row.job.is_some_and(|job| !recorded.contains(&job));
        }
        record_rows(&mut transaction, key, next_offset, &fresh, recorded.len()).await?;
        // Those that made no job are no action: they stand in the batch.
        let noted: Vec<NewRow<'_>> = fresh.iter().filter_map(noted).collect();
        note_rows(&mut transaction, &Asked::by(actor, header), &noted).await?;
        transaction.commit().await?;
        metrics().jobs.rows(true, new.len());
        metrics().jobs.accepted(Priority::Bulk, true, recorded.len());
        let next_offset = next_offset + u64::try_from(new.len()).unwrap_or_default();
        // Without its row an environment has no owner who looks.
        self.register_environments(&[header.environment]).await?;
        Ok(Ok(Appended { next_offset, jobs: recorded.len() }))
    }

    /// No more rows will come. Again with the same count: harmless.
    ///
    /// # Errors
    /// [`StoreError`]: then it is sealed or not; the same call again is harmless.
    pub async fn seal_batch(
        &self,
        key: BatchKey,
        actor: &Actor,
        upload: Option<i64>,
        rows: u64,
    ) -> Result<Result<(), Unfit>, StoreError> {
        let _timed = timed("seal_batch");
        let mut transaction = self.pool.begin().await?;
        let Some(standing) = lock(&mut transaction, key).await? else { return Ok(Err(Unfit::Unknown)) };
        if upload.is_some_and(|upload| upload != standing.upload) {
            return Ok(Err(Unfit::Superseded));
        }
        let recorded = u64::try_from(standing.next_offset).unwrap_or_default();
        if rows != recorded {
            return Ok(Err(Unfit::Count { rows: recorded }));
        }
        if standing.sealed {
            return Ok(Ok(()));
        }
        if standing.state == State::Cancelled.number() || standing.state == State::Cancelling.number() {
            return Ok(Err(Unfit::Cancelled));
        }
        let note = Note::by(actor, key.lane, Personal::default());
        sqlx::query!(
            r#"
            with sealed as (
                update batch set sealed = true, uploaded_at = now(), revision = revision + 1,
                                 state = case when state = 1 then 2 else state end
                where lane = $1 and number = $2
                returning lane, environment_id, batch_id, next_offset
            )
            insert into audit (lane, event_id, environment_id, trace_id, count, action, caller, policy, batch_id,
                               personal_digest, personal)
            select lane, $3, environment_id, $4, next_offset, $5, $6, $7, batch_id, $8, $9 from sealed
            "#,
            key.lane.number(),
            key.number.number(),
            note.event_id,
            note.trace_id,
            Action::BatchSealed.number(),
            note.caller,
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Ok(()))
    }
}

async fn lock(connection: &mut PgConnection, key: BatchKey) -> Result<Option<Standing>, StoreError> {
    let standing = sqlx::query_as!(
        Standing,
        r#"
        select state, upload, next_offset, sealed, expires_at <= now() as "expired!",
               case when canary_passed then 0 else greatest(canary_count - jobs, 0) end as "canary_left!"
        from batch where lane = $1 and number = $2 for update
        "#,
        key.lane.number(),
        key.number.number(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(standing)
}

fn takes_rows(standing: &Standing, rows: u64) -> Result<(), Unfit> {
    match State::from_number(standing.state) {
        _ if standing.sealed => Err(Unfit::Sealed { rows }),
        Some(State::Cancelled | State::Cancelling) => Err(Unfit::Cancelled),
        _ if standing.expired => Err(Unfit::Expired),
        _ => Ok(()),
    }
}

/// The first row that was recorded otherwise.
async fn conflict(
    connection: &mut PgConnection,
    key: BatchKey,
    offset: u64,
    targets: &[Target],
) -> Result<Option<u64>, StoreError> {
    if targets.is_empty() {
        return Ok(None);
    }
    let stored = sqlx::query_as!(
        Stored,
        r#"
        select user_id, device_id, given_user, given_device, client_reference from batch_target
        where lane = $1 and number = $2 and target_offset >= $3 and target_offset < $4 and sub = 0
        order by target_offset
        "#,
        key.lane.number(),
        key.number.number(),
        i64::try_from(offset).unwrap_or(i64::MAX),
        i64::try_from(offset)
            .unwrap_or(i64::MAX)
            .saturating_add(i64::try_from(targets.len()).unwrap_or(i64::MAX)),
    )
    .fetch_all(connection)
    .await?;
    let differs = |(target, stored): &(&Target, &Stored)| !same(target, stored);
    let at = targets.iter().zip(&stored).position(|pair| differs(&pair));
    Ok(at.map(|at| offset + u64::try_from(at).unwrap_or_default()))
}

fn same(target: &Target, stored: &Stored) -> bool {
    let named = match &target.named {
        Ok(Named { user, device }) => {
            stored.user_id == Some(user.as_uuid()) && stored.device_id == stored_device(*device)
        }
        Err(refused) => {
            stored.given_user.as_deref() == Some(&refused.user)
                && stored.given_device.as_deref() == Some(&refused.device)
        }
    };
    named && stored.client_reference == target.client_reference
}

/// Nothing stands for every device.
pub(super) fn stored_device(device: DeviceId) -> Option<Uuid> {
    (device != DeviceId::EVERY).then(|| device.as_uuid())
}

/// Each row with the id of its job; those whose device stands in an earlier one of `targets` are duplicates.
fn first_of_each<'a>(key: BatchKey, targets: &'a [Target]) -> Vec<Fresh<'a>> {
    let mut seen = HashSet::with_capacity(targets.len());
    let fresh = |target: &'a Target| {
        let job = target.named.as_ref().ok().map(|named| key.number.job(key.lane, named.user, named.device));
        Fresh { target, job, duplicate: job.is_some_and(|job| !seen.insert(job)) }
    };
    targets.iter().map(fresh).collect()
}

/// Records the jobs of rows that are no duplicates, the first `canary_left` of them in the canary's flow. Says which are new.
async fn record_jobs(
    connection: &mut PgConnection,
    key: BatchKey,
    rows: &[Fresh<'_>],
    canary_left: i64,
) -> Result<HashSet<JobId>, StoreError> {
    let mut canary_left = usize::try_from(canary_left).unwrap_or_default();
    let mut jobs: Vec<(JobId, Named, i64)> = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| !row.duplicate) {
        let (Some(job), Ok(named)) = (row.job, &row.target.named) else { continue };
        let flow = if canary_left > 0 { key.number.canary_flow() } else { key.number.flow() };
        canary_left = canary_left.saturating_sub(1);
        jobs.push((job, *named, flow));
    }
    insert_jobs(connection, key, &jobs).await
}

/// Records jobs of the batch, each in its flow; says which are new.
pub(super) async fn insert_jobs(
    connection: &mut PgConnection,
    key: BatchKey,
    jobs: &[(JobId, Named, i64)],
) -> Result<HashSet<JobId>, StoreError> {
    if jobs.is_empty() {
        return Ok(HashSet::new());
    }
    let recorded = sqlx::query_scalar!(
        r#"
        with fresh as (
            insert into job (lane, job_id, environment_id, user_id, device_id, caller, reason, ticket, on_behalf_of, priority,
                             created_at, expires_at, trace_parent, flow)
            select b.lane, t.job_id, b.environment_id, t.user_id, t.device_id, b.caller, b.reason, b.ticket, b.on_behalf_of, 2,
                   now(), b.expires_at, b.trace_parent, t.flow
            from batch b, unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::bigint[]) as t (job_id, user_id, device_id, flow)
            where b.lane = $1 and b.number = $2
            on conflict do nothing
            returning lane, job_id, environment_id, flow, created_at, expires_at
        ), waiting as (
            insert into ready (lane, job_id, environment_id, flow, due_at, run, attempt, expires_at)
            select lane, job_id, environment_id, flow, created_at, 1, 0, expires_at from fresh
        )
        select job_id from fresh
        "#,
        key.lane.number(),
        key.number.number(),
        &column(jobs, |(job, _, _)| job.as_uuid()),
        &column(jobs, |(_, named, _)| named.user.as_uuid()),
        &column(jobs, |(_, named, _)| named.device.as_uuid()),
        &column(jobs, |(_, _, flow)| *flow),
    )
    .fetch_all(connection)
    .await?;
    Ok(recorded.into_iter().map(JobId::from).collect())
}

/// Records the rows themselves, from `offset` on, and counts them.
async fn record_rows(
    connection: &mut PgConnection,
    key: BatchKey,
    offset: u64,
    rows: &[Fresh<'_>],
    jobs: usize,
) -> Result<(), StoreError> {
    let stored = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let named = |row: &Fresh<'_>| row.target.named.as_ref().ok().copied();
    let refused = |row: &Fresh<'_>| row.target.named.as_ref().err().cloned();
    let rejected = rows.iter().filter(|row| row.target.named.is_err()).count();
    let duplicate = rows.iter().filter(|row| row.duplicate).count();
    sqlx::query!(
        r#"
        with rows as (
            insert into batch_target (lane, number, target_offset, sub, user_id, device_id, client_reference, job_id,
                                      duplicate, rejection, message, given_user, given_device)
            select $1, $2, $3 + t.position - 1, 0, t.user_id, t.device_id, t.client_reference, t.job_id, t.duplicate,
                   t.rejection, t.message, t.given_user, t.given_device
            from unnest($4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::bool[], $9::text[], $10::text[], $11::text[],
                        $12::text[])
                with ordinality
                as t (user_id, device_id, client_reference, job_id, duplicate, rejection, message, given_user, given_device,
                      position)
        )
        update batch set next_offset = next_offset + $13, jobs = jobs + $14, rejected = rejected + $15,
                         duplicate = duplicate + $16, uploaded_at = now(), revision = revision + 1
        where lane = $1 and number = $2
        "#,
        key.lane.number(),
        key.number.number(),
        offset,
        &column(rows, |row| named(row).map(|named| named.user.as_uuid())) as &[Option<Uuid>],
        &column(rows, |row| named(row).and_then(|named| stored_device(named.device))) as &[Option<Uuid>],
        &column(rows, |row| row.target.client_reference.clone()),
        &column(rows, |row| row.job.map(JobId::as_uuid)) as &[Option<Uuid>],
        &column(rows, |row| row.duplicate),
        &column(rows, |row| refused(row).map(|refused| refused.reason)) as &[Option<String>],
        &column(rows, |row| refused(row).map(|refused| refused.message)) as &[Option<String>],
        &column(rows, |row| refused(row).map(|refused| refused.user)) as &[Option<String>],
        &column(rows, |row| refused(row).map(|refused| refused.device)) as &[Option<String>],
        stored(rows.len()),
        stored(jobs),
        stored(rejected),
        stored(duplicate),
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn noted<'a>(row: &Fresh<'a>) -> Option<NewRow<'a>> {
    let (job, named) = (row.job.filter(|_| !row.duplicate)?, row.target.named.as_ref().ok()?);
    Some(NewRow { job, named: *named, reference: &row.target.client_reference })
}
