//! Events of the audit trail as they are stored, and pages of them, the oldest first.

mod token;

use std::collections::HashMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, column};
use crate::{
    audit::{Action, Event, first_id, millis_at, millis_of},
    device::{DeviceId, EnvironmentId, Lane, UserId},
    job::JobId,
    telemetry::metrics::timed,
};

pub use token::TrailToken;

/// Which events to list: every filter that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct TrailFilter {
    /// Of one of these; nothing: of any, and what is of none.
    pub environments: Option<Vec<EnvironmentId>>,
    /// Of this caller.
    pub caller: Option<String>,
    /// About this job.
    pub job: Option<JobId>,
    /// One of these; empty: any.
    pub actions: Vec<Action>,
    /// From then on.
    pub start: Option<OffsetDateTime>,
    /// Before then.
    pub end: Option<OffsetDateTime>,
}

/// One page of events.
#[derive(Debug)]
pub struct TrailPage {
    /// The oldest first.
    pub events: Vec<Event>,
    /// Where the next page begins; nothing on the last.
    pub next: Option<TrailToken>,
}

/// A page examines at most about so many events, however few of them pass its filters.
const EXAMINED_AT_MOST: usize = 10_000;
/// Read at once over all lanes, and of one of many lanes at least.
const AT_ONCE: usize = 1_000;
const EACH_AT_LEAST: usize = 16;
/// An entry about a job may carry the clock of another replica than the job.
const CLOCKS_APART_MS: u64 = 3_600_000;

struct Examined {
    lane: i16,
    id: Uuid,
    passes: bool,
}

/// A row of `audit`.
pub(super) struct StoredEvent {
    pub(super) lane: i16,
    pub(super) event_id: Uuid,
    pub(super) at: OffsetDateTime,
    pub(super) action: i16,
    pub(super) environment_id: Option<Uuid>,
    pub(super) job_id: Option<Uuid>,
    pub(super) trace_id: Option<Uuid>,
    pub(super) run: Option<i32>,
    pub(super) attempts: Option<i32>,
    pub(super) count: Option<i64>,
    pub(super) outcome: Option<i16>,
    pub(super) http_status: Option<i16>,
    pub(super) caller: String,
    pub(super) policy: Option<String>,
    pub(super) batch_id: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) correlation_id: Option<String>,
    pub(super) personal_digest: Option<Vec<u8>>,
    pub(super) personal: Option<Vec<u8>>,
    pub(super) events: Option<Vec<Uuid>>,
}

impl From<StoredEvent> for Event {
    fn from(row: StoredEvent) -> Self {
        Self {
            lane: row.lane,
            id: row.event_id,
            at: row.at,
            action: row.action,
            environment: row.environment_id,
            job: row.job_id,
            trace: row.trace_id,
            run: row.run,
            attempts: row.attempts,
            count: row.count,
            outcome: row.outcome,
            http_status: row.http_status,
            caller: row.caller,
            policy: row.policy,
            batch: row.batch_id,
            reason: row.reason,
            detail: row.detail,
            correlation: row.correlation_id,
            personal_digest: row.personal_digest,
            personal: row.personal,
            erased: row.events,
        }
    }
}

impl TrailFilter {
    fn lanes(&self) -> Vec<Lane> {
        match (self.job, &self.environments) {
            (Some(job), _) => vec![job.lane()],
            (None, Some(environments)) => {
                let mut lanes: Vec<Lane> = environments.iter().map(|id| id.lane()).collect();
                lanes.sort_unstable();
                lanes.dedup();
                lanes
            }
            (None, None) => Lane::all().collect(),
        }
    }

    /// No event that is listed has an id up to this.
    fn floor(&self) -> Uuid {
        let start = self.start.map_or(0, millis_at);
        let job = self.job.map_or(0, |job| millis_of(job.as_uuid()).saturating_sub(CLOCKS_APART_MS));
        Uuid::from_u128(first_id(start.max(job)).as_u128().saturating_sub(1))
    }
}

impl Store {
    /// One page of at most `size` events. A list ends where it is when its first page is asked for.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn list_events(
        &self,
        filter: &TrailFilter,
        size: usize,
        from: Option<TrailToken>,
    ) -> Result<TrailPage, StoreError> {
        let _timed = timed("list_events");
        let until = match &from {
            Some(token) => token.until(),
            None => {
                let now = millis_at(self.find_now().await?);
                filter.end.map_or(now, |end| millis_at(end).min(now))
            }
        };
        let mut after = from.map_or_else(|| filter.floor(), |token| token.after());
        let lanes = filter.lanes();
        let mut passing: Vec<(i16, Uuid)> = Vec::new();
        let mut examined = 0;
        let more = loop {
            let (chunk, whole_to) = self.examine_events(filter, &lanes, after, first_id(until)).await?;
            examined += chunk.len();
            passing.extend(chunk.iter().filter(|entry| entry.passes).map(|entry| (entry.lane, entry.id)));
            if passing.len() > size {
                passing.truncate(size);
                after = passing.last().map_or(after, |(_, id)| *id);
                break true;
            }
            let Some(whole_to) = whole_to else { break false };
            after = whole_to;
            if examined >= EXAMINED_AT_MOST {
                break true;
            }
        };
        let next = more.then(|| TrailToken::new(after, until, filter));
        Ok(TrailPage { events: self.read_events(&passing).await?, next })
    }

    /// The next events of all lanes above `after`, in the order of their ids, and up to where these are all there are; nothing
    /// where they are all at all.
    async fn examine_events(
        &self,
        filter: &TrailFilter,
        lanes: &[Lane],
        after: Uuid,
        until: Uuid,
    ) -> Result<(Vec<Examined>, Option<Uuid>), StoreError> {
        let each = (4 * AT_ONCE / lanes.len().max(1)).clamp(EACH_AT_LEAST, AT_ONCE);
        let environments = filter.environments.as_ref().map(|ids| column(ids, |id| id.as_uuid()));
        let mut chunk = sqlx::query_as!(
            Examined,
            r#"
            select a.lane as "lane!", a.event_id as "id!", coalesce(
                       ($5::uuid[] is null or a.environment_id = any($5)) and ($6::text is null or a.caller = $6)
                       -- The request of a job that stands alone is named like the job.
                       and ($7::uuid is null or a.job_id = $7 or (a.event_id = $7 and a.action in (1, 2)))
                       and (cardinality($8::smallint[]) = 0 or a.action = any($8)), false) as "passes!"
            from unnest($1::smallint[]) as k (lane)
            cross join lateral (
                select * from audit e
                where e.lane = k.lane and e.event_id > $2 and e.event_id < $3 order by e.event_id limit $4
            ) a
            "#,
            &column(lanes, |lane| lane.number()),
            after,
            until,
            i64::try_from(each).unwrap_or(i64::MAX),
            environments as Option<Vec<Uuid>>,
            filter.caller,
            filter.job.map(JobId::as_uuid),
            &column(&filter.actions, |action| action.number()),
        )
        .fetch_all(&self.reading)
        .await?;
        chunk.sort_unstable_by_key(|entry| entry.id);
        let mut of_lane: HashMap<i16, (usize, Uuid)> = HashMap::new();
        for entry in &chunk {
            let (count, last) = of_lane.entry(entry.lane).or_default();
            (*count, *last) = (*count + 1, entry.id);
        }
        // Beyond the last one of a lane that has more, others of it may lie between those that were read.
        let whole_to = of_lane.values().filter(|(count, _)| *count >= each).map(|(_, last)| *last).min();
        if let Some(whole_to) = whole_to {
            chunk.retain(|entry| entry.id <= whole_to);
        }
        Ok((chunk, whole_to))
    }

    /// These events, in the order of their ids.
    async fn read_events(&self, keys: &[(i16, Uuid)]) -> Result<Vec<Event>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query_as!(
            StoredEvent,
            r#"
            select a.lane, a.event_id, a.at, a.action, a.environment_id, a.job_id, a.trace_id, a.run, a.attempts, a.count,
                   a.outcome, a.http_status, a.caller, a.policy, a.batch_id, a.reason, a.detail, a.correlation_id,
                   a.personal_digest, a.personal, a.events
            from unnest($1::smallint[], $2::uuid[]) as k (lane, event_id)
            join audit a on a.lane = k.lane and a.event_id = k.event_id
            "#,
            &column(keys, |(lane, _)| *lane),
            &column(keys, |(_, id)| *id),
        )
        .fetch_all(&self.reading)
        .await?;
        let mut events: Vec<Event> = rows.into_iter().map(Event::from).collect();
        events.sort_unstable_by_key(|event| event.id);
        Ok(events)
    }

    /// Whose device each of these jobs is about, as long as they are kept.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_targets(
        &self,
        jobs: &[JobId],
    ) -> Result<HashMap<JobId, (UserId, DeviceId)>, StoreError> {
        let _timed = timed("find_targets");
        let rows = sqlx::query!(
            r#"
            select j.job_id, j.user_id, j.device_id from unnest($1::smallint[], $2::uuid[]) as k (lane, job_id)
            join job j on j.lane = k.lane and j.job_id = k.job_id
            "#,
            &column(jobs, |job| job.lane().number()),
            &column(jobs, |job| job.as_uuid()),
        )
        .fetch_all(&self.reading)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.job_id.into(), (row.user_id.into(), row.device_id.into())))
            .collect())
    }
}
