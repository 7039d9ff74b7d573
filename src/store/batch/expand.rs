//! A row by user becomes a row for each of the user's blocked devices.

use std::collections::HashSet;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    BatchKey,
    append::{insert_jobs, stored_device},
    note::{Asked, NewRow, note_rows},
};
use crate::{
    audit::Personal,
    batch::{BatchNumber, Named},
    device::DeviceId,
    job::{JobId, Priority, Reason},
    store::{Store, StoreError, Succeeded, column, micros, stored_count, stored_status},
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
}

impl Store {
    /// Ends a lookup of the batch whose jobs wait in `flow`, and records a job for each device found. Says when it ended; nothing
    /// where it had been superseded, and then nothing changed.
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
        let lane = lookup.claim.id.lane();
        let Some(number) = BatchNumber::of_flow(flow) else { return Ok(None) };
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
        let Some(ended) = ended else { return Ok(None) };
        let user = lookup.device.user;
        let mut rows: Vec<Fresh> = found
            .iter()
            .map(|found| Fresh {
                device: found.device,
                job: (!found.reblocked).then(|| number.job(lane, user, found.device)),
                duplicate: false,
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
                       t.duplicate, case when t.job_id is null then $6 end,
                       case when t.job_id is null
                            then 'blocked anew after this row was recorded: left alone on purpose' end
                from row, unnest($3::uuid[], $4::uuid[], $5::bool[])
                          with ordinality as t (device_id, job_id, duplicate, position)
            )
            insert into batch_delta (lane, number, delta_id, jobs, expanded, duplicate, rejected, looked_up)
            values ($1, $7, $8, $9, $9, $10, $11, 1)
            "#,
            lane.number(),
            lookup.claim.id.as_uuid(),
            &column(&rows, |row| stored_device(row.device)) as &[Option<Uuid>],
            &column(&rows, |row| row.job.map(JobId::as_uuid)) as &[Option<Uuid>],
            &column(&rows, |row| row.duplicate),
            Reason::Reblocked.name(),
            number.number(),
            Uuid::now_v7(),
            count(recorded.len()),
            count(duplicate),
            count(rejected),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        metrics().jobs.accepted(Priority::Bulk, true, recorded.len());
        Ok(Some(ended))
    }
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
