//! Recording rows of a batch, each once, in the order of their offsets; and the seal.

use sqlx::PgConnection;

use super::{
    BatchKey,
    note::{Asked, NewRow, note_rows},
    rows::{Full, Refusal, compare, first_of_each, noted, record_jobs, record_rows},
};
use crate::{
    audit::{Action, Personal},
    batch::{Header, Named, State, Target},
    device::{DeviceId, EnvironmentId},
    job::{Actor, Bound, Counted, JobId, Limits, OverQuota, Priority},
    store::{
        Store, StoreError,
        audit::Note,
        column,
        quota::{Ask, ROUNDS, Uncounted, count_uses, overtaken},
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
