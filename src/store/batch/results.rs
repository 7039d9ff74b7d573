//! What became of each row of a batch, in the order of their offsets.

use time::OffsetDateTime;
use uuid::Uuid;

use super::BatchKey;
use crate::{
    batch::{Named, Refused, Target},
    device::{DeviceId, DeviceRef, EnvironmentId, Snapshot},
    job::{Failure, JobId, State},
    store::{Store, StoreError, StoredFailure, count, packed::unpack, vault::Opener},
    telemetry::metrics::timed,
};

/// A place in a batch: a row's offset, and which of its devices.
pub type Place = (u64, u32);

/// A row and what became of it.
#[derive(Debug, Clone)]
pub struct TargetRow {
    /// Where it stands.
    pub place: Place,
    /// As it was uploaded; of a row by user that became several, one of them.
    pub target: Target,
    /// Its job, unless it was refused; of a duplicate, that of the earlier row.
    pub job: Option<JobId>,
    /// The same device stands in an earlier row.
    pub duplicate: bool,
    /// How far its job has come.
    pub state: Option<State>,
    /// Attempts that count.
    pub attempts: u32,
    /// When its job ended.
    pub completed_at: Option<OffsetDateTime>,
    /// PingOne's answer.
    pub snapshot: Option<Snapshot>,
    /// Why it failed, last.
    pub error: Option<Failure>,
}

impl TargetRow {
    /// Whether it has its final result.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.target.named.is_err() || self.state.is_some_and(State::is_final)
    }

    /// A row by user that became others: those say what became of it. A duplicate of such a row became none.
    #[must_use]
    pub fn stands_for_others(&self) -> bool {
        let by_user = self.target.named.as_ref().is_ok_and(|named| named.device == DeviceId::EVERY);
        by_user && !self.duplicate && self.state == Some(State::Succeeded)
    }
}

struct Row {
    target_offset: i64,
    sub: i32,
    user_id: Option<Uuid>,
    device_id: Option<Uuid>,
    client_reference: String,
    job_id: Option<Uuid>,
    duplicate: bool,
    rejection: Option<String>,
    message: Option<String>,
    given_user: Option<String>,
    given_device: Option<String>,
    waits: bool,
    leased: bool,
    state: Option<i16>,
    attempts: i32,
    completed_at: Option<OffsetDateTime>,
    device: Option<Vec<u8>>,
    device_at: Option<OffsetDateTime>,
    asked_by: Option<Uuid>,
    error_reason: Option<String>,
    error_message: Option<String>,
    http_status: Option<i16>,
    pingone_code: Option<String>,
    pingone_id: Option<String>,
    correlation_id: Option<String>,
}

impl Store {
    /// Up to `at_most` rows from `from` on.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_target_rows(
        &self,
        environment: EnvironmentId,
        key: BatchKey,
        from: Place,
        at_most: u32,
    ) -> Result<Vec<TargetRow>, StoreError> {
        let _timed = timed("find_target_rows");
        let rows = sqlx::query_as!(
            Row,
            r#"
            select t.target_offset as "target_offset!", t.sub as "sub!", t.user_id, t.device_id,
                   t.client_reference as "client_reference!", t.job_id, t.duplicate as "duplicate!", t.rejection, t.message,
                   t.given_user, t.given_device, r.run is not null as "waits!",
                   coalesce(r.lease_until > now(), false) as "leased!", o.state as "state?",
                   coalesce(r.attempt - r.spared, o.attempt - o.spared, 0) as "attempts!", o.completed_at as "completed_at?",
                   o.device as "device?", o.device_at as "device_at?", coalesce(o.answered_by, o.job_id) as "asked_by?",
                   a.error_reason as "error_reason?", a.error_message as "error_message?", a.http_status as "http_status?",
                   a.pingone_code as "pingone_code?", a.pingone_id as "pingone_id?", a.correlation_id as "correlation_id?"
            from (
                select * from batch_target
                where lane = $1 and number = $2 and (target_offset, sub) >= ($3, $4)
                order by target_offset, sub limit $5
            ) t
            left join lateral (
                select * from ready where ready.lane = t.lane and ready.job_id = t.job_id limit 1
            ) r on true
            left join lateral (
                select * from outcome where outcome.lane = t.lane and outcome.job_id = t.job_id order by run desc limit 1
            ) o on r.run is null
            left join lateral (
                select * from attempt
                where attempt.lane = t.lane and attempt.job_id = t.job_id and attempt.run = coalesce(r.run, o.run)
                  and not late and attempt.error_reason is not null
                order by attempt.number desc, read limit 1
            ) a on o.state is distinct from 3
            order by t.target_offset, t.sub
            "#,
            key.lane.number(),
            key.number.number(),
            i64::try_from(from.0).unwrap_or(i64::MAX),
            i32::try_from(from.1).unwrap_or(i32::MAX),
            i64::from(at_most),
        )
        .fetch_all(&self.reading)
        .await?;
        let opener = self.opener(rows.iter().filter_map(|row| row.device.as_deref())).await?;
        rows.into_iter().map(|row| row.into_target(environment, &opener)).collect()
    }
}

impl Row {
    fn into_target(self, environment: EnvironmentId, opener: &Opener) -> Result<TargetRow, StoreError> {
        let named = self.user_id.map(|user| Named {
            user: user.into(),
            device: self.device_id.map_or(DeviceId::EVERY, DeviceId::from),
        });
        let state = match self.state {
            _ if self.leased => Some(State::Running),
            _ if self.waits => Some(State::Pending),
            Some(number) => State::from_number(number),
            None => None,
        };
        let snapshot = match (self.device.zip(self.device_at), self.asked_by, named) {
            (Some((packed, at)), Some(asked_by), Some(named)) => {
                let device = DeviceRef { environment, user: named.user, device: named.device };
                Some(Snapshot::new(unpack(opener, &device, asked_by.into(), &packed)?, at))
            }
            _ => None,
        };
        let refused = Refused {
            reason: self.rejection.unwrap_or_default(),
            message: self.message.unwrap_or_default(),
            // Of one that was refused later, its ids are known.
            user: self.given_user.or_else(|| Some(self.user_id?.to_string())).unwrap_or_default(),
            device: self.given_device.or_else(|| Some(self.device_id?.to_string())).unwrap_or_default(),
        };
        let error = StoredFailure {
            reason: self.error_reason,
            message: self.error_message,
            http_status: self.http_status,
            pingone_code: self.pingone_code,
            pingone_id: self.pingone_id,
            correlation_id: self.correlation_id,
        };
        let place = (u64::try_from(self.target_offset).unwrap_or_default(), count(self.sub));
        let refused_here = !refused.reason.is_empty();
        Ok(TargetRow {
            place,
            target: Target {
                named: named.filter(|_| !refused_here).ok_or(refused),
                client_reference: self.client_reference,
            },
            job: self.job_id.map(JobId::from),
            duplicate: self.duplicate,
            state,
            attempts: count(self.attempts),
            completed_at: self.completed_at,
            snapshot,
            error: error.into_failure().filter(|_| state != Some(State::Succeeded)),
        })
    }
}
