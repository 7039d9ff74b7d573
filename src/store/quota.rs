//! What callers and devices have used of their bounds: counted in the transaction that records what uses it, so that none is exceeded
//! by one. Rows are touched in one order, callers before devices: two groups wait for each other, never in a circle.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Store, StoreError, column};
use crate::{
    device::{EnvironmentId, Lane},
    job::{Caller, Counted, DeviceLimit, JobId, Limits, NewJob, OverQuota, Room, Used},
    telemetry::metrics::timed,
};

/// Whoever meets a bound looks and tries with what fits. Each time somebody else has used some of it meanwhile, so it ends; who is
/// overtaken this often is told to come again.
pub(super) const ROUNDS: usize = 16;

/// Why a group was not counted.
#[derive(Debug)]
pub(super) enum Uncounted {
    /// A bound would have been exceeded: nothing of the group was recorded.
    Breach,
    /// Postgres did not do it.
    Store(StoreError),
}

impl From<sqlx::Error> for Uncounted {
    fn from(error: sqlx::Error) -> Self {
        const BOUNDS: [&str; 3] = ["caller_use_hour", "caller_use_day", "device_use_within"];
        let constraint = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
        match constraint.is_some_and(|name| BOUNDS.contains(&name)) {
            true => Self::Breach,
            false => Self::Store(error.into()),
        }
    }
}

impl From<StoreError> for Uncounted {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Others were faster, [`ROUNDS`] times.
pub(super) fn overtaken() -> StoreError {
    StoreError::Unavailable("too many reach for the last of a bound at once".into())
}

/// What an unblock uses, and by what it may be found recorded.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) job: JobId,
    pub(super) request_id: Option<&'a str>,
    pub(super) counted: Counted,
}

/// The bounds of a group, as parallel arrays: nothing where there is none.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) caller_lanes: Vec<i16>,
    pub(super) per_hour: Vec<Option<i32>>,
    pub(super) per_day: Vec<Option<i32>>,
    pub(super) device_most: Vec<Option<i16>>,
    pub(super) device_within_s: Vec<Option<i32>>,
}

impl Bounds {
    pub(super) fn of<'a>(group: impl Iterator<Item = (&'a str, Option<&'a Counted>)>) -> Self {
        let mut bounds = Self::default();
        for (caller, counted) in group {
            let limits = counted.map_or(Limits::default(), |counted| counted.limits);
            let bounds_caller = counted.is_some_and(Counted::bounds_caller);
            let device = counted.filter(|counted| counted.bounds_device()).and(limits.per_device);
            // Of whom nothing is counted no row is touched: the lane is not looked at.
            bounds.caller_lanes.push(if bounds_caller { Lane::of(caller.as_bytes()).number() } else { 0 });
            bounds.per_hour.push(limits.per_hour.filter(|_| counted.is_some()).map(stored));
            bounds.per_day.push(limits.per_day.filter(|_| counted.is_some()).map(stored));
            let (most, within_s) = device.map(stored_bound).unzip();
            bounds.device_most.push(most);
            bounds.device_within_s.push(within_s);
        }
        bounds
    }
}

fn stored(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// How often, and within how many seconds.
pub(super) fn stored_bound(limit: DeviceLimit) -> (i16, i32) {
    // One less than the most: the constraint adds one.
    let most = i16::try_from(limit.count).unwrap_or(i16::MAX - 1).min(i16::MAX - 1);
    (most, i32::try_from(limit.within().as_secs()).unwrap_or(i32::MAX))
}

/// Which of them can be counted in one statement: those that name one bound for one caller, and for one device.
pub(super) fn alike<'a>(group: impl Iterator<Item = (usize, Option<&'a Counted>)>) -> Vec<usize> {
    let mut callers = HashMap::new();
    let mut devices = HashMap::new();
    let mut alike = Vec::new();
    for (index, counted) in group {
        let fits = counted.is_none_or(|counted| {
            let Limits { per_hour, per_day, per_device, .. } = counted.limits;
            let device = counted.device.map(|device| (counted.environment, device));
            *callers.entry(&counted.caller).or_insert((per_hour, per_day)) == (per_hour, per_day)
                && device.is_none_or(|device| *devices.entry(device).or_insert(per_device) == per_device)
        });
        if fits {
            alike.push(index);
        }
    }
    alike
}

impl Store {
    /// The bound that a job would meet if it were recorded now. A look, no reservation.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_over_quota(&self, job: &NewJob) -> Result<Option<OverQuota>, StoreError> {
        let _timed = timed("find_over_quota");
        let Some(counted) = Counted::of(job) else { return Ok(None) };
        let ask = Ask { job: job.id, request_id: job.request_id.as_deref(), counted };
        let over = self.find_unfit(&[ask]).await?;
        Ok(over.into_iter().next().flatten())
    }

    /// Of each, in their order, the bound it meets when those before it take what is left. What is recorded already takes nothing.
    pub(super) async fn find_unfit(&self, asks: &[Ask<'_>]) -> Result<Vec<Option<OverQuota>>, StoreError> {
        let mut room = Room::default();
        // Two calls of one request are one unblock.
        let mut taken: HashMap<(&Caller, EnvironmentId, &str), Option<OverQuota>> = HashMap::new();
        let found = self.find_used(asks).await?;
        let unfit = asks.iter().zip(found).map(|(ask, used)| {
            let used = used?;
            let mut take = || room.take(&ask.counted, &used).err();
            match ask.request_id {
                Some(id) => {
                    *taken.entry((&ask.counted.caller, ask.counted.environment, id)).or_insert_with(take)
                }
                None => take(),
            }
        });
        Ok(unfit.collect())
    }

    /// What each would add to; nothing where it is recorded already.
    async fn find_used(&self, asks: &[Ask<'_>]) -> Result<Vec<Option<Used>>, StoreError> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let count = |stored: i32| u32::try_from(stored).unwrap_or_default();
        let rows = sqlx::query!(
            r#"
            select now() as "now!", c.hour as "hour?", c.in_hour as "in_hour?", c.day as "day?", c.in_day as "in_day?",
                   d.used_at as "used_at?",
                   (select j.job_id from job j where j.lane = t.lane and j.job_id = t.job_id limit 1) is not null
                   or (
                       select j.job_id from job j
                       where j.lane = t.lane and j.environment_id = t.environment_id and j.caller = t.caller
                         and j.request_id = t.request_id
                       limit 1
                   ) is not null as "recorded!"
            from unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::smallint[], $6::text[], $7::text[])
                     with ordinality
                     as t (lane, job_id, environment_id, device_id, caller_lane, caller, request_id, position)
            left join lateral (
                select hour, in_hour, day, in_day from caller_use u
                where u.lane = t.caller_lane and u.caller = t.caller limit 1
            ) c on true
            left join lateral (
                select used_at from device_use u
                where u.lane = t.lane and u.environment_id = t.environment_id and u.device_id = t.device_id limit 1
            ) d on true
            order by t.position
            "#,
            &column(asks, |ask| ask.job.lane().number()),
            &column(asks, |ask| ask.job.as_uuid()),
            &column(asks, |ask| ask.counted.environment.as_uuid()),
            &column(asks, |ask| ask.counted.device.map(|device| device.as_uuid())) as &[Option<Uuid>],
            &column(asks, |ask| Lane::of(ask.counted.caller.as_str().as_bytes()).number()),
            &column(asks, |ask| ask.counted.caller.as_str().to_owned()),
            &column(asks, |ask| ask.request_id.map(str::to_owned)) as &[Option<String>],
        )
        .fetch_all(&self.pool)
        .await?;
        let used = rows.into_iter().map(|row| {
            (!row.recorded).then(|| Used {
                now: row.now,
                hour: row.hour.zip(row.in_hour).map(|(at, used)| (at, count(used))),
                day: row.day.zip(row.in_day).map(|(at, used)| (at, count(used))),
                device: row.used_at.unwrap_or_default(),
            })
        });
        Ok(used.collect())
    }

    /// Forgets what devices of `lane` used longer ago than any bound reaches, of some rows after `after`. Where to go on; nothing: it was the
    /// last step.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing was forgotten, or all was and the answer was lost.
    pub async fn forget_device_uses(
        &self,
        lane: Lane,
        after: (Uuid, Uuid),
        limit: u32,
    ) -> Result<Option<(Uuid, Uuid)>, StoreError> {
        let _timed = timed("forget_device_uses");
        let last = sqlx::query!(
            r#"
            with page as (
                select environment_id, device_id from device_use
                where lane = $1 and (environment_id, device_id) > ($2, $3)
                order by environment_id, device_id limit $4
            ), gone as (
                delete from device_use d using page
                where d.lane = $1 and d.environment_id = page.environment_id and d.device_id = page.device_id
                  and d.used_at[1] < now() - interval '7 days'
            )
            select environment_id, device_id from page order by environment_id desc, device_id desc limit 1
            "#,
            lane.number(),
            after.0,
            after.1,
            i64::from(limit),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(last.map(|row| (row.environment_id, row.device_id)))
    }

    /// Forgets callers of `lane` that had nothing unblocked since the day before yesterday.
    ///
    /// # Errors
    /// [`StoreError`]: then none was forgotten, or all were and the answer was lost.
    pub async fn forget_caller_uses(&self, lane: Lane) -> Result<(), StoreError> {
        let _timed = timed("forget_caller_uses");
        sqlx::query!(
            "delete from caller_use where lane = $1 and day < now() - interval '2 days'",
            lane.number()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Counts a group that is recorded in the same transaction, which is to end if this does not. All of it names one bound for one caller and
/// for one device.
pub(super) async fn count_uses(connection: &mut PgConnection, group: &[Counted]) -> Result<(), Uncounted> {
    if !group.iter().any(Counted::is_bounded) {
        return Ok(());
    }
    let bounds = Bounds::of(group.iter().map(|counted| (counted.caller.as_str(), Some(counted))));
    sqlx::query!(
        r#"
        with made as (
            select *, now() as created_at from unnest(
                $1::smallint[], $2::uuid[], $3::uuid[], $4::smallint[], $5::text[], $6::integer[], $7::integer[], $8::smallint[],
                $9::integer[]
            ) as t (lane, environment_id, device_id, caller_lane, caller, per_hour, per_day, device_most, device_within_s)
        ), callers as (
            insert into caller_use as u (lane, caller, hour, in_hour, per_hour, day, in_day, per_day)
            select caller_lane, caller, date_trunc('hour', max(created_at), 'UTC'), count(*)::integer, min(per_hour),
                   date_trunc('day', max(created_at), 'UTC'), count(*)::integer, min(per_day)
            from made where per_hour is not null or per_day is not null
            group by caller_lane, caller order by caller_lane, caller
            on conflict (lane, caller) do update set
                hour = greatest(u.hour, excluded.hour),
                in_hour = case when u.hour >= excluded.hour then u.in_hour else 0 end + excluded.in_hour,
                per_hour = excluded.per_hour,
                day = greatest(u.day, excluded.day),
                in_day = case when u.day >= excluded.day then u.in_day else 0 end + excluded.in_day,
                per_day = excluded.per_day
            returning 1
        )
        insert into device_use as u (lane, most, within_s, environment_id, device_id, used_at)
        select lane, min(device_most), max(device_within_s), environment_id, device_id, array_agg(created_at)
        -- Callers first, in every statement.
        from made where device_most is not null and (select count(*) from callers) >= 0
        group by lane, environment_id, device_id order by lane, environment_id, device_id
        on conflict (lane, environment_id, device_id) do update set
            most = excluded.most, within_s = excluded.within_s,
            -- The latest first, also where one that began earlier comes later.
            used_at = case when excluded.used_at[1] >= u.used_at[1] then excluded.used_at
                           else array_fill(u.used_at[1], array[cardinality(excluded.used_at)]) end
                      || array(select t from unnest(u.used_at) t where t > excluded.used_at[1] - interval '7 days' order by t desc)
        "#,
        &column(group, |counted| counted.lane().number()),
        &column(group, |counted| counted.environment.as_uuid()),
        &column(group, |counted| counted.device.map(|device| device.as_uuid())) as &[Option<Uuid>],
        &bounds.caller_lanes,
        &column(group, |counted| counted.caller.as_str().to_owned()),
        &bounds.per_hour as &[Option<i32>],
        &bounds.per_day as &[Option<i32>],
        &bounds.device_most as &[Option<i16>],
        &bounds.device_within_s as &[Option<i32>],
    )
    .execute(connection)
    .await?;
    Ok(())
}
