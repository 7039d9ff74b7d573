//! What all replicas must know of a PingOne environment, and of the licences that several share.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Store, StoreError, between, column, micros};
use crate::{
    device::{EnvironmentId, Lane},
    telemetry::metrics::timed,
};

/// What keeps an environment waiting, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentFacts {
    /// Which.
    pub id: EnvironmentId,
    /// Whether an operator paused it, or everything.
    pub paused: bool,
    /// How long PingOne asked to wait still.
    pub hold: Duration,
    /// PingOne refuses the credential: how long until it is tried again.
    pub credential_retry_in: Option<Duration>,
    /// PingOne fails or cannot be reached: how long until that is tried again.
    pub breaker_retry_in: Option<Duration>,
    /// The rate PingOne taught, and how long ago it began to climb again.
    pub learned_rate: Option<(f64, Duration)>,
}

/// Time slots taken from a licence's clock.
#[derive(Debug, Clone, Copy)]
pub struct Slots {
    /// How many; evenly spaced.
    pub count: u32,
    /// When they were taken, by the database's clock.
    pub taken_at: OffsetDateTime,
    /// How long from then to the first.
    pub first_in: Duration,
    /// How long PingOne asked all of the licence to wait still.
    pub hold: Duration,
    /// The rate PingOne taught, and how long ago it began to climb again.
    pub learned_rate: Option<(f64, Duration)>,
}

impl Store {
    /// Makes sure that each environment has its row: jobs of an environment without one would not be found.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn register_environments(&self, environments: &[EnvironmentId]) -> Result<(), StoreError> {
        let _timed = timed("register_environments");
        sqlx::query!(
            r#"
            insert into environment (lane, environment_id)
            select lane, environment_id from unnest($1::smallint[], $2::uuid[]) as t (lane, environment_id)
            order by lane, environment_id
            on conflict do nothing
            "#,
            &column(environments, |environment| environment.lane().number()),
            &column(environments, |environment| environment.as_uuid()),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The environments of `lanes`.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_environments(&self, lanes: &[Lane]) -> Result<Vec<EnvironmentFacts>, StoreError> {
        let _timed = timed("find_environments");
        let rows = sqlx::query!(
            r#"
            select environment_id, now() as "now!", hold_until as "hold_until?", credential_retry_at, breaker_retry_at,
                   learned_rate, learned_at, (e.paused_at is not null or g.paused_at is not null) as "paused!"
            from (
                select environment_id, paused_at, credential_retry_at, breaker_retry_at, learned_rate, learned_at,
                       case when hold_until > now() then hold_until end as hold_until
                from environment where lane = any($1)
            ) e
            cross join global_pause g
            "#,
            &column(lanes, |lane| lane.number()),
        )
        .fetch_all(&self.pool)
        .await?;
        let wait = |now, until: Option<OffsetDateTime>| until.map(|until| between(now, until));
        Ok(rows
            .into_iter()
            .map(|row| EnvironmentFacts {
                id: row.environment_id.into(),
                paused: row.paused,
                hold: wait(row.now, row.hold_until).unwrap_or_default(),
                credential_retry_in: wait(row.now, row.credential_retry_at),
                breaker_retry_in: wait(row.now, row.breaker_retry_at),
                learned_rate: row.learned_rate.zip(row.learned_at.map(|at| between(at, row.now))),
            })
            .collect())
    }

    /// Forgets that PingOne refused the credential: it takes it again.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn credential_accepted(&self, environment: EnvironmentId) -> Result<(), StoreError> {
        let _timed = timed("credential_accepted");
        sqlx::query!(
            r#"
            update environment set credential_error = null, credential_retry_at = null
            where lane = $1 and environment_id = $2 and credential_error is not null
            "#,
            environment.lane().number(),
            environment.as_uuid(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Remembers that PingOne fails or cannot be reached, why, and that it is tried again after `wait`.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn breaker_opened(
        &self,
        environment: EnvironmentId,
        error: &str,
        wait: Duration,
    ) -> Result<(), StoreError> {
        let _timed = timed("breaker_opened");
        sqlx::query!(
            r#"
            update environment
            set breaker_since = coalesce(environment.breaker_since, t.now), breaker_error = $3,
                breaker_retry_at = t.now + $4::bigint * interval '1 microsecond'
            from (select now() as now) t
            where lane = $1 and environment_id = $2
            "#,
            environment.lane().number(),
            environment.as_uuid(),
            error,
            micros(wait),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets that PingOne could not be reached: it answers again.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn breaker_closed(&self, environment: EnvironmentId) -> Result<(), StoreError> {
        let _timed = timed("breaker_closed");
        sqlx::query!(
            r#"
            update environment set breaker_since = null, breaker_error = null, breaker_retry_at = null
            where lane = $1 and environment_id = $2 and breaker_since is not null
            "#,
            environment.lane().number(),
            environment.as_uuid(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// How many jobs wait in each environment, interactive and bulk, as its owner says; nothing of those of which none says any
    /// more.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_backlogs(&self) -> Result<Vec<(EnvironmentId, i64, i64)>, StoreError> {
        let _timed = timed("find_backlogs");
        let rows = sqlx::query!(
            r#"
                select environment_id, pending_interactive, pending_bulk from environment_status
                where published_at > now() - interval '10 seconds'
                "#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.environment_id.into(), row.pending_interactive, row.pending_bulk))
            .collect())
    }

    /// Makes sure that each licence has its clock.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn register_limit_groups(&self, names: &[String]) -> Result<(), StoreError> {
        let _timed = timed("register_limit_groups");
        sqlx::query!(
            "insert into limit_group (name) select name from unnest($1::text[]) as t (name) order by name on conflict do nothing",
            names,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes up to `wanted` slots, `interval` apart, from the clock of the licence `name`, none of them more than `ahead` from
    /// now; none at all while PingOne asked to wait.
    ///
    /// # Errors
    /// [`StoreError`]: then no slot was taken, or some were that nobody uses.
    pub async fn take_slots(
        &self,
        name: &str,
        wanted: u32,
        interval: Duration,
        ahead: Duration,
    ) -> Result<Slots, StoreError> {
        let _timed = timed("take_slots");
        let row = sqlx::query!(
            r#"
            with clock as (select (extract(epoch from now()) * 1000000)::bigint as now_us),
            seen as (
                select name, now_us, greatest(next_slot_us, now_us) as first_us, hold_until, learned_rate, learned_at,
                       case when hold_until > now() then 0
                            else greatest(0, least($2::bigint, (now_us + $4::bigint - greatest(next_slot_us, now_us)) / $3::bigint))
                       end as count
                from limit_group cross join clock
                where name = $1
                for update of limit_group
            )
            update limit_group
            set next_slot_us = seen.first_us + seen.count * $3::bigint
            from seen
            where limit_group.name = seen.name
            returning seen.count as "count!", seen.first_us - seen.now_us as "first_in_us!",
                      case when seen.hold_until > now() then seen.hold_until end as hold_until,
                      seen.learned_rate, seen.learned_at, now() as "now!"
            "#,
            name,
            i64::from(wanted),
            micros(interval).max(1),
            micros(ahead),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Slots {
            count: u32::try_from(row.count).unwrap_or_default(),
            taken_at: row.now,
            first_in: Duration::from_micros(u64::try_from(row.first_in_us).unwrap_or_default()),
            hold: row.hold_until.map(|until| between(row.now, until)).unwrap_or_default(),
            learned_rate: row.learned_rate.zip(row.learned_at.map(|at| between(at, row.now))),
        })
    }

    /// Makes a licence wait, with all its environments, because of a request that began `started_ago`. Its rate goes on at
    /// `learned_rate`, unless a request before taught one already.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres does not take it.
    pub async fn hold_limit_group(
        &self,
        name: &str,
        wait: Duration,
        learned_rate: f64,
        started_ago: Duration,
    ) -> Result<(), StoreError> {
        let _timed = timed("hold_limit_group");
        sqlx::query!(
            r#"
            update limit_group
            set hold_until = greatest(limit_group.hold_until, t.until),
                learned_rate = case when t.known then limit_group.learned_rate else $3::float8 end,
                learned_at = case when t.known then limit_group.learned_at else t.until end
            from (
                select name, now() + $2::bigint * interval '1 microsecond' as until,
                       coalesce(learned_at > now() - $4::bigint * interval '1 microsecond', false) as known
                from limit_group where name = $1
                for update
            ) t
            where limit_group.name = t.name
            "#,
            name,
            micros(wait),
            learned_rate,
            micros(started_ago),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
