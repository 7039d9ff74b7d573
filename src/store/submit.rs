//! Recording jobs: many callers, one commit.

use std::collections::HashMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Store, StoreError,
    audit::{pack, parted, trace_id},
    column, keys, micros,
    quota::{Ask, Bounds, ROUNDS, Uncounted, alike, overtaken},
};
use crate::{
    audit::{Action, Personal},
    job::{Counted, JobId, NewJob, OverQuota},
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
    /// It is not: it would exceed a bound.
    Refused(OverQuota),
}

impl Store {
    /// Records a group of jobs in one statement; each is durable when this returns. The answer has their order. What exceeds a
    /// bound is refused by itself: where one was met lately, `look` finds that without a statement that fails.
    ///
    /// # Errors
    /// [`StoreError`]: then none of them is recorded, or some are and the answer was lost; the same call again settles it.
    pub async fn submit(&self, group: &[Submission], look: bool) -> Result<Vec<Recorded>, StoreError> {
        let _timed = timed("submit");
        metrics().postgres.carried("submit", group.len());
        let counted: Vec<Option<Counted>> = column(group, |entry| Counted::of(&entry.job));
        let mut answers: Vec<Option<Recorded>> = vec![None; group.len()];
        let (mut look, mut breaches) = (look, 0);
        loop {
            let left = |answers: &[Option<Recorded>]| -> Vec<usize> {
                (0..group.len()).filter(|index| answers[*index].is_none()).collect()
            };
            if look {
                self.refuse(group, &counted, &left(&answers), &mut answers).await?;
            }
            let now = alike(left(&answers).into_iter().map(|index| (index, counted[index].as_ref())));
            if now.is_empty() {
                break;
            }
            let entries: Vec<(&Submission, Option<&Counted>)> =
                now.iter().map(|index| (&group[*index], counted[*index].as_ref())).collect();
            match self.submit_alike(&entries).await {
                Ok(recorded) => {
                    now.into_iter()
                        .zip(recorded)
                        .for_each(|(index, recorded)| answers[index] = Some(recorded));
                }
                Err(Uncounted::Breach) if breaches < ROUNDS => (look, breaches) = (true, breaches + 1),
                Err(Uncounted::Breach) => return Err(overtaken()),
                Err(Uncounted::Store(error)) => return Err(error),
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Refuses those of `left` for which there is no room.
    async fn refuse(
        &self,
        group: &[Submission],
        counted: &[Option<Counted>],
        left: &[usize],
        answers: &mut [Option<Recorded>],
    ) -> Result<(), StoreError> {
        let (indices, asks): (Vec<usize>, Vec<Ask<'_>>) = left
            .iter()
            .filter_map(|index| {
                let (job, counted) = (&group[*index].job, counted[*index].clone()?);
                Some((*index, Ask { job: job.id, request_id: job.request_id.as_deref(), counted }))
            })
            .unzip();
        for (index, over) in indices.into_iter().zip(self.find_unfit(&asks).await?) {
            answers[index] = over.map(Recorded::Refused);
        }
        Ok(())
    }

    /// Records all of a group and counts it, or nothing.
    async fn submit_alike(
        &self,
        group: &[(&Submission, Option<&Counted>)],
    ) -> Result<Vec<Recorded>, Uncounted> {
        let bounds =
            Bounds::of(group.iter().map(|(entry, counted)| (entry.job.actor.caller.as_str(), *counted)));
        let group: Vec<&Submission> = group.iter().map(|(entry, _)| *entry).collect();
        let group = group.as_slice();
        let (lanes, ids) = keys(group, |entry| entry.job.id);
        let environments = column(group, |entry| entry.job.device.environment.as_uuid());
        let (digests, personal): (Vec<_>, Vec<_>) = group.iter().map(|entry| personal(&entry.job)).unzip();
        let fresh = sqlx::query!(
            r#"
            with given as (
                select * from unnest(
                    $1::smallint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[],
                    $9::text[], $10::text[], $11::smallint[], $12::bigint[], $13::text[], $14::bool[], $15::bigint[],
                    $17::uuid[], $18::text[], $19::smallint[], $20::bytea[], $21::bytea[],
                    $22::smallint[], $23::integer[], $24::integer[], $25::smallint[], $26::integer[]
                ) as t (lane, job_id, environment_id, user_id, device_id, caller, request_id, reason,
                        ticket, on_behalf_of, priority, time_to_live_us, trace_parent, born_claimed, flow,
                        trace_id, policy, action, personal_digest, personal,
                        caller_lane, per_hour, per_day, device_most, device_within_s)
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
            -- From here on as in count_uses.
            ), callers as (
                insert into caller_use as u (lane, caller, hour, in_hour, per_hour, day, in_day, per_day)
                select caller_lane, caller, date_trunc('hour', max(created_at), 'UTC'), count(*)::integer, min(per_hour),
                       date_trunc('day', max(created_at), 'UTC'), count(*)::integer, min(per_day)
                from taken where per_hour is not null or per_day is not null
                group by caller_lane, caller order by caller_lane, caller
                on conflict (lane, caller) do update set
                    hour = greatest(u.hour, excluded.hour),
                    in_hour = case when u.hour >= excluded.hour then u.in_hour else 0 end + excluded.in_hour,
                    per_hour = excluded.per_hour,
                    day = greatest(u.day, excluded.day),
                    in_day = case when u.day >= excluded.day then u.in_day else 0 end + excluded.in_day,
                    per_day = excluded.per_day
                returning 1
            ), devices as (
                insert into device_use as u (lane, most, within_s, environment_id, device_id, used_at)
                select lane, min(device_most), max(device_within_s), environment_id, device_id, array_agg(created_at)
                from taken where device_most is not null and (select count(*) from callers) >= 0
                group by lane, environment_id, device_id order by lane, environment_id, device_id
                on conflict (lane, environment_id, device_id) do update set
                    most = excluded.most, within_s = excluded.within_s,
                    used_at = case when excluded.used_at[1] >= u.used_at[1] then excluded.used_at
                                   else array_fill(u.used_at[1], array[cardinality(excluded.used_at)]) end
                              || array(select t from unnest(u.used_at) t where t > excluded.used_at[1] - interval '7 days'
                                       order by t desc)
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
            &bounds.caller_lanes,
            &bounds.per_hour as &[Option<i32>],
            &bounds.per_day as &[Option<i32>],
            &bounds.device_most as &[Option<i16>],
            &bounds.device_within_s as &[Option<i32>],
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
