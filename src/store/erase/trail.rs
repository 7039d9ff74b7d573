//! What the trail says of a user is blanked; that it was is an entry, and sealed by the same transaction: there is no moment at which
//! what is personal is gone and no sealed erasure says why.

use std::collections::BTreeSet;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Erasure;
use crate::{
    audit::{self, Action, Event, Head, Personal, Seal, first_id, millis_at, millis_of},
    store::{StoreError, audit::parted, column},
};

/// Entries looked at by one statement.
const AT_ONCE: i64 = 10_000;
/// Entries named by one erasure, and blanked by one statement.
const EACH: usize = 5_000;
/// An entry about a job may carry the clock of another replica than the job.
const CLOCKS_APART_MS: u64 = 3_600_000;
/// What was called.
const COMMAND: &str = "pingone-unblock erase";

/// Entries with something personal, and the jobs they are about.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) events: BTreeSet<Uuid>,
    pub(super) jobs: BTreeSet<Uuid>,
}

/// Some entries with the jobs they are about, or their own ids.
struct Stretch {
    last: Uuid,
    entries: Vec<(Uuid, Uuid)>,
}

impl Erasure<'_> {
    /// The entries that name the user, and the jobs they are about.
    pub(super) async fn find_entries(&self, connection: &mut PgConnection) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let mut after = Uuid::nil();
        while let Some(stretch) = self.look(connection, after, false).await? {
            after = stretch.last;
            found.events.extend(stretch.entries.iter().map(|(event, _)| event));
            found.jobs.extend(stretch.entries.iter().map(|(_, job)| job));
        }
        Ok(found)
    }

    /// The entries about the jobs that were found: why one was cancelled, or tried again.
    pub(super) async fn find_entries_of_jobs(
        &self,
        connection: &mut PgConnection,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let Some(first) = found.jobs.first() else { return Ok(()) };
        let mut after = first_id(millis_of(*first).saturating_sub(CLOCKS_APART_MS));
        while let Some(stretch) = self.look(connection, after, true).await? {
            after = stretch.last;
            let of_theirs = stretch.entries.iter().filter(|(_, job)| found.jobs.contains(job));
            found.events.extend(of_theirs.map(|(event, _)| event));
        }
        Ok(())
    }

    /// The next entries of the lane, in the order of their ids: those that name the user, and if `nameless` those that name none.
    /// Whom an entry is about is in no index.
    async fn look(
        &self,
        connection: &mut PgConnection,
        after: Uuid,
        nameless: bool,
    ) -> Result<Option<Stretch>, StoreError> {
        let part = sqlx::query!(
            r#"
            select (array_agg(e.event_id order by e.event_id desc))[1] as last,
                   coalesce(array_agg(e.event_id) filter (where e.fits), '{}') as "events!",
                   coalesce(array_agg(coalesce(e.job_id, e.event_id)) filter (where e.fits), '{}') as "jobs!"
            from (
                -- Behind the salt: the user, where there is one.
                select event_id, job_id,
                       personal is not null and environment_id = $3
                       and (substring(personal from 17 for 19) = $4
                            or $5 and substring(personal from 17 for 3) <> substring($4 for 3)) as fits
                from audit where lane = $1 and event_id > $2 order by event_id limit $6
            ) e
            "#,
            self.lane(),
            after,
            self.environment.as_uuid(),
            &Personal::about(self.user),
            nameless,
            AT_ONCE,
        )
        .fetch_one(connection)
        .await?;
        let entries = part.events.into_iter().zip(part.jobs).collect();
        Ok(part.last.map(|last| Stretch { last, entries }))
    }

    /// Takes from the entries what is personal; its digest stays.
    pub(super) async fn blank(
        &self,
        connection: &mut PgConnection,
        events: &[Uuid],
    ) -> Result<u64, StoreError> {
        let mut blanked = 0;
        for events in events.chunks(EACH) {
            let updated = sqlx::query!(
                r#"
                update audit set personal = null
                from unnest($1::smallint[], $2::uuid[]) as k (lane, event_id)
                where audit.lane = k.lane and audit.event_id = k.event_id
                "#,
                &column(events, |_| self.lane()),
                events,
            )
            .execute(&mut *connection)
            .await?;
            blanked += updated.rows_affected();
        }
        Ok(blanked)
    }

    /// Tells the trail what was erased, and seals that: the seal names these entries alone. What else waits in the lane is older by
    /// a second or two, and found by its owner as whatever was committed late.
    pub(super) async fn tell(
        &self,
        connection: &mut PgConnection,
        events: &[Uuid],
    ) -> Result<Vec<Uuid>, StoreError> {
        // A millisecond back: no entry is sealed before its time is over.
        let millis = millis_at(clock(connection).await?).saturating_sub(1);
        let mut told = Vec::new();
        // Where the trail had nothing of the user, what went elsewhere is told all the same.
        let parts = events.chunks(EACH).chain(events.is_empty().then_some(&[][..]));
        for events in parts {
            told.push(self.note(connection, millis, events).await?);
        }
        told.sort_unstable_by_key(|event| event.id);
        while !self.seal(connection, &told).await? {}
        Ok(told.into_iter().map(|event| event.id).collect())
    }

    async fn note(
        &self,
        connection: &mut PgConnection,
        millis: u64,
        erased: &[Uuid],
    ) -> Result<Event, StoreError> {
        let (digest, personal) = parted(Some(Personal::because(self.reason, "").pack()));
        let event = Event {
            lane: self.lane(),
            id: audit::event_id_at(self.environment.lane(), millis),
            at: OffsetDateTime::UNIX_EPOCH,
            action: Action::Erased.number(),
            environment: Some(self.environment.as_uuid()),
            job: None,
            trace: None,
            run: None,
            attempts: None,
            count: Some(i64::try_from(erased.len()).unwrap_or(i64::MAX)),
            outcome: None,
            http_status: None,
            caller: self.by.to_owned(),
            policy: None,
            batch: None,
            reason: None,
            detail: Some(COMMAND.to_owned()),
            correlation: None,
            personal_digest: digest,
            personal,
            erased: Some(erased.to_vec()),
        };
        let at = sqlx::query_scalar!(
            r#"
            insert into audit (lane, event_id, environment_id, count, action, caller, detail, personal_digest, personal, events)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            returning at
            "#,
            event.lane,
            event.id,
            event.environment,
            event.count,
            event.action,
            event.caller,
            event.detail,
            event.personal_digest,
            event.personal,
            erased,
        )
        .fetch_one(connection)
        .await?;
        Ok(Event { at, ..event })
    }

    /// False where the lane's owner took the number first: then it is sealed behind that one.
    async fn seal(&self, connection: &mut PgConnection, events: &[Event]) -> Result<bool, StoreError> {
        let newest = sqlx::query_as!(
            Seal,
            r#"
            select lane, number, sealed_at, previous, hash, events from audit_seal
            where lane = $1 and number < $2 order by number desc limit 1
            "#,
            self.lane(),
            i64::MAX,
        )
        .fetch_optional(&mut *connection)
        .await?;
        let head = newest.as_ref().and_then(Seal::head).unwrap_or(Head::NONE);
        let now = clock(connection).await?;
        let seal = Seal::new(self.environment.lane(), head, now, events);
        let recorded = sqlx::query!(
            r#"
            insert into audit_seal (lane, number, sealed_at, previous, hash, events) values ($1, $2, $3, $4, $5, $6)
            on conflict do nothing
            "#,
            seal.lane,
            seal.number,
            seal.sealed_at,
            seal.previous,
            seal.hash,
            &seal.events,
        )
        .execute(connection)
        .await?;
        Ok(recorded.rows_affected() == 1)
    }
}

/// The time now: that of the transaction may be long past.
async fn clock(connection: &mut PgConnection) -> Result<OffsetDateTime, StoreError> {
    Ok(sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(connection).await?)
}
