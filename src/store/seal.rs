//! Sealing the audit trail: what is new in each lane, what is sealed of it, and one seal more. Only reads and inserts.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, column, trail::StoredEvent};
use crate::{
    audit::{Event, Seal},
    device::Lane,
    telemetry::metrics::timed,
};

/// What was found above some marks.
#[derive(Debug)]
pub struct NewEvents {
    /// In no particular order, without what is personal.
    pub events: Vec<Event>,
    /// When Postgres looked; nothing where it found nothing.
    pub now: Option<OffsetDateTime>,
}

/// The events of a lane from one id to another, both included.
#[derive(Debug, Clone, Copy)]
pub struct EventRange {
    /// The lane.
    pub lane: Lane,
    /// The lowest id.
    pub from: Uuid,
    /// The highest id.
    pub to: Uuid,
}

impl Store {
    /// The events of each lane above its mark: of each at most `each`, the lowest first, and `at_most` of all.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_events_above(
        &self,
        marks: &[(Lane, Uuid)],
        each: u32,
        at_most: u32,
    ) -> Result<NewEvents, StoreError> {
        let _timed = timed("find_events_above");
        let rows = sqlx::query!(
            r#"
            select a.lane, a.event_id, a.at, a.action, a.environment_id, a.job_id, a.trace_id, a.run, a.attempts, a.count,
                   a.outcome, a.http_status, a.caller, a.policy, a.batch_id, a.reason, a.detail, a.correlation_id,
                   a.personal_digest, a.events, now() as "now!"
            from unnest($1::smallint[], $2::uuid[]) as k (lane, mark)
            cross join lateral (
                select * from audit e where e.lane = k.lane and e.event_id > k.mark order by e.event_id limit $3
            ) a
            limit $4
            "#,
            &column(marks, |(lane, _)| lane.number()),
            &column(marks, |(_, mark)| *mark),
            i64::from(each),
            i64::from(at_most),
        )
        .fetch_all(&self.pool)
        .await?;
        let now = rows.first().map(|row| row.now);
        let events = rows.into_iter().map(|row| Event {
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
            personal: None,
            erased: row.events,
        });
        Ok(NewEvents { events: events.collect(), now })
    }

    /// The time, as Postgres has it.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_now(&self) -> Result<OffsetDateTime, StoreError> {
        let _timed = timed("find_now");
        Ok(sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(&self.pool).await?)
    }

    /// How many events each range holds.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn count_events(&self, ranges: &[EventRange]) -> Result<Vec<(Lane, u64)>, StoreError> {
        let _timed = timed("count_events");
        let rows = sqlx::query!(
            r#"
            select k.lane as "lane!", c.events as "events!"
            from unnest($1::smallint[], $2::uuid[], $3::uuid[]) as k (lane, first, last)
            cross join lateral (
                select count(*) as events from audit a
                where a.lane = k.lane and a.event_id >= k.first and a.event_id <= k.last
            ) c
            "#,
            &column(ranges, |range| range.lane.number()),
            &column(ranges, |range| range.from),
            &column(ranges, |range| range.to),
        )
        .fetch_all(&self.pool)
        .await?;
        let count = |stored: i64| u64::try_from(stored).unwrap_or_default();
        Ok(rows.into_iter().map(|row| (Lane::from_stored(row.lane), count(row.events))).collect())
    }

    /// The ids of a lane above `after` and up to `to`, the lowest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_event_ids(
        &self,
        lane: Lane,
        after: Uuid,
        to: Uuid,
        limit: u32,
    ) -> Result<Vec<Uuid>, StoreError> {
        let _timed = timed("find_event_ids");
        // As one value: a row for each id costs more than the id.
        let ids = sqlx::query_scalar!(
            r#"
            select coalesce(array_agg(e.event_id order by e.event_id), '{}') as "ids!" from (
                select event_id from audit
                where lane = $1 and event_id > $2 and event_id <= $3 order by event_id limit $4
            ) e
            "#,
            lane.number(),
            after,
            to,
            i64::from(limit),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ids)
    }

    /// Those events of a lane that are there, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_events(&self, lane: Lane, ids: &[Uuid]) -> Result<Vec<Event>, StoreError> {
        let _timed = timed("find_events");
        let rows = sqlx::query_as!(
            StoredEvent,
            r#"
            select a.lane, a.event_id, a.at, a.action, a.environment_id, a.job_id, a.trace_id, a.run, a.attempts, a.count,
                   a.outcome, a.http_status, a.caller, a.policy, a.batch_id, a.reason, a.detail, a.correlation_id,
                   a.personal_digest, a.personal, a.events
            from unnest($1::smallint[], $2::uuid[]) as k (lane, event_id)
            join audit a on a.lane = k.lane and a.event_id = k.event_id
            "#,
            &column(ids, |_| lane.number()),
            ids,
        )
        .fetch_all(&self.pool)
        .await?;
        let mut events: Vec<Event> = rows.into_iter().map(Event::from).collect();
        events.sort_unstable_by_key(|event| event.id);
        Ok(events)
    }

    /// The newest seals of each lane below a number, the newest first, at most `each`.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_newest_seals(&self, below: &[(Lane, i64)], each: u32) -> Result<Vec<Seal>, StoreError> {
        let _timed = timed("find_newest_seals");
        let mut seals = sqlx::query_as!(
            Seal,
            r#"
            select s.lane, s.number, s.sealed_at, s.previous, s.hash, s.events
            from unnest($1::smallint[], $2::bigint[]) as k (lane, below)
            cross join lateral (
                select * from audit_seal a where a.lane = k.lane and a.number < k.below order by a.number desc limit $3
            ) s
            "#,
            &column(below, |(lane, _)| lane.number()),
            &column(below, |(_, number)| *number),
            i64::from(each),
        )
        .fetch_all(&self.pool)
        .await?;
        seals.sort_by_key(|seal| (seal.lane, std::cmp::Reverse(seal.number)));
        Ok(seals)
    }

    /// The first seal of a lane at a number or above it: which, and when.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_seal_time(
        &self,
        lane: Lane,
        from: i64,
    ) -> Result<Option<(i64, OffsetDateTime)>, StoreError> {
        let _timed = timed("find_seal_time");
        let found = sqlx::query!(
            "select number, sealed_at from audit_seal where lane = $1 and number >= $2 order by number limit 1",
            lane.number(),
            from,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.map(|row| (row.number, row.sealed_at)))
    }

    /// The seals of a lane behind one of a number and a hash, in their order, at most `limit`. Should there be two of a number,
    /// both.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_seals_after(
        &self,
        lane: Lane,
        number: i64,
        hash: &[u8],
        limit: u32,
    ) -> Result<Vec<Seal>, StoreError> {
        let _timed = timed("find_seals_after");
        let seals = sqlx::query_as!(
            Seal,
            r#"
            select lane, number, sealed_at, previous, hash, events from audit_seal
            where lane = $1 and number >= $2 and (number > $2 or hash > $3)
            order by number, hash limit $4
            "#,
            lane.number(),
            number,
            hash,
            i64::from(limit),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(seals)
    }

    /// Records seals, one of each lane at most. Says in which lanes: in the others that number was taken meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]: then none was recorded, or all were and the answer was lost.
    pub async fn record_seals(&self, seals: &[Seal]) -> Result<Vec<Lane>, StoreError> {
        let _timed = timed("record_seals");
        let events: Vec<Uuid> = seals.iter().flat_map(|seal| &seal.events).copied().collect();
        let mut end = 0_i32;
        let lasts = column(seals, |seal| {
            end = end.saturating_add(i32::try_from(seal.events.len()).unwrap_or(i32::MAX));
            end
        });
        let lanes = sqlx::query_scalar!(
            r#"
            insert into audit_seal (lane, number, sealed_at, previous, hash, events)
            -- Each takes its part of all events.
            select k.lane, k.number, k.sealed_at, k.previous, k.hash, ($7::uuid[])[k.last - k.events + 1 : k.last]
            from unnest($1::smallint[], $2::bigint[], $3::timestamptz[], $4::bytea[], $5::bytea[], $6::integer[], $8::integer[])
                as k (lane, number, sealed_at, previous, hash, last, events)
            -- Two owners that wait for each other's rows wait in one direction.
            order by k.lane
            on conflict do nothing
            returning lane
            "#,
            &column(seals, |seal| seal.lane),
            &column(seals, |seal| seal.number),
            &column(seals, |seal| seal.sealed_at),
            &column(seals, |seal| seal.previous.clone()),
            &column(seals, |seal| seal.hash.clone()),
            &lasts,
            &events,
            &column(seals, |seal| i32::try_from(seal.events.len()).unwrap_or(i32::MAX)),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(lanes.into_iter().map(Lane::from_stored).collect())
    }
}
