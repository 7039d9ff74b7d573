//! Listing environments in pages. Reads only what is small whatever the backlog: never `ready`, never `job`.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, count};
use crate::{
    device::EnvironmentId,
    environment::{Environment, Outage, Pause, Recorded, Refusal, Status},
    telemetry::metrics::timed,
};

/// One page of environments.
#[derive(Debug, Clone)]
pub struct EnvironmentsPage {
    /// In an order that does not change.
    pub environments: Vec<Environment>,
    /// Where the next page begins; nothing on the last.
    pub next: Option<EnvironmentsToken>,
    /// The pause of everything, if it is in force.
    pub everything: Option<Pause>,
}

/// Where a page begins: with the first environment from this one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvironmentsToken(EnvironmentId);

const TOKEN_PREFIX: &str = "environments-";

impl EnvironmentsToken {
    /// Reads a token that this service gave out; nothing for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let from = text.strip_prefix(TOKEN_PREFIX).and_then(|id| Uuid::try_parse(id).ok())?;
        let token = Self(from.into());
        (token.to_string() == text).then_some(token)
    }
}

impl std::fmt::Display for EnvironmentsToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{TOKEN_PREFIX}{}", self.0.as_uuid().simple())
    }
}

impl Store {
    /// One page of at most `size` environments.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn list_environments(
        &self,
        size: usize,
        from: Option<EnvironmentsToken>,
    ) -> Result<EnvironmentsPage, StoreError> {
        let _timed = timed("list_environments");
        let everything = self.find_global_pause().await?;
        let from = from.map_or((0, Uuid::nil()), |EnvironmentsToken(id)| (id.lane().number(), id.as_uuid()));
        let mut rows = self.environments_from(from, size + 1).await?;
        let next = (rows.len() > size)
            .then(|| rows.pop())
            .flatten()
            .map(|row| EnvironmentsToken(row.environment_id.into()));
        let environments = rows.into_iter().map(|row| row.view(everything.as_ref())).collect();
        Ok(EnvironmentsPage { environments, next, everything })
    }

    /// One environment, also one of which nothing is recorded.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_environment(&self, id: EnvironmentId) -> Result<Environment, StoreError> {
        let _timed = timed("find_environment");
        let everything = self.find_global_pause().await?;
        let rows = self.environments_from((id.lane().number(), id.as_uuid()), 1).await?;
        let row = rows.into_iter().next().filter(|row| row.environment_id == id.as_uuid());
        Ok(match row {
            Some(row) => row.view(everything.as_ref()),
            // Nothing that depends on the time is recorded either.
            None => Recorded::nothing(id).view(everything.as_ref(), OffsetDateTime::UNIX_EPOCH),
        })
    }

    async fn environments_from(
        &self,
        (lane, id): (i16, Uuid),
        at_most: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"
            select e.environment_id, e.paused_at, e.paused_by, e.pause_reason, e.credential_error, e.credential_retry_at,
                   case when e.hold_until > '-infinity' then e.hold_until end as hold_until,
                   case when g.hold_until > '-infinity' then g.hold_until end as group_hold_until,
                   e.breaker_since, e.breaker_error, e.breaker_retry_at, p.replica_id as "owner?",
                   s.published_at as "published_at?", s.rate_limit, s.effective_rate, s.current_rate as "current_rate?",
                   s.in_flight as "in_flight?", s.max_in_flight as "max_in_flight?", s.limit_group,
                   s.pending_interactive as "pending_interactive?", s.pending_bulk as "pending_bulk?", s.oldest_due_at,
                   now() as "now!"
            from environment e
            left join environment_status s on s.lane = e.lane and s.environment_id = e.environment_id
            left join limit_group g on g.name = s.limit_group
            left join lane l on l.lane = e.lane
            left join replica p on p.replica_id = l.owner and p.lease_until > now()
            where (e.lane, e.environment_id) >= ($1, $2)
            order by e.lane, e.environment_id
            limit $3
            "#,
            lane,
            id,
            i64::try_from(at_most).unwrap_or(i64::MAX),
        )
        .fetch_all(&self.reading)
        .await?;
        Ok(rows)
    }
}

struct Row {
    environment_id: Uuid,
    paused_at: Option<OffsetDateTime>,
    paused_by: Option<String>,
    pause_reason: Option<String>,
    credential_error: Option<String>,
    credential_retry_at: Option<OffsetDateTime>,
    hold_until: Option<OffsetDateTime>,
    group_hold_until: Option<OffsetDateTime>,
    breaker_since: Option<OffsetDateTime>,
    breaker_error: Option<String>,
    breaker_retry_at: Option<OffsetDateTime>,
    owner: Option<Uuid>,
    published_at: Option<OffsetDateTime>,
    rate_limit: Option<f64>,
    effective_rate: Option<f64>,
    current_rate: Option<f64>,
    in_flight: Option<i32>,
    max_in_flight: Option<i32>,
    limit_group: Option<String>,
    pending_interactive: Option<i64>,
    pending_bulk: Option<i64>,
    oldest_due_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
}

impl Row {
    fn view(self, everything: Option<&Pause>) -> Environment {
        let now = self.now;
        self.recorded().view(everything, now)
    }

    fn recorded(self) -> Recorded {
        let id = self.environment_id.into();
        let status = Status {
            environment: id,
            rate_limit: self.rate_limit.unwrap_or(f64::INFINITY),
            effective_rate: self.effective_rate.unwrap_or(f64::INFINITY),
            current_rate: self.current_rate.unwrap_or_default(),
            in_flight: count(self.in_flight.unwrap_or_default()),
            max_in_flight: count(self.max_in_flight.unwrap_or_default()),
            limit_group: self.limit_group,
            pending_interactive: large_count(self.pending_interactive),
            pending_bulk: large_count(self.pending_bulk),
            oldest_due_at: self.oldest_due_at,
        };
        let pause = self.paused_at.zip(self.paused_by).zip(self.pause_reason);
        let refusal = self.credential_error.zip(self.credential_retry_at);
        let outage = self.breaker_since.zip(self.breaker_error).zip(self.breaker_retry_at);
        Recorded {
            id,
            pause: pause.map(|((at, by), reason)| Pause { at, by, reason }),
            refusal: refusal.map(|(error, retry_at)| Refusal { error, retry_at }),
            hold_until: self.hold_until,
            group_hold_until: self.group_hold_until,
            outage: outage.map(|((since, error), retry_at)| Outage { since, error, retry_at }),
            owner: self.owner,
            published: self.published_at.map(|at| (at, status)),
        }
    }
}

fn large_count(stored: Option<i64>) -> u64 {
    stored.and_then(|stored| u64::try_from(stored).ok()).unwrap_or_default()
}
