//! Recording rows of a batch, each once, in the order of their offsets; and the seal.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    BatchKey,
    note::{Asked, NewRow, note_rows},
};
use crate::{
    audit::{Action, Personal},
    batch::{Header, Named, Refused, State, Target},
    device::{DeviceId, EnvironmentId},
    job::{Actor, Bound, Counted, JobId, Limits, OverQuota, Priority},
    store::{
        Store, StoreError,
        audit::Note,
        column,
        quota::{Ask, ROUNDS, Uncounted, count_uses, overtaken, stored_bound},
    },
    telemetry::{metrics, metrics::timed},
};

/// Why rows or a seal were not taken. Nothing was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// There is no such batch.
    Unknown,
    /// A newer upload writes this batch.
    Superseded,
    /// Rows before this one are missing.
    Gap {
        /// Where the upload goes on.
        next_offset: u64,
    },
    /// This row was recorded before, and otherwise.
    Conflict {
        /// Which.
        offset: u64,
    },
    /// The batch is sealed: it has so many rows.
    Sealed {
        /// How many.
        rows: u64,
    },
    /// The seal counts other rows than were recorded.
    Count {
        /// How many were.
        rows: u64,
    },
    /// It takes no more rows: it is cancelled.
    Cancelled,
    /// It takes no more rows: its time is over.
    Expired,
    /// There is no room for all of them within the caller's bounds.
    OverQuota(OverQuota),
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Everything below is durable.
    pub next_offset: u64,
    /// So many jobs are new.
    pub jobs: usize,
    /// Rows, by their offset, that are refused though they name a device: now, or when they were recorded.
    pub refused: Vec<(u64, Refusal)>,
}

/// Why a row that names a device is refused all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As `ErrorInfo.reason`.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl From<OverQuota> for Refusal {
    fn from(over: OverQuota) -> Self {
        Self { reason: over.reason().to_owned(), message: over.to_string() }
    }
}

/// The devices, by their jobs, for which there is no room.
pub(super) type Full = HashMap<JobId, OverQuota>;

/// What one try to record rows came to.
enum Tried {
    Done(Result<Appended, Unfit>),
    /// A bound was met: nothing was recorded of these.
    Breach(Vec<(JobId, Named)>),
}

struct Standing {
    state: i16,
    upload: i64,
    next_offset: i64,
    sealed: bool,
    expired: bool,
    canary_left: i64,
}

struct Stored {
    user_id: Option<Uuid>,
    device_id: Option<Uuid>,
    given_user: Option<String>,
    given_device: Option<String>,
    client_reference: String,
    rejection: Option<String>,
    message: Option<String>,
}

/// A row as it is to be recorded.
struct Fresh<'a> {
    target: &'a Target,
    job: Option<JobId>,
    duplicate: bool,
    full: Option<OverQuota>,
}

impl Store {
    /// Records rows from `offset` on. Those recorded before are compared, not repeated. Those whose device was unblocked as often as
    /// it may be are recorded as refused; where the caller's bounds have no room for the others, nothing is recorded. `upload`: as
    /// the opening said, where it is one of a stream.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing was recorded, or the answer was lost; the same call again is harmless.
    pub async fn append_targets(
        &self,
        key: BatchKey,
        header: &Header,
        actor: &Actor,
        upload: Option<i64>,
        offset: u64,
        targets: &[Target],
    ) -> Result<Result<Appended, Unfit>, StoreError> {
        let _timed = timed("append_targets");
        let mut full = Full::new();
        for _ in 0..ROUNDS {
            match self.try_append(key, header, actor, upload, (offset, targets), &full).await? {
                Tried::Done(done) => return Ok(done),
                Tried::Breach(jobs) => {
                    let (found, callers) = self.find_full(header.environment, actor, jobs).await?;
                    if let Some(over) = callers {
                        return Ok(Err(Unfit::OverQuota(over)));
                    }
                    full.extend(found);
                }
            }
        }
        Err(overtaken())
    }

    /// For which of `jobs` the bound of their device has no room; and the caller's bound that the others meet.
    async fn find_full(
        &self,
        environment: EnvironmentId,
        actor: &Actor,
        jobs: Vec<(JobId, Named)>,
    ) -> Result<(Full, Option<OverQuota>), StoreError> {
        let asks: Vec<Ask<'_>> = jobs
            .into_iter()
            .map(|(job, named)| Ask { job, request_id: None, counted: counted(environment, actor, named) })
            .collect();
        let met = asks.iter().zip(self.find_unfit(&asks).await?);
        let (full, callers): (Vec<_>, Vec<_>) = met
            .filter_map(|(ask, over)| Some((ask.job, over?)))
            .partition(|(_, over)| matches!(over, OverQuota::Device { .. }));
        Ok((full.into_iter().collect(), callers.first().map(|(_, over)| *over)))
    }

    async fn try_append(
        &self,
        key: BatchKey,
        header: &Header,
        actor: &Actor,
        upload: Option<i64>,
        (offset, targets): (u64, &[Target]),
        full: &Full,
    ) -> Result<Tried, StoreError> {
        let unfit = |unfit| Ok(Tried::Done(Err(unfit)));
        let mut transaction = self.pool.begin().await?;
        let Some(standing) = lock(&mut transaction, key).await? else { return unfit(Unfit::Unknown) };
        if upload.is_some_and(|upload| upload != standing.upload) {
            return unfit(Unfit::Superseded);
        }
        let next_offset = u64::try_from(standing.next_offset).unwrap_or_default();
        if offset > next_offset {
            return unfit(Unfit::Gap { next_offset });
        }
        let known = usize::try_from(next_offset - offset).unwrap_or(usize::MAX).min(targets.len());
        let (before, new) = targets.split_at(known);
        metrics().jobs.rows(false, before.len());
        let mut refused = match compare(&mut transaction, key, offset, before).await? {
            Ok(refused) => refused,
            Err(offset) => return unfit(Unfit::Conflict { offset }),
        };
        if new.is_empty() {
            return Ok(Tried::Done(Ok(Appended { next_offset, jobs: 0, refused })));
        }
        if let Err(why) = takes_rows(&standing, next_offset, new.len(), actor.limits) {
            return unfit(why);
        }
        let mut fresh = first_of_each(key, new, full);
        let recorded = record_jobs(&mut transaction, key, &fresh, standing.canary_left).await?;
        for row in &mut fresh {
            row.duplicate |= row.job.is_some_and(|job| !recorded.contains(&job));
        }
        record_rows(&mut transaction, key, next_offset, &fresh, recorded.len(), actor.limits).await?;
        // Those that made no job are no action: they stand in the batch.
        let noted: Vec<NewRow<'_>> = fresh.iter().filter_map(noted).collect();
        note_rows(&mut transaction, &Asked::by(actor, header), &noted).await?;
        // Last, so that nobody waits long for the caller's row.
        let used = column(&noted, |row| (row.job, row.named));
        let group: Vec<Counted> = column(&used, |(_, named)| counted(header.environment, actor, *named));
        match count_uses(&mut transaction, &group).await {
            Ok(()) => {}
            Err(Uncounted::Breach) => return Ok(Tried::Breach(used)),
            Err(Uncounted::Store(error)) => return Err(error),
        }
        transaction.commit().await?;
        metrics().jobs.rows(true, new.len());
        metrics().jobs.accepted(Priority::Bulk, true, recorded.len());
        let full = (next_offset..).zip(&fresh).filter_map(|(at, row)| Some((at, row.full?)));
        metrics().security.over_quota(Bound::Device, full.clone().count());
        refused.extend(full.map(|(at, over)| (at, over.into())));
        let next_offset = next_offset + u64::try_from(new.len()).unwrap_or_default();
        // Without its row an environment has no owner who looks.
        self.register_environments(&[header.environment]).await?;
        Ok(Tried::Done(Ok(Appended { next_offset, jobs: recorded.len(), refused })))
    }

    /// No more rows will come. Again with the same count: harmless.
    ///
    /// # Errors
    /// [`StoreError`]: then it is sealed or not; the same call again is harmless.
    pub async fn seal_batch(
        &self,
        key: BatchKey,
        actor: &Actor,
        upload: Option<i64>,
        rows: u64,
    ) -> Result<Result<(), Unfit>, StoreError> {
        let _timed = timed("seal_batch");
        let mut transaction = self.pool.begin().await?;
        let Some(standing) = lock(&mut transaction, key).await? else { return Ok(Err(Unfit::Unknown)) };
        if upload.is_some_and(|upload| upload != standing.upload) {
            return Ok(Err(Unfit::Superseded));
        }
        let recorded = u64::try_from(standing.next_offset).unwrap_or_default();
        if rows != recorded {
            return Ok(Err(Unfit::Count { rows: recorded }));
        }
        if standing.sealed {
            return Ok(Ok(()));
        }
        if standing.state == State::Cancelled.number() || standing.state == State::Cancelling.number() {
            return Ok(Err(Unfit::Cancelled));
        }
        let note = Note::by(actor, key.lane, Personal::default());
        sqlx::query!(
            r#"
            with sealed as (
                update batch set sealed = true, uploaded_at = now(), revision = revision + 1,
                                 state = case when state = 1 then 2 else state end
                where lane = $1 and number = $2
                returning lane, environment_id, batch_id, next_offset
            )
            insert into audit (lane, event_id, environment_id, trace_id, count, action, caller, policy, batch_id,
                               personal_digest, personal)
            select lane, $3, environment_id, $4, next_offset, $5, $6, $7, batch_id, $8, $9 from sealed
            "#,
            key.lane.number(),
            key.number.number(),
            note.event_id,
            note.trace_id,
            Action::BatchSealed.number(),
            note.caller,
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Ok(()))
    }
}

async fn lock(connection: &mut PgConnection, key: BatchKey) -> Result<Option<Standing>, StoreError> {
    let standing = sqlx::query_as!(
        Standing,
        r#"
        select state, upload, next_offset, sealed, expires_at <= now() as "expired!",
               case when canary_passed then 0 else greatest(canary_count - jobs, 0) end as "canary_left!"
        from batch where lane = $1 and number = $2 for update
        "#,
        key.lane.number(),
        key.number.number(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(standing)
}

/// As which a row is counted: of the devices of a user only the row is counted for its caller, whatever they are.
fn counted(environment: EnvironmentId, actor: &Actor, named: Named) -> Counted {
    let device = Some(named.device).filter(|device| *device != DeviceId::EVERY);
    Counted { caller: actor.caller.clone(), environment, device, limits: actor.limits }
}

fn takes_rows(standing: &Standing, rows: u64, more: usize, limits: Limits) -> Result<(), Unfit> {
    let all = rows.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
    let beyond = limits.batch_rows.filter(|most| all > u64::from(*most));
    match State::from_number(standing.state) {
        _ if standing.sealed => Err(Unfit::Sealed { rows }),
        Some(State::Cancelled | State::Cancelling) => Err(Unfit::Cancelled),
        _ if standing.expired => Err(Unfit::Expired),
        _ => beyond.map_or(Ok(()), |most| Err(Unfit::OverQuota(OverQuota::Rows { most }))),
    }
}

/// The rows recorded before: which of them name a device and are refused; or the first that was recorded otherwise.
async fn compare(
    connection: &mut PgConnection,
    key: BatchKey,
    offset: u64,
    targets: &[Target],
) -> Result<Result<Vec<(u64, Refusal)>, u64>, StoreError> {
    if targets.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let stored = sqlx::query_as!(
        Stored,
        r#"
        select user_id, device_id, given_user, given_device, client_reference, rejection, message from batch_target
        where lane = $1 and number = $2 and target_offset >= $3 and target_offset < $4 and sub = 0
        order by target_offset
        "#,
        key.lane.number(),
        key.number.number(),
        i64::try_from(offset).unwrap_or(i64::MAX),
        i64::try_from(offset)
            .unwrap_or(i64::MAX)
            .saturating_add(i64::try_from(targets.len()).unwrap_or(i64::MAX)),
    )
    .fetch_all(connection)
    .await?;
    let differs = |(target, stored): &(&Target, &Stored)| !same(target, stored);
    if let Some(at) = targets.iter().zip(&stored).position(|pair| differs(&pair)) {
        return Ok(Err(offset + u64::try_from(at).unwrap_or_default()));
    }
    let refused = (offset..).zip(stored).filter_map(|(at, row)| {
        let named = row.user_id.is_some();
        let (reason, message) = row.rejection.zip(row.message).filter(|_| named)?;
        Some((at, Refusal { reason, message }))
    });
    Ok(Ok(refused.collect()))
}

fn same(target: &Target, stored: &Stored) -> bool {
    let named = match &target.named {
        Ok(Named { user, device }) => {
            stored.user_id == Some(user.as_uuid()) && stored.device_id == stored_device(*device)
        }
        Err(refused) => {
            stored.given_user.as_deref() == Some(&refused.user)
                && stored.given_device.as_deref() == Some(&refused.device)
        }
    };
    named && stored.client_reference == target.client_reference
}

/// Nothing stands for every device.
pub(super) fn stored_device(device: DeviceId) -> Option<Uuid> {
    (device != DeviceId::EVERY).then(|| device.as_uuid())
}

/// Each row with the id of its job, unless there is no room for that; those whose device stands in an earlier one of `targets` are
/// duplicates.
fn first_of_each<'a>(key: BatchKey, targets: &'a [Target], full: &Full) -> Vec<Fresh<'a>> {
    let mut seen = HashSet::with_capacity(targets.len());
    let fresh = |target: &'a Target| {
        let job = target.named.as_ref().ok().map(|named| key.number.job(key.lane, named.user, named.device));
        let full = job.and_then(|job| full.get(&job).copied());
        let job = job.filter(|_| full.is_none());
        Fresh { target, job, duplicate: job.is_some_and(|job| !seen.insert(job)), full }
    };
    targets.iter().map(fresh).collect()
}

/// Records the jobs of rows that are no duplicates, the first `canary_left` of them in the canary's flow. Says which are new.
async fn record_jobs(
    connection: &mut PgConnection,
    key: BatchKey,
    rows: &[Fresh<'_>],
    canary_left: i64,
) -> Result<HashSet<JobId>, StoreError> {
    let mut canary_left = usize::try_from(canary_left).unwrap_or_default();
    let mut jobs: Vec<(JobId, Named, i64)> = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| !row.duplicate) {
        let (Some(job), Ok(named)) = (row.job, &row.target.named) else { continue };
        let flow = if canary_left > 0 { key.number.canary_flow() } else { key.number.flow() };
        canary_left = canary_left.saturating_sub(1);
        jobs.push((job, *named, flow));
    }
    insert_jobs(connection, key, &jobs).await
}

/// Records jobs of the batch, each in its flow; says which are new.
pub(super) async fn insert_jobs(
    connection: &mut PgConnection,
    key: BatchKey,
    jobs: &[(JobId, Named, i64)],
) -> Result<HashSet<JobId>, StoreError> {
    if jobs.is_empty() {
        return Ok(HashSet::new());
    }
    let recorded = sqlx::query_scalar!(
        r#"
        with fresh as (
            insert into job (lane, job_id, environment_id, user_id, device_id, caller, reason, ticket, on_behalf_of, priority,
                             created_at, expires_at, trace_parent, flow)
            select b.lane, t.job_id, b.environment_id, t.user_id, t.device_id, b.caller, b.reason, b.ticket, b.on_behalf_of, 2,
                   now(), b.expires_at, b.trace_parent, t.flow
            from batch b, unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::bigint[]) as t (job_id, user_id, device_id, flow)
            where b.lane = $1 and b.number = $2
            on conflict do nothing
            returning lane, job_id, environment_id, flow, created_at, expires_at
        ), waiting as (
            insert into ready (lane, job_id, environment_id, flow, due_at, run, attempt, expires_at)
            select lane, job_id, environment_id, flow, created_at, 1, 0, expires_at from fresh
        )
        select job_id from fresh
        "#,
        key.lane.number(),
        key.number.number(),
        &column(jobs, |(job, _, _)| job.as_uuid()),
        &column(jobs, |(_, named, _)| named.user.as_uuid()),
        &column(jobs, |(_, named, _)| named.device.as_uuid()),
        &column(jobs, |(_, _, flow)| *flow),
    )
    .fetch_all(connection)
    .await?;
    Ok(recorded.into_iter().map(JobId::from).collect())
}

/// Records the rows themselves, from `offset` on, and counts them.
async fn record_rows(
    connection: &mut PgConnection,
    key: BatchKey,
    offset: u64,
    rows: &[Fresh<'_>],
    jobs: usize,
    limits: Limits,
) -> Result<(), StoreError> {
    let stored = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let named = |row: &Fresh<'_>| row.target.named.as_ref().ok().copied();
    let refused = |row: &Fresh<'_>| row.target.named.as_ref().err().cloned();
    let refusal = |row: &Fresh<'_>| {
        let given = |Refused { reason, message, .. }| Refusal { reason, message };
        row.full.map(Refusal::from).or_else(|| refused(row).map(given))
    };
    let rejected = rows.iter().filter(|row| row.full.is_some() || row.target.named.is_err()).count();
    let (device_most, device_within_s) = limits.per_device.map(stored_bound).unzip();
    let duplicate = rows.iter().filter(|row| row.duplicate).count();
    sqlx::query!(
        r#"
        with rows as (
            insert into batch_target (lane, number, target_offset, sub, user_id, device_id, client_reference, job_id,
                                      duplicate, rejection, message, given_user, given_device)
            select $1, $2, $3 + t.position - 1, 0, t.user_id, t.device_id, t.client_reference, t.job_id, t.duplicate,
                   t.rejection, t.message, t.given_user, t.given_device
            from unnest($4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::bool[], $9::text[], $10::text[], $11::text[],
                        $12::text[])
                with ordinality
                as t (user_id, device_id, client_reference, job_id, duplicate, rejection, message, given_user, given_device,
                      position)
        )
        update batch set next_offset = next_offset + $13, jobs = jobs + $14, rejected = rejected + $15,
                         duplicate = duplicate + $16, uploaded_at = now(), revision = revision + 1,
                         device_most = $17, device_within_s = $18
        where lane = $1 and number = $2
        "#,
        key.lane.number(),
        key.number.number(),
        offset,
        &column(rows, |row| named(row).map(|named| named.user.as_uuid())) as &[Option<Uuid>],
        &column(rows, |row| named(row).and_then(|named| stored_device(named.device))) as &[Option<Uuid>],
        &column(rows, |row| row.target.client_reference.clone()),
        &column(rows, |row| row.job.map(JobId::as_uuid)) as &[Option<Uuid>],
        &column(rows, |row| row.duplicate),
        &column(rows, |row| refusal(row).map(|refusal| refusal.reason)) as &[Option<String>],
        &column(rows, |row| refusal(row).map(|refusal| refusal.message)) as &[Option<String>],
        &column(rows, |row| refused(row).map(|refused| refused.user)) as &[Option<String>],
        &column(rows, |row| refused(row).map(|refused| refused.device)) as &[Option<String>],
        stored(rows.len()),
        stored(jobs),
        stored(rejected),
        stored(duplicate),
        device_most,
        device_within_s,
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn noted<'a>(row: &Fresh<'a>) -> Option<NewRow<'a>> {
    let (job, named) = (row.job.filter(|_| !row.duplicate)?, row.target.named.as_ref().ok()?);
    Some(NewRow { job, named: *named, reference: &row.target.client_reference })
}
