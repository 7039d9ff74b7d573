//! Recording jobs: many callers, one commit.

use std::collections::HashMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Store, StoreError,
    audit::{pack, parted, trace_id},
    column, keys, micros,
};
use crate::{
    audit::{Action, Personal},
    job::{JobId, NewJob},
    telemetry::{metrics, metrics::timed},
};

/// A job to record, and whether its first attempt is claimed with it.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The job.
    pub job: NewJob,
    /// Whether the one who records it sends it at once. Saves a second write.
    pub born_claimed: bool,
}

/// What became of one [`Submission`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is a new job, made at this instant.
    New(OffsetDateTime),
    /// It was made by this very call, whose first answer was lost.
    Before,
    /// An earlier call with the same caller, environment and request id made this one.
    Earlier(JobId),
}

impl Store {
    /// Records a group of jobs in one statement; each is durable when this returns. The answer has their order.
    ///
    /// # Errors
    /// [`StoreError`]: then none of them is recorded, or all are and the answer was lost; the same call again settles it.
    pub async fn submit(&self, group: &[Submission]) -> Result<Vec<Recorded>, StoreError> {
        let _timed = timed("submit");
        metrics().postgres.carried("submit", group.len());
        let (lanes, ids) = keys(group, |entry| entry.job.id);
        let environments = column(group, |entry| entry.job.device.environment.as_uuid());
        let (digests, personal): (Vec<_>, Vec<_>) = group.iter().map(|entry| personal(&entry.job)).unzip();
        let fresh = sqlx::query!(
            r#"
            with given as (
                select * from unnest(
                    $1::smallint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[],
                    $9::text[], $10::text[], $11::smallint[], $12::bigint[], $13::text[], $14::bool[], $15::bigint[],
                    $17::uuid[], $18::text[], $19::smallint[], $20::bytea[], $21::bytea[]
                ) as t (lane, job_id, environment_id, user_id, device_id, caller, request_id, reason,
                        ticket, on_behalf_of, priority, time_to_live_us, trace_parent, born_claimed, flow,
                        trace_id, policy, action, personal_digest, personal)
            ), fresh as (
                insert into job (lane, job_id, environment_id, user_id, device_id, caller, request_id, reason, ticket,
                                 on_behalf_of, priority, created_at, expires_at, trace_parent)
                select lane, job_id, environment_id, user_id, device_id, caller, request_id, reason, ticket,
                       on_behalf_of, priority, now(), now() + time_to_live_us * interval '1 microsecond', trace_parent
                from given
                -- One order for all groups: two that share request ids wait for each other, never in a circle.
                order by lane, environment_id, caller, request_id, job_id
                on conflict do nothing
                returning lane, job_id, created_at, expires_at
            ), taken as (
                select given.*, fresh.created_at, fresh.expires_at from fresh join given using (lane, job_id)
            ), waiting as (
                insert into ready (lane, job_id, environment_id, flow, due_at, run, attempt, expires_at, lease_until)
                select lane, job_id, environment_id, flow, created_at, 1, case when born_claimed then 1 else 0 end, expires_at,
                       case when born_claimed then created_at + $16::bigint * interval '1 microsecond'
                            else '-infinity'::timestamptz end
                from taken
            ), noted as (
                insert into audit (lane, event_id, environment_id, trace_id, action, caller, policy, personal_digest, personal)
                select lane, job_id, environment_id, trace_id, action, caller, policy, personal_digest, personal from taken
            )
            select job_id, created_at from fresh
            "#,
            &lanes,
            &ids,
            &environments,
            &column(group, |entry| entry.job.device.user.as_uuid()),
            &column(group, |entry| entry.job.device.device.as_uuid()),
            &column(group, |entry| entry.job.actor.caller.as_str().to_owned()),
            &column(group, |entry| entry.job.request_id.clone()) as &[Option<String>],
            &column(group, |entry| entry.job.reason.clone()),
            &column(group, |entry| entry.job.ticket.clone()),
            &column(group, |entry| entry.job.on_behalf_of.clone()),
            &column(group, |entry| entry.job.priority.number()),
            &column(group, |entry| micros(entry.job.time_to_live)),
            &column(group, |entry| entry.job.trace_parent.clone()) as &[Option<String>],
            &column(group, |entry| entry.born_claimed),
            &column(group, |entry| entry.job.priority.flow()),
            micros(super::LEASE),
            &column(group, |entry| trace_id(&entry.job.actor)) as &[Option<Uuid>],
            &column(group, |entry| entry.job.actor.policy.as_ref().to_owned()),
            &column(group, |entry| asked(&entry.job).number()),
            &digests as &[Option<Vec<u8>>],
            &personal as &[Option<Vec<u8>>],
        )
        .fetch_all(&self.pool)
        .await?;

        let fresh: HashMap<Uuid, OffsetDateTime> =
            fresh.into_iter().map(|row| (row.job_id, row.created_at)).collect();
        let mut recorded = Vec::with_capacity(group.len());
        for entry in group {
            recorded.push(match fresh.get(&entry.job.id.as_uuid()) {
                Some(created_at) => Recorded::New(*created_at),
                None => self.find_earlier(&entry.job).await?,
            });
        }
        Ok(recorded)
    }

    /// The job that took the request id first. A statement of its own: the one that met the conflict cannot see the row.
    async fn find_earlier(&self, job: &NewJob) -> Result<Recorded, StoreError> {
        let found = sqlx::query_scalar!(
            "select job_id from job where lane = $1 and environment_id = $2 and caller = $3 and request_id = $4",
            job.id.lane().number(),
            job.device.environment.as_uuid(),
            job.actor.caller.as_str(),
            job.request_id,
        )
        .fetch_optional(&self.pool)
        .await?;
        match found {
            Some(id) if id == job.id.as_uuid() => Ok(Recorded::Before),
            Some(id) => Ok(Recorded::Earlier(id.into())),
            // Without a request id only the job's own id can conflict: this very group, recorded before its answer was lost.
            None if job.request_id.is_none() => Ok(Recorded::Before),
            None => Err(StoreError::Corrupt(format!("job {} met a request id that is not there", job.id))),
        }
    }
}

fn asked(job: &NewJob) -> Action {
    if job.device.is_every() { Action::Listed } else { Action::Requested }
}

/// What the trail keeps of a request that is personal, its digest first.
fn personal(job: &NewJob) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let device = job.device;
    let personal = Personal {
        user: Some(device.user),
        device: (!device.is_every()).then_some(device.device),
        on_behalf_of: job.on_behalf_of.clone(),
        reason: job.reason.clone(),
        ticket: job.ticket.clone(),
        ..Personal::default()
    };
    parted(pack(&job.actor, personal))
}
