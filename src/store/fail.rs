//! Recording attempts that failed, and what becomes of their jobs. Fenced by the `ready` row, as in `complete`.

use std::{collections::HashMap, time::Duration};

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Claim, Store, StoreError, between, column, count, keys, micros, stored_count, stored_status};
use crate::{
    device::{DeviceRef, EnvironmentId},
    job::{Failure, JobId, RetryHint, RetryPolicy, Standing, State, Verdict, judge},
    telemetry::metrics::timed,
};

/// An attempt that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What was claimed for it.
    pub claim: Claim,
    /// What was to be unblocked; its environment may have to wait now.
    pub device: DeviceRef,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed.
    pub failure: Failure,
    /// Whether the device was only read.
    pub read: bool,
    /// Whether it was to find out if PingOne answers again: that costs the job nothing.
    pub probe: bool,
    /// How long the environment must wait from now, where the failure says so.
    pub hold: Option<Duration>,
    /// The rate at which it goes on from then on, where PingOne taught another.
    pub learned_rate: Option<f64>,
}

/// What a failed attempt did to its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The job is over.
    Final(State),
    /// It is tried again.
    Again {
        /// After this long.
        wait: Duration,
        /// Its new place in the order; nothing: the one it had.
        due_at: Option<OffsetDateTime>,
    },
    /// It had been superseded: recorded, and nothing else changed.
    Late,
}

impl Store {
    /// Records failed attempts, decides by `policy` what becomes of their jobs, and makes environments wait that must; in
    /// one transaction. The answer has the order of `group`.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or all of it did and the answer was lost; the same call again is harmless.
    pub async fn complete_failed(
        &self,
        group: &[Failed],
        policy: &RetryPolicy,
        rng: &mut fastrand::Rng,
    ) -> Result<Vec<Ending>, StoreError> {
        let _timed = timed("complete_failed");
        let mut transaction = self.pool.begin().await?;
        let standing = lock(&mut transaction, group).await?;
        let mut endings: Vec<(Ending, Option<Verdict>)> = group
            .iter()
            .map(|entry| match standing.get(&entry.claim.id) {
                None => (Ending::Late, None),
                Some(standing) => {
                    let verdict = judge(*standing, &entry.failure, entry.probe, policy, rng);
                    (ending_of(verdict), Some(verdict))
                }
            })
            .collect();
        record_attempts(&mut transaction, group, &endings).await?;
        end(&mut transaction, group, &endings).await?;
        give_back(&mut transaction, group, &mut endings).await?;
        hold(&mut transaction, group).await?;
        transaction.commit().await?;
        Ok(endings.into_iter().map(|(ending, _)| ending).collect())
    }
}

const fn ending_of(verdict: Verdict) -> Ending {
    match verdict {
        Verdict::Fail => Ending::Final(State::Failed),
        Verdict::Cancel => Ending::Final(State::Cancelled),
        Verdict::Expire => Ending::Final(State::Expired),
        Verdict::Retry(wait) | Verdict::Postpone(wait) => Ending::Again { wait, due_at: None },
        Verdict::Spare => Ending::Again { wait: Duration::ZERO, due_at: None },
    }
}

/// Locks the rows that are still as claimed, in key order.
async fn lock(
    connection: &mut PgConnection,
    group: &[Failed],
) -> Result<HashMap<JobId, Standing>, StoreError> {
    let (lanes, ids) = keys(group, |entry| entry.claim.id);
    let rows = sqlx::query!(
        r#"
        select ready.job_id, ready.attempt - spared as "attempts!", cancel_requested, expires_at, now() as "now!"
        from ready
        join unnest($1::smallint[], $2::uuid[], $3::int[], $4::int[]) as t (lane, job_id, run, attempt)
          on ready.lane = t.lane and ready.job_id = t.job_id and ready.run = t.run and ready.attempt = t.attempt
        -- A claim given up has no lease: what comes for it is late.
        where lease_until > '-infinity'
        order by ready.lane, ready.job_id
        for update of ready
        "#,
        &lanes,
        &ids,
        &column(group, |entry| stored_count(entry.claim.run)),
        &column(group, |entry| stored_count(entry.claim.attempt)),
    )
    .fetch_all(connection)
    .await?;
    let standing = |attempts, cancel_requested, now, expires_at| Standing {
        attempts: count(attempts),
        cancel_requested,
        expires_in: between(now, expires_at),
    };
    Ok(rows
        .into_iter()
        .map(|row| (row.job_id.into(), standing(row.attempts, row.cancel_requested, row.now, row.expires_at)))
        .collect())
}

async fn record_attempts(
    connection: &mut PgConnection,
    group: &[Failed],
    endings: &[(Ending, Option<Verdict>)],
) -> Result<(), StoreError> {
    let (lanes, ids) = keys(group, |entry| entry.claim.id);
    sqlx::query!(
        r#"
        insert into attempt (lane, job_id, run, number, late, started_at, duration_us, error_reason, error_message,
                             http_status, pingone_code, pingone_id, correlation_id, read)
        select lane, job_id, run, number, late, started_at, duration_us, error_reason, error_message,
               http_status, pingone_code, pingone_id, correlation_id, read
        from unnest(
            $1::smallint[], $2::uuid[], $3::int[], $4::int[], $5::bool[], $6::timestamptz[], $7::bigint[], $8::text[],
            $9::text[], $10::smallint[], $11::text[], $12::text[], $13::text[], $14::bool[]
        ) as t (lane, job_id, run, number, late, started_at, duration_us, error_reason, error_message,
                http_status, pingone_code, pingone_id, correlation_id, read)
        -- The same call again, after its first answer was lost, looks late: the attempt is there already.
        where not late or not exists (
            select from attempt a
            where a.lane = t.lane and a.job_id = t.job_id and a.run = t.run and a.number = t.number
              and a.started_at = t.started_at
        )
        on conflict do nothing
        "#,
        &lanes,
        &ids,
        &column(group, |entry| stored_count(entry.claim.run)),
        &column(group, |entry| stored_count(entry.claim.attempt)),
        &column(endings, |(ending, _)| *ending == Ending::Late),
        &column(group, |entry| entry.started_at),
        &column(group, |entry| micros(entry.duration)),
        &column(group, |entry| entry.failure.reason.name().to_owned()),
        &column(group, |entry| entry.failure.message.as_str().to_owned()),
        &column(group, |entry| stored_status(entry.failure.http_status)) as &[Option<i16>],
        &column(group, |entry| entry.failure.pingone_code.clone()) as &[Option<String>],
        &column(group, |entry| entry.failure.pingone_id.clone()) as &[Option<String>],
        &column(group, |entry| entry.failure.correlation_id.clone()) as &[Option<String>],
        &column(group, |entry| entry.read),
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn end(
    connection: &mut PgConnection,
    group: &[Failed],
    endings: &[(Ending, Option<Verdict>)],
) -> Result<(), StoreError> {
    let over: Vec<(&Failed, State)> = group
        .iter()
        .zip(endings)
        .filter_map(|(entry, (ending, _))| match ending {
            Ending::Final(state) => Some((entry, *state)),
            Ending::Again { .. } | Ending::Late => None,
        })
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    let (lanes, uuids) = keys(&over, |(entry, _)| entry.claim.id);
    sqlx::query!(
        r#"
        with gone as (
            delete from ready
            using unnest($1::smallint[], $2::uuid[], $3::smallint[], $4::int[], $6::text[], $7::smallint[], $8::text[])
                as t (lane, job_id, state, spared, reason, http_status, correlation_id)
            where ready.lane = t.lane and ready.job_id = t.job_id
            returning ready.lane, ready.job_id, run, t.state, attempt, ready.spared + t.spared as spared, ready.flow,
                      ready.environment_id, t.reason, t.http_status, t.correlation_id
        ), noted as (
            insert into audit (lane, event_id, environment_id, job_id, run, attempts, action, outcome, http_status, caller,
                               reason, correlation_id)
            select lane, audit_event_id($5, job_id), environment_id, job_id, run, attempt - spared, 6, state, http_status,
                   'pingone-unblock', reason, correlation_id
            from gone
        ), counted as (
            insert into batch_delta (lane, number, delta_id, failed, cancelled, expired)
            select lane, flow - flow % 2, $5, count(*) filter (where state = 4), count(*) filter (where state = 5),
                   count(*) filter (where state = 6)
            from gone where flow > 1 group by 1, 2
        )
        insert into outcome (lane, job_id, run, state, attempt, spared)
        select lane, job_id, run, state, attempt, spared from gone
        "#,
        &lanes,
        &uuids,
        &column(&over, |(_, state)| state.number()),
        &column(&over, |(entry, _)| i32::from(costs_nothing(entry))),
        Uuid::now_v7(),
        &column(&over, |(entry, _)| entry.failure.reason.name().to_owned()),
        &column(&over, |(entry, _)| stored_status(entry.failure.http_status)) as &[Option<i16>],
        &column(&over, |(entry, _)| entry.failure.correlation_id.clone()) as &[Option<String>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn give_back(
    connection: &mut PgConnection,
    group: &[Failed],
    endings: &mut [(Ending, Option<Verdict>)],
) -> Result<(), StoreError> {
    // Later, at a place that is new; or at once, at the place it had: then its environment waits.
    let mut later: Vec<(JobId, Duration, i32)> = Vec::new();
    let mut at_once: Vec<JobId> = Vec::new();
    for (entry, (_, verdict)) in group.iter().zip(endings.iter()) {
        match verdict {
            Some(Verdict::Retry(wait)) => later.push((entry.claim.id, *wait, 0)),
            Some(Verdict::Postpone(wait)) => later.push((entry.claim.id, *wait, 1)),
            Some(Verdict::Spare) => at_once.push(entry.claim.id),
            Some(Verdict::Fail | Verdict::Cancel | Verdict::Expire) | None => {}
        }
    }
    if !later.is_empty() {
        let (lanes, uuids) = keys(&later, |(id, _, _)| *id);
        let places = sqlx::query!(
            r#"
            update ready set lease_until = '-infinity', spared = ready.spared + t.spared,
                             due_at = now() + t.wait_us * interval '1 microsecond'
            from unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::int[]) as t (lane, job_id, wait_us, spared)
            where ready.lane = t.lane and ready.job_id = t.job_id
            returning ready.job_id, ready.due_at
            "#,
            &lanes,
            &uuids,
            &column(&later, |(_, wait, _)| micros(*wait)),
            &column(&later, |(_, _, spared)| *spared),
        )
        .fetch_all(&mut *connection)
        .await?;
        let places: HashMap<JobId, OffsetDateTime> =
            places.into_iter().map(|row| (row.job_id.into(), row.due_at)).collect();
        for (entry, (ending, _)) in group.iter().zip(endings.iter_mut()) {
            if let Ending::Again { due_at, .. } = ending {
                *due_at = places.get(&entry.claim.id).copied();
            }
        }
    }
    if !at_once.is_empty() {
        let (lanes, uuids) = keys(&at_once, |id| *id);
        sqlx::query!(
            r#"
            update ready set lease_until = '-infinity', spared = spared + 1
            from unnest($1::smallint[], $2::uuid[]) as t (lane, job_id)
            where ready.lane = t.lane and ready.job_id = t.job_id
            "#,
            &lanes,
            &uuids,
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

const fn costs_nothing(entry: &Failed) -> bool {
    entry.probe || matches!(entry.failure.hint, RetryHint::Hold(_) | RetryHint::Credential)
}

/// What an environment has to bear.
#[derive(Default)]
struct Held<'a> {
    wait: Duration,
    error: Option<&'a str>,
    rate: Option<f64>,
}

/// Makes environments wait, with the attempt that taught it: a crash in between would forget it.
async fn hold(connection: &mut PgConnection, group: &[Failed]) -> Result<(), StoreError> {
    let mut holds: HashMap<EnvironmentId, Held<'_>> = HashMap::new();
    for entry in group {
        let Some(wait) = entry.hold else { continue };
        let held = holds.entry(entry.device.environment).or_default();
        held.wait = held.wait.max(wait);
        held.rate = entry.learned_rate.or(held.rate);
        if entry.failure.hint == RetryHint::Credential {
            held.error = Some(entry.failure.message.as_str());
        }
    }
    let mut holds: Vec<_> = holds.into_iter().collect();
    holds.sort_by_key(|(environment, _)| (environment.lane(), *environment));
    if holds.is_empty() {
        return Ok(());
    }
    let lanes: Vec<i16> = column(&holds, |(environment, _)| environment.lane().number());
    let ids: Vec<Uuid> = column(&holds, |(environment, _)| environment.as_uuid());
    sqlx::query!(
        r#"
        update environment
        set hold_until = case when t.error is null then greatest(hold_until, t.until) else hold_until end,
            credential_error = coalesce(t.error, credential_error),
            credential_retry_at = case when t.error is null then credential_retry_at else t.until end,
            learned_rate = coalesce(t.rate, learned_rate),
            learned_at = case when t.rate is null then learned_at else t.until end
        from (
            select lane, environment_id, now() + wait_us * interval '1 microsecond' as until, error, rate
            from unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::text[], $5::float8[])
                as u (lane, environment_id, wait_us, error, rate)
        ) t
        where environment.lane = t.lane and environment.environment_id = t.environment_id
        "#,
        &lanes,
        &ids,
        &column(&holds, |(_, held)| micros(held.wait)),
        &column(&holds, |(_, held)| held.error.map(ToOwned::to_owned)) as &[Option<String>],
        &column(&holds, |(_, held)| held.rate) as &[Option<f64>],
    )
    .execute(connection)
    .await?;
    Ok(())
}
