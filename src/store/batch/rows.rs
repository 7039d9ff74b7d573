//! The rows of a message: compared with what was recorded before, or recorded, each with its job.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{BatchKey, note::NewRow};
use crate::{
    batch::{Named, Refused, Target},
    device::DeviceId,
    job::{JobId, Limits, OverQuota},
    store::{StoreError, column, quota::stored_bound},
};

/// Why a row that names a device is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As `ErrorInfo.reason`.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl From<OverQuota> for Refusal {
    fn from(over: OverQuota) -> Self {
        Self { reason: over.reason().to_owned(), message: over.to_string() }
    }
}

/// The devices, by their jobs, for which there is no room.
pub(super) type Full = HashMap<JobId, OverQuota>;

struct Stored {
    user_id: Option<Uuid>,
    device_id: Option<Uuid>,
    given_user: Option<String>,
    given_device: Option<String>,
    client_reference: String,
    rejection: Option<String>,
    message: Option<String>,
}

/// A row as it is to be recorded.
pub(super) struct Fresh<'a> {
    pub(super) target: &'a Target,
    pub(super) job: Option<JobId>,
    pub(super) duplicate: bool,
    pub(super) full: Option<OverQuota>,
}

/// The rows recorded before: which of them name a device and are refused; or the first that was recorded otherwise.
pub(super) async fn compare(
    connection: &mut PgConnection,
    key: BatchKey,
    offset: u64,
    targets: &[Target],
) -> Result<Result<Vec<(u64, Refusal)>, u64>, StoreError> {
    if targets.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let stored = sqlx::query_as!(
        Stored,
        r#"
        select user_id, device_id, given_user, given_device, client_reference, rejection, message from batch_target
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
    if let Some(at) = targets.iter().zip(&stored).position(|pair| differs(&pair)) {
        return Ok(Err(offset + u64::try_from(at).unwrap_or_default()));
    }
    let refused = (offset..).zip(stored).filter_map(|(at, row)| {
        let named = row.user_id.is_some();
        let (reason, message) = row.rejection.zip(row.message).filter(|_| named)?;
        Some((at, Refusal { reason, message }))
    });
    Ok(Ok(refused.collect()))
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

/// Each row with the id of its job, unless there is no room for that; those whose device stands in an earlier one of `targets` are
/// duplicates.
pub(super) fn first_of_each<'a>(key: BatchKey, targets: &'a [Target], full: &Full) -> Vec<Fresh<'a>> {
    let mut seen = HashSet::with_capacity(targets.len());
    let fresh = |target: &'a Target| {
        let job = target.named.as_ref().ok().map(|named| key.number.job(key.lane, named.user, named.device));
        let full = job.and_then(|job| full.get(&job).copied());
        let job = job.filter(|_| full.is_none());
        Fresh { target, job, duplicate: job.is_some_and(|job| !seen.insert(job)), full }
    };
    targets.iter().map(fresh).collect()
}

/// Records the jobs of rows that are no duplicates, the first `canary_left` of them in the canary's flow. Says which are new.
pub(super) async fn record_jobs(
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
pub(super) async fn record_rows(
    connection: &mut PgConnection,
    key: BatchKey,
    offset: u64,
    rows: &[Fresh<'_>],
    jobs: usize,
    limits: Limits,
) -> Result<(), StoreError> {
    let stored = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let named = |row: &Fresh<'_>| row.target.named.as_ref().ok().copied();
    let refused = |row: &Fresh<'_>| row.target.named.as_ref().err().cloned();
    let refusal = |row: &Fresh<'_>| {
        let given = |Refused { reason, message, .. }| Refusal { reason, message };
        row.full.map(Refusal::from).or_else(|| refused(row).map(given))
    };
    let rejected = rows.iter().filter(|row| row.full.is_some() || row.target.named.is_err()).count();
    let (device_most, device_within_s) = limits.per_device.map(stored_bound).unzip();
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
                         duplicate = duplicate + $16, uploaded_at = now(), revision = revision + 1,
                         device_most = $17, device_within_s = $18
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
        &column(rows, |row| refusal(row).map(|refusal| refusal.reason)) as &[Option<String>],
        &column(rows, |row| refusal(row).map(|refusal| refusal.message)) as &[Option<String>],
        &column(rows, |row| refused(row).map(|refused| refused.user)) as &[Option<String>],
        &column(rows, |row| refused(row).map(|refused| refused.device)) as &[Option<String>],
        stored(rows.len()),
        stored(jobs),
        stored(rejected),
        stored(duplicate),
        device_most,
        device_within_s,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) fn noted<'a>(row: &Fresh<'a>) -> Option<NewRow<'a>> {
    let (job, named) = (row.job.filter(|_| !row.duplicate)?, row.target.named.as_ref().ok()?);
    Some(NewRow { job, named: *named, reference: &row.target.client_reference })
}
