//! A row by user becomes a row for each of the user's blocked devices.

use std::{collections::HashSet, time::Duration};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    BatchKey,
    note::{Asked, NewRow, note_rows},
    rows::{Full, Refusal, insert_jobs, stored_device},
};
use crate::{
    audit::Personal,
    batch::{BatchNumber, Named},
    device::{DeviceId, EnvironmentId},
    job::{Bound, Caller, Counted, DeviceLimit, JobId, Limits, Priority, Reason},
    store::{
        Store, StoreError, Succeeded, column, micros,
        quota::{Ask, ROUNDS, Uncounted, count_uses, overtaken},
        stored_count, stored_status,
    },
    telemetry::{metrics, metrics::timed},
};

/// A blocked device of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub device: DeviceId,
    /// It was blocked anew after the row was recorded: it is left alone.
    pub reblocked: bool,
}

/// A device's row as it is to be recorded.
struct Fresh {
    device: DeviceId,
    job: Option<JobId>,
    duplicate: bool,
    refusal: Option<Refusal>,
}

/// What one try came to.
enum Tried {
    Done(Option<OffsetDateTime>),
    /// A bound was met: nothing changed. These were to be counted.
    Breach(Vec<(JobId, Counted)>),
}

const REBLOCKED: &str = "blocked anew after this row was recorded: left alone on purpose";

impl Store {
    /// Ends a lookup of the batch whose jobs wait in `flow`, and records a job for each device found, or that it was unblocked as
    /// often as it may be. Says when it ended; nothing where it had been superseded, and then nothing changed.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or all of it did and the answer was lost; the same call again is harmless.
    pub async fn expand(
        &self,
        lookup: &Succeeded,
        flow: i64,
        found: &[Found],
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        let _timed = timed("expand");
        let mut full = Full::new();
        for _ in 0..ROUNDS {
            match self.try_expand(lookup, flow, found, &full).await? {
                Tried::Done(ended) => return Ok(ended),
                Tried::Breach(jobs) => {
                    let asks: Vec<Ask<'_>> = jobs
                        .into_iter()
                        .map(|(job, counted)| Ask { job, request_id: None, counted })
                        .collect();
                    let met = self.find_unfit(&asks).await?;
                    full.extend(asks.iter().zip(met).filter_map(|(ask, over)| Some((ask.job, over?))));
                }
            }
        }
        Err(overtaken())
    }

    async fn try_expand(
        &self,
        lookup: &Succeeded,
        flow: i64,
        found: &[Found],
        full: &Full,
    ) -> Result<Tried, StoreError> {
        let lane = lookup.claim.id.lane();
        let Some(number) = BatchNumber::of_flow(flow) else { return Ok(Tried::Done(None)) };
        let key = BatchKey { lane, number };
        let device = self.packed(std::slice::from_ref(lookup)).await?.pop();
        let mut transaction = self.pool.begin().await?;
        let ended = sqlx::query_scalar!(
            r#"
            with gone as (
                delete from ready
                where lane = $1 and job_id = $2 and run = $3 and attempt = $4
                returning lane, job_id, environment_id, run, attempt, spared
            ), noted as (
                insert into audit (lane, event_id, environment_id, job_id, run, attempts, action, outcome, http_status, caller,
                                   correlation_id)
                select lane, audit_event_id($11, job_id), environment_id, job_id, run, attempt - spared, 6, 3, $7,
                       'pingone-unblock', $8
                from gone
            )
            insert into outcome (lane, job_id, run, state, attempt, spared, started_at, duration_us, http_status,
                                 correlation_id, device, device_at, read)
            select lane, job_id, run, 3, attempt, spared, $5, $6, $7, $8, $9, $10, true from gone
            returning completed_at
            "#,
            lane.number(),
            lookup.claim.id.as_uuid(),
            stored_count(lookup.claim.run),
            stored_count(lookup.claim.attempt),
            lookup.started_at,
            micros(lookup.duration),
            stored_status(Some(lookup.http_status)),
            lookup.correlation_id,
            device,
            lookup.snapshot.at(),
            Uuid::now_v7(),
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(ended) = ended else { return Ok(Tried::Done(None)) };
        let user = lookup.device.user;
        let mut rows: Vec<Fresh> = found
            .iter()
            .map(|found| {
                let job = number.job(lane, user, found.device);
                let reblocked =
                    || Refusal { reason: Reason::Reblocked.name().to_owned(), message: REBLOCKED.to_owned() };
                let over = full.get(&job).copied().map(Refusal::from);
                let refusal = found.reblocked.then(reblocked).or(over);
                let job = Some(job).filter(|_| refusal.is_none());
                Fresh { device: found.device, job, duplicate: false, refusal }
            })
            .collect();
        let jobs: Vec<(JobId, Named, i64)> = rows
            .iter()
            .filter_map(|row| Some((row.job?, Named { user, device: row.device }, flow)))
            .collect();
        let recorded = insert_jobs(&mut transaction, key, &jobs).await?;
        for row in &mut rows {
            row.duplicate = row.job.is_some_and(|job| !recorded.contains(&job));
        }
        note_found(&mut transaction, lookup, &jobs, &recorded).await?;
        let rejected = rows.iter().filter(|row| row.job.is_none()).count();
        let duplicate = rows.iter().filter(|row| row.duplicate).count();
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        sqlx::query!(
            r#"
            with row as (
                select number, target_offset, user_id, client_reference from batch_target
                where lane = $1 and job_id = $2 and device_id is null and not duplicate
            ), rows as (
                insert into batch_target (lane, number, target_offset, sub, user_id, device_id, client_reference, job_id,
                                          duplicate, rejection, message)
                select $1, row.number, row.target_offset, t.position, row.user_id, t.device_id, row.client_reference, t.job_id,
                       t.duplicate, t.rejection, t.message
                from row, unnest($3::uuid[], $4::uuid[], $5::bool[], $6::text[], $12::text[])
                          with ordinality as t (device_id, job_id, duplicate, rejection, message, position)
            )
            insert into batch_delta (lane, number, delta_id, jobs, expanded, duplicate, rejected, looked_up)
            values ($1, $7, $8, $9, $9, $10, $11, 1)
            "#,
            lane.number(),
            lookup.claim.id.as_uuid(),
            &column(&rows, |row| stored_device(row.device)) as &[Option<Uuid>],
            &column(&rows, |row| row.job.map(JobId::as_uuid)) as &[Option<Uuid>],
            &column(&rows, |row| row.duplicate),
            &column(&rows, |row| row.refusal.as_ref().map(|refusal| refusal.reason.clone())) as &[Option<String>],
            number.number(),
            Uuid::now_v7(),
            count(recorded.len()),
            count(duplicate),
            count(rejected),
            &column(&rows, |row| row.refusal.as_ref().map(|refusal| refusal.message.clone())) as &[Option<String>],
        )
        .execute(&mut *transaction)
        .await?;
        let used = rows.iter().filter(|row| !row.duplicate).filter_map(|row| row.job.zip(Some(row.device)));
        let used = counted(bounds(&mut transaction, key).await?, lookup.device.environment, used);
        let group: Vec<Counted> = column(&used, |(_, counted)| counted.clone());
        match count_uses(&mut transaction, &group).await {
            Ok(()) => {}
            Err(Uncounted::Breach) => return Ok(Tried::Breach(used)),
            Err(Uncounted::Store(error)) => return Err(error),
        }
        transaction.commit().await?;
        metrics().jobs.accepted(Priority::Bulk, true, recorded.len());
        metrics().security.over_quota(Bound::Device, full.len());
        Ok(Tried::Done(Some(ended)))
    }
}

/// The bound on devices that the upload of the batch had.
async fn bounds(connection: &mut PgConnection, key: BatchKey) -> Result<Limits, StoreError> {
    let stored = sqlx::query!(
        "select device_most, device_within_s from batch where lane = $1 and number = $2",
        key.lane.number(),
        key.number.number(),
    )
    .fetch_optional(connection)
    .await?;
    let per_device = stored.and_then(|row| {
        let within = Duration::from_secs(u64::try_from(row.device_within_s?).ok()?);
        Some(DeviceLimit { count: u32::try_from(row.device_most?).ok()?, within })
    });
    Ok(Limits { per_device, ..Limits::default() })
}

/// As which the devices found are counted. Their caller was counted with the row that named the user.
fn counted(
    limits: Limits,
    environment: EnvironmentId,
    used: impl Iterator<Item = (JobId, DeviceId)>,
) -> Vec<(JobId, Counted)> {
    let caller = Caller::anonymous();
    used.map(|(job, device)| {
        (job, Counted { caller: caller.clone(), environment, device: Some(device), limits })
    })
    .collect()
}

/// Tells the trail of the jobs made: in the name of whoever asked for the row.
async fn note_found(
    connection: &mut PgConnection,
    lookup: &Succeeded,
    jobs: &[(JobId, Named, i64)],
    recorded: &HashSet<JobId>,
) -> Result<(), StoreError> {
    if recorded.is_empty() {
        return Ok(());
    }
    let row = sqlx::query!(
        r#"
        select b.batch_id, b.caller, b.reason, b.ticket, b.on_behalf_of, t.client_reference
        from batch_target t
        cross join lateral (select * from batch b where b.lane = t.lane and b.number = t.number limit 1) b
        where t.lane = $1 and t.job_id = $2 and t.device_id is null and not t.duplicate
        "#,
        lookup.claim.id.lane().number(),
        lookup.claim.id.as_uuid(),
    )
    .fetch_one(&mut *connection)
    .await?;
    let asked = Asked {
        environment: lookup.device.environment,
        batch_id: &row.batch_id,
        caller: &row.caller,
        policy: None,
        trace_id: None,
        detail: Some("found for a row by user"),
        personal: Personal {
            on_behalf_of: row.on_behalf_of,
            reason: row.reason,
            ticket: row.ticket,
            ..Personal::default()
        },
    };
    let new: Vec<NewRow<'_>> = jobs
        .iter()
        .filter(|(job, ..)| recorded.contains(job))
        .map(|(job, named, _)| NewRow { job: *job, named: *named, reference: &row.client_reference })
        .collect();
    note_rows(connection, &asked, &new).await
}
