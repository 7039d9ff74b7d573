//! Listing jobs, newest first, in pages of bounded work.

use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::{
    batch::BatchNumber,
    device::{DeviceId, EnvironmentId, UserId},
    job::{Job, JobId, State},
    telemetry::metrics::timed,
};

/// Which jobs to list: every filter that is set must hold.
#[derive(Debug, Clone)]
pub struct JobFilter {
    /// Of this environment.
    pub environment: EnvironmentId,
    /// Of this user.
    pub user: Option<UserId>,
    /// Of this device.
    pub device: Option<DeviceId>,
    /// In one of these states; empty: in any.
    pub states: Vec<State>,
    /// Recorded after this.
    pub created_after: Option<OffsetDateTime>,
    /// Recorded before this.
    pub created_before: Option<OffsetDateTime>,
    /// By this caller.
    pub caller: Option<String>,
    /// For this case.
    pub ticket: Option<String>,
    /// Targets of this batch.
    pub batch: Option<BatchNumber>,
}

/// One page of jobs.
#[derive(Debug, Clone)]
pub struct JobPage {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// Where the next page begins; nothing on the last.
    pub next: Option<PageToken>,
}

/// Where a page begins: after a job, in a listing with certain filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageToken {
    after: Uuid,
    filters: [u8; 8],
}

impl PageToken {
    /// Reads a token that this service gave out for the same filters; nothing for any other text.
    #[must_use]
    pub fn parse(text: &str, filter: &JobFilter) -> Option<Self> {
        let (after, filters) = text.split_at_checked(32)?;
        let token = Self {
            after: Uuid::try_parse(after).ok()?,
            filters: u64::from_str_radix(filters, 16).ok()?.to_be_bytes(),
        };
        (token == Self::new(token.after, filter) && token.to_string() == text).then_some(token)
    }

    pub(super) fn new(after: Uuid, filter: &JobFilter) -> Self {
        let digest = Sha256::digest(format!("{filter:?}").as_bytes());
        let mut filters = [0; 8];
        filters.copy_from_slice(&digest[..8]);
        Self { after, filters }
    }
}

impl std::fmt::Display for PageToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{:016x}", self.after.simple(), u64::from_be_bytes(self.filters))
    }
}

/// A page examines at most so many jobs, however few of them pass its filters.
const EXAMINED_AT_MOST: usize = 10_000;
const EXAMINED_AT_ONCE: usize = 1_000;
/// Ids carry the service's clock, `created_at` Postgres's: beyond this much in between, order by id is no order by time.
const CLOCKS_APART_AT_MOST: Duration = Duration::hours(1);

struct Examined {
    id: Uuid,
    passes: bool,
    created_at: OffsetDateTime,
}

impl Store {
    /// One page of at most `size` jobs.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn list_jobs(
        &self,
        filter: &JobFilter,
        size: usize,
        from: Option<PageToken>,
    ) -> Result<JobPage, StoreError> {
        let _timed = timed("list_jobs");
        let mut after = from.map_or(Uuid::max(), |token| token.after);
        let mut jobs = Vec::new();
        let mut examined = 0;
        while examined < EXAMINED_AT_MOST {
            let chunk = self.examine(filter, after).await?;
            let passing: Vec<JobId> =
                chunk.iter().filter(|entry| entry.passes).map(|entry| entry.id.into()).collect();
            let mut found = if passing.is_empty() { Vec::new() } else { self.find_jobs(&passing).await? };
            found.retain(|job| filter.states.is_empty() || filter.states.contains(&job.state));
            found.sort_by_key(|job| std::cmp::Reverse(job.id));
            jobs.append(&mut found);
            if jobs.len() > size {
                jobs.truncate(size);
                let next = jobs.last().map(|job| PageToken::new(job.id.as_uuid(), filter));
                return Ok(JobPage { jobs, next });
            }
            let Some(last) = chunk.last() else { break };
            let older_all =
                filter.created_after.is_some_and(|start| last.created_at < start - CLOCKS_APART_AT_MOST);
            if chunk.len() < EXAMINED_AT_ONCE || older_all {
                return Ok(JobPage { jobs, next: None });
            }
            examined += chunk.len();
            after = last.id;
        }
        let next = (examined >= EXAMINED_AT_MOST).then(|| PageToken::new(after, filter));
        Ok(JobPage { jobs, next })
    }

    /// The next jobs below `after`, and which of them pass the filters that the ledger alone can answer.
    async fn examine(&self, filter: &JobFilter, after: Uuid) -> Result<Vec<Examined>, StoreError> {
        let lane = filter.environment.lane().number();
        let environment = filter.environment.as_uuid();
        let at_once = i64::try_from(EXAMINED_AT_ONCE).unwrap_or(i64::MAX);
        let batch = filter.batch.map(BatchNumber::number);
        let (first, before) = filter.batch.map_or((Uuid::nil(), Uuid::max()), BatchNumber::job_ids);
        let examined = match filter.user {
            // A user has few jobs: the history index finds them.
            Some(user) => {
                sqlx::query_as!(
                    Examined,
                    r#"
                    select job_id as id, created_at,
                           ($5::timestamptz is null or created_at > $5) and ($6::timestamptz is null or created_at < $6)
                           and ($7::text is null or caller = $7) and ($8::text is null or ticket = $8)
                           and ($11::bigint is null or coalesce(flow - flow % 2 = $11, false)) as "passes!"
                    from job
                    where lane = $1 and environment_id = $2 and user_id = $3 and ($4::uuid is null or device_id = $4)
                      and job_id < $9
                    order by job_id desc limit $10
                    "#,
                    lane,
                    environment,
                    user.as_uuid(),
                    filter.device.map(DeviceId::as_uuid),
                    filter.created_after,
                    filter.created_before,
                    filter.caller,
                    filter.ticket,
                    after,
                    at_once,
                    batch,
                )
                .fetch_all(&self.reading)
                .await?
            }
            None => {
                sqlx::query_as!(
                    Examined,
                    r#"
                    select job_id as id, created_at,
                           environment_id = $2
                           and ($3::timestamptz is null or created_at > $3) and ($4::timestamptz is null or created_at < $4)
                           and ($5::text is null or caller = $5) and ($6::text is null or ticket = $6)
                           and ($10::bigint is null or coalesce(flow - flow % 2 = $10, false)) as "passes!"
                    from job
                    where lane = $1 and job_id < $7 and job_id >= $9
                    order by job_id desc limit $8
                    "#,
                    lane,
                    environment,
                    filter.created_after,
                    filter.created_before,
                    filter.caller,
                    filter.ticket,
                    after.min(before),
                    at_once,
                    first,
                    batch,
                )
                .fetch_all(&self.reading)
                .await?
            }
        };
        Ok(examined)
    }
}
