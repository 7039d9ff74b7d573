//! Finding what is due, and taking it for one attempt.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, between, column, count, keys, micros, stored_count};
use crate::{
    device::{DeviceId, DeviceRef, EnvironmentId, Lane, UserId},
    job::{JobId, Priority, Reason, State},
    telemetry::{metrics, metrics::timed},
};

/// How long a claim holds: longer than an attempt can last, so that no second one overlaps it.
pub const LEASE: Duration = Duration::from_secs(20);
/// How long after its claim was asked for a request may start: who cancels a claimed job waits that long for a true answer.
pub const SEND_WINDOW: Duration = Duration::from_millis(400);
/// Jobs due this soon are shown too: whoever reads is there when their time comes.
const DUE_SOON: Duration = Duration::from_secs(1);

/// A place in the order of a flow.
pub type Place = (OffsetDateTime, JobId);

/// From where in a flow to read how many jobs.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Whose jobs.
    pub environment: EnvironmentId,
    /// Of which flow.
    pub flow: i64,
    /// Behind this place; nothing: from the start.
    pub after: Option<Place>,
    /// So many at most.
    pub at_most: u32,
}

/// An unfinished job, as it was seen.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its id.
    pub id: JobId,
    /// What to unblock.
    pub device: DeviceRef,
    /// Its flow.
    pub flow: i64,
    /// Its run.
    pub run: u32,
    /// Claims of that run so far.
    pub attempt: u32,
    /// Since when it may be sent.
    pub due_at: OffsetDateTime,
    /// How long until then.
    pub due_in: Duration,
    /// How long until it expires.
    pub expires_in: Duration,
    /// How long somebody's claim of it holds still.
    pub leased_for: Duration,
    /// When the last claim ended without having been given up: its owner died without a word, or may yet.
    pub lapsed: Option<OffsetDateTime>,
    /// Whether a request for it may have reached PingOne before.
    pub repeated: bool,
    /// When its run was asked for.
    pub requested_at: OffsetDateTime,
    /// How long ago that was.
    pub age: Duration,
    /// The W3C trace context of the call that made the job.
    pub trace_parent: Option<String>,
}

/// A job that is ours for one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run: u32,
    /// The number of this claim within the run: the fence of what is written about it.
    pub attempt: u32,
}

/// A job to claim, as it was seen.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its id.
    pub id: JobId,
    /// Its run.
    pub run: u32,
    /// Claims of that run so far.
    pub attempt: u32,
    /// When the last of them ended without a word.
    pub lapsed: Option<OffsetDateTime>,
}

/// What a sweep found of one flow.
#[derive(Debug, Clone, Copy)]
pub struct Swept {
    /// Whose.
    pub environment: EnvironmentId,
    /// Which flow.
    pub flow: i64,
    /// How many unfinished jobs it has.
    pub count: i64,
    /// Since when the first that nobody holds is due.
    pub first_due_at: Option<OffsetDateTime>,
    /// Whether some have no time left, or a cancel upon them, and nobody holds them.
    pub overdue: bool,
}

impl Store {
    /// The unfinished jobs of each stretch in its order, those that somebody holds too.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_heads(&self, stretches: &[Stretch]) -> Result<Vec<Head>, StoreError> {
        let _timed = timed("find_heads");
        let rows = sqlx::query!(
            r#"
            select r.job_id, r.environment_id, r.flow, r.run, r.attempt, r.due_at, r.expires_at,
                   case when r.lease_until > '-infinity' then r.lease_until end as lease_until,
                   j.user_id, j.device_id, j.trace_parent, coalesce(d.requested_at, j.created_at) as "requested_at!",
                   a.job_id is not null as "repeated!", now() as "now!"
            from unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::uuid[], $6::bigint[])
                 with ordinality as e (lane, environment_id, flow, after_due_at, after_job_id, at_most, number)
            cross join lateral (
                select * from ready
                where ready.lane = e.lane and ready.environment_id = e.environment_id and ready.flow = e.flow
                  and (ready.due_at, ready.job_id) > (e.after_due_at, e.after_job_id)
                  and ready.due_at <= now() + $7::bigint * interval '1 microsecond'
                order by ready.due_at, ready.job_id
                limit e.at_most
            ) r
            -- One by one, whatever the planner believes of these tables' sizes.
            join lateral (select * from job where job.lane = r.lane and job.job_id = r.job_id limit 1) j on true
            left join lateral (
                select requested_at from redrive
                where redrive.lane = r.lane and redrive.job_id = r.job_id and redrive.run = r.run and r.run > 1 limit 1
            ) d on true
            left join lateral (
                select attempt.job_id from attempt
                where attempt.lane = r.lane and attempt.job_id = r.job_id and r.attempt > 0 limit 1
            ) a on true
            order by e.number, r.due_at, r.job_id
            "#,
            &column(stretches, |stretch| stretch.environment.lane().number()),
            &column(stretches, |stretch| stretch.environment.as_uuid()),
            &column(stretches, |stretch| stretch.flow),
            &column(stretches, |stretch| stretch.after.map_or(OffsetDateTime::UNIX_EPOCH, |(due_at, _)| due_at)),
            &column(stretches, |stretch| stretch.after.map_or(JobId::first(), |(_, id)| id).as_uuid()),
            &column(stretches, |stretch| i64::from(stretch.at_most)),
            micros(DUE_SOON),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Head {
                id: row.job_id.into(),
                device: DeviceRef {
                    environment: row.environment_id.into(),
                    user: UserId::from(row.user_id),
                    device: DeviceId::from(row.device_id),
                },
                flow: row.flow,
                run: count(row.run),
                attempt: count(row.attempt),
                due_at: row.due_at,
                due_in: between(row.now, row.due_at),
                expires_in: between(row.now, row.expires_at),
                leased_for: row.lease_until.map(|until| between(row.now, until)).unwrap_or_default(),
                lapsed: row.lease_until,
                repeated: row.repeated || row.run > 1 || row.lease_until.is_some(),
                requested_at: row.requested_at,
                age: between(row.requested_at, row.now),
                trace_parent: row.trace_parent,
            })
            .collect())
    }

    /// Takes those of `candidates` that are still as they were seen; says which. A claim that lapsed before is recorded as an
    /// attempt whose effect nobody knows.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing is claimed, or claims nobody uses will lapse.
    pub async fn claim(&self, candidates: &[Candidate]) -> Result<Vec<JobId>, StoreError> {
        let _timed = timed("claim");
        metrics().postgres.carried("claim", candidates.len());
        let (lanes, ids) = keys(candidates, |candidate| candidate.id);
        let claimed = sqlx::query_scalar!(
            r#"
            with seen as (
                select * from unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[])
                    as t (lane, job_id, run, attempt, lapsed)
            ), claimed as (
                update ready
                set attempt = ready.attempt + 1, lease_until = now() + $6::bigint * interval '1 microsecond'
                from seen
                where ready.lane = seen.lane and ready.job_id = seen.job_id
                  and ready.run = seen.run and ready.attempt = seen.attempt
                  and ready.lease_until < now() and ready.expires_at > now() and not ready.cancel_requested
                returning ready.lane, ready.job_id, ready.run, ready.attempt, seen.lapsed
            ), lost as (
                insert into attempt (lane, job_id, run, number, started_at, duration_us, error_reason, error_message)
                select lane, job_id, run, attempt - 1, lapsed - $6::bigint * interval '1 microsecond', $6::bigint,
                       $7::text, 'the replica that sent this stopped before it could save an answer; the effect is unknown'
                from claimed where lapsed is not null
                on conflict do nothing
            )
            select job_id as "job_id!" from claimed
            "#,
            &lanes,
            &ids,
            &column(candidates, |candidate| stored_count(candidate.run)),
            &column(candidates, |candidate| stored_count(candidate.attempt)),
            &column(candidates, |candidate| candidate.lapsed) as &[Option<OffsetDateTime>],
            micros(LEASE),
            Reason::Timeout.name(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(claimed.into_iter().map(JobId::from).collect())
    }

    /// Renews a claim for a second request within the attempt. False when it may not be made: the job is cancelled, past its
    /// time, or somebody else's.
    ///
    /// # Errors
    /// [`StoreError`]: then the claim may be renewed or not.
    pub async fn renew_claim(&self, claim: &Claim) -> Result<bool, StoreError> {
        let _timed = timed("renew_claim");
        let renewed = sqlx::query!(
            r#"
            update ready set lease_until = now() + $5::bigint * interval '1 microsecond'
            where lane = $1 and job_id = $2 and run = $3 and attempt = $4
              and lease_until > now() and expires_at > now() and not cancel_requested
            "#,
            claim.id.lane().number(),
            claim.id.as_uuid(),
            stored_count(claim.run),
            stored_count(claim.attempt),
            micros(LEASE),
        )
        .execute(&self.pool)
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Counts what is unfinished in `lanes`, and finds out what is due and overdue. Reads every row: for now and then.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn sweep(&self, lanes: &[Lane]) -> Result<Vec<Swept>, StoreError> {
        let _timed = timed("sweep");
        let rows = sqlx::query!(
            r#"
            select environment_id, flow, count(*) as "count!",
                   min(due_at) filter (where lease_until < now() and due_at <= now()) as first_due_at,
                   coalesce(bool_or(lease_until < now() and (expires_at <= now() or cancel_requested)), false) as "overdue!"
            from ready where lane = any($1)
            group by lane, environment_id, flow
            "#,
            &column(lanes, |lane| lane.number()),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Swept {
                environment: row.environment_id.into(),
                flow: row.flow,
                count: row.count,
                first_due_at: row.first_due_at,
                overdue: row.overdue,
            })
            .collect())
    }

    /// Ends what waits in `environment` and has no time left or a cancel upon it, at most `limit` jobs; says which.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing ended.
    pub async fn end_overdue(
        &self,
        environment: EnvironmentId,
        limit: u32,
    ) -> Result<Vec<JobId>, StoreError> {
        let _timed = timed("end_overdue");
        let overdue = sqlx::query_scalar!(
            r#"
            select job_id from ready
            where lane = $1 and environment_id = $2 and lease_until < now() and (expires_at <= now() or cancel_requested)
            -- The order has it looked for by the environment, not in all of the lane.
            order by flow, due_at, job_id
            limit $3
            "#,
            environment.lane().number(),
            environment.as_uuid(),
            i64::from(limit),
        )
        .fetch_all(&self.pool)
        .await?;
        self.end_if_overdue(&overdue.into_iter().map(JobId::from).collect::<Vec<_>>()).await
    }

    /// Ends those of `ids` that wait and have no time left or a cancel upon them; says which.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing ended.
    pub async fn end_if_overdue(&self, ids: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        let _timed = timed("end_if_overdue");
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (lanes, uuids) = keys(ids, |id| *id);
        let ended = sqlx::query!(
            r#"
            with overdue as (
                select ready.lane, ready.job_id from ready
                join unnest($1::smallint[], $2::uuid[]) as t (lane, job_id)
                  on ready.lane = t.lane and ready.job_id = t.job_id
                where lease_until < now() and (expires_at <= now() or cancel_requested)
                order by ready.lane, ready.job_id
                for update of ready skip locked
            ), gone as (
                delete from ready using overdue
                where ready.lane = overdue.lane and ready.job_id = overdue.job_id
                returning ready.lane, ready.job_id, environment_id, run, attempt, spared, lease_until, cancel_requested, flow
            ), noted as (
                insert into audit (lane, event_id, environment_id, job_id, run, attempts, action, outcome, caller)
                select lane, audit_event_id($5, job_id), environment_id, job_id, run, attempt - spared, 6,
                       case when cancel_requested then 5 else 6 end, 'pingone-unblock'
                from gone
            ), counted as (
                insert into batch_delta (lane, number, delta_id, cancelled, expired)
                select lane, flow - flow % 2, $5, count(*) filter (where cancel_requested),
                       count(*) filter (where not cancel_requested)
                from gone where flow > 1 group by 1, 2
            ), lost as (
                insert into attempt (lane, job_id, run, number, started_at, duration_us, error_reason, error_message)
                select lane, job_id, run, attempt, lease_until - $3::bigint * interval '1 microsecond', $3::bigint,
                       $4::text, 'the replica that sent this stopped before it could save an answer; the effect is unknown'
                from gone where lease_until > '-infinity'
                on conflict do nothing
            ), ended as (
                insert into outcome (lane, job_id, run, state, attempt, spared)
                select lane, job_id, run, case when cancel_requested then 5 else 6 end, attempt, spared from gone
            )
            select job_id, flow, cancel_requested from gone
            "#,
            &lanes,
            &uuids,
            micros(LEASE),
            Reason::Timeout.name(),
            Uuid::now_v7(),
        )
        .fetch_all(&self.pool)
        .await?;
        for row in &ended {
            let state = if row.cancel_requested { State::Cancelled } else { State::Expired };
            metrics().jobs.finished(Priority::of_flow(row.flow), state, None, 1);
        }
        Ok(ended.into_iter().map(|row| row.job_id.into()).collect())
    }
}
