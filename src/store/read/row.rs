//! A job as it is read, and what it says of the job.

use time::OffsetDateTime;
use uuid::Uuid;

use super::duration;
use crate::{
    device::{DeviceRef, Snapshot},
    job::{Attempt, Job, JobId, Phase, Priority, State, Wait},
    store::{LEASE, StoreError, StoredFailure, between, count, packed::unpack, vault::Opener},
};

/// A job with all that hangs on it.
pub(super) struct Row {
    pub(super) job_id: Uuid,
    pub(super) environment_id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) device_id: Uuid,
    pub(super) caller: String,
    pub(super) request_id: Option<String>,
    pub(super) reason: String,
    pub(super) ticket: String,
    pub(super) on_behalf_of: String,
    pub(super) priority: i16,
    pub(super) created_at: OffsetDateTime,
    pub(super) expires_at: OffsetDateTime,
    pub(super) ready_run: Option<i32>,
    pub(super) attempt: i32,
    pub(super) spared: i32,
    pub(super) leased: bool,
    pub(super) lease_until: Option<OffsetDateTime>,
    pub(super) cancel_requested: bool,
    pub(super) due_at: Option<OffsetDateTime>,
    pub(super) next_attempt_at: Option<OffsetDateTime>,
    pub(super) held: Option<bool>,
    pub(super) credential_error: Option<String>,
    pub(super) breaker_since: Option<OffsetDateTime>,
    pub(super) breaker_error: Option<String>,
    pub(super) paused_at: Option<OffsetDateTime>,
    pub(super) paused_by: Option<String>,
    pub(super) pause_reason: Option<String>,
    pub(super) flow: Option<i64>,
    pub(super) worker: bool,
    pub(super) outcome_run: Option<i32>,
    pub(super) answered_by: Option<Uuid>,
    pub(super) outcome_read: Option<bool>,
    pub(super) outcome_state: Option<i16>,
    pub(super) completed_at: Option<OffsetDateTime>,
    pub(super) started_at: Option<OffsetDateTime>,
    pub(super) duration_us: Option<i64>,
    pub(super) answer_status: Option<i16>,
    pub(super) answer_correlation_id: Option<String>,
    pub(super) device: Option<Vec<u8>>,
    pub(super) device_at: Option<OffsetDateTime>,
    pub(super) redriven_at: Option<OffsetDateTime>,
    pub(super) redrive_expires_at: Option<OffsetDateTime>,
    pub(super) cancel_requested_at: Option<OffsetDateTime>,
    pub(super) failed_at: Option<OffsetDateTime>,
    pub(super) error_reason: Option<String>,
    pub(super) error_message: Option<String>,
    pub(super) http_status: Option<i16>,
    pub(super) pingone_code: Option<String>,
    pub(super) pingone_id: Option<String>,
    pub(super) correlation_id: Option<String>,
    pub(super) batch_id: Option<String>,
    pub(super) now: OffsetDateTime,
}

impl Row {
    pub(super) fn into_job(self, opener: &Opener) -> Result<Job, StoreError> {
        let id = JobId::from(self.job_id);
        let device = DeviceRef {
            environment: self.environment_id.into(),
            user: self.user_id.into(),
            device: self.device_id.into(),
        };
        let run = self.ready_run.or(self.outcome_run).ok_or_else(|| {
            StoreError::Corrupt(format!("job {id} has neither an outcome nor a row in ready"))
        })?;
        let state = match (self.ready_run, self.outcome_state) {
            (None, Some(number)) => State::from_number(number)
                .ok_or_else(|| StoreError::Corrupt(format!("job {id} ended in state {number}")))?,
            _ if self.leased => State::Running,
            _ => State::Pending,
        };
        let pending = state == State::Pending;
        let claimed_at = self.lease_until.map(|until| until - LEASE);
        let updated_at =
            [self.redriven_at, claimed_at, self.failed_at, self.cancel_requested_at, self.completed_at]
                .into_iter()
                .flatten()
                .fold(self.created_at, OffsetDateTime::max);
        let phase = Phase {
            run: count(run),
            attempt: count(self.attempt),
            leased: self.leased,
            cancel_requested: self.cancel_requested,
            ended: state.is_final(),
        };
        // An answer that another job's request brought is that job's attempt.
        let own = self.answered_by.is_none();
        let success = self.started_at.zip(self.duration_us).filter(|_| own).map(|(started_at, us)| Attempt {
            run: count(run),
            number: count(self.attempt),
            read: self.outcome_read.unwrap_or_default(),
            started_at,
            duration: duration(us),
            http_status: self.answer_status.and_then(|status| u16::try_from(status).ok()),
            correlation_id: self.answer_correlation_id.clone(),
            error: None,
        });
        let wait = pending.then(|| self.wait());
        let snapshot = match self.device.zip(self.device_at) {
            Some((packed, at)) => {
                let asked_by = self.answered_by.map_or(id, JobId::from);
                Some(Snapshot::new(unpack(opener, &device, asked_by, &packed)?, at))
            }
            None => None,
        };
        let error = StoredFailure {
            reason: self.error_reason,
            message: self.error_message,
            http_status: self.http_status,
            pingone_code: self.pingone_code,
            pingone_id: self.pingone_id,
            correlation_id: self.correlation_id,
        };
        Ok(Job {
            id,
            device,
            caller: self.caller,
            request_id: self.request_id,
            reason: self.reason,
            ticket: self.ticket,
            on_behalf_of: self.on_behalf_of,
            priority: Priority::from_number(self.priority),
            time_to_live: between(self.created_at, self.expires_at),
            created_at: self.created_at,
            expires_at: self.redrive_expires_at.unwrap_or(self.expires_at),
            updated_at,
            completed_at: self.completed_at,
            next_attempt_at: self.next_attempt_at.filter(|_| pending),
            cancel_requested_at: self.cancel_requested_at,
            state,
            snapshot,
            error: error.into_failure().filter(|_| state != State::Succeeded),
            attempt_count: count(self.attempt - self.spared),
            run: count(run),
            wait,
            revision: phase.revision(),
            success,
            answered_by: self.answered_by.map(JobId::from),
            batch_id: self.batch_id,
        })
    }

    fn wait(&self) -> Wait {
        let next = self.next_attempt_at.unwrap_or(self.now);
        if let (Some(since), Some(by), Some(reason)) = (self.paused_at, &self.paused_by, &self.pause_reason) {
            return Wait::Paused { since, by: by.clone(), reason: reason.clone() };
        }
        if !self.worker {
            return Wait::Worker;
        }
        if let Some(error) = &self.credential_error {
            return Wait::Credential { error: error.clone(), retry_at: next };
        }
        if self.held == Some(true) {
            return Wait::Hold(next);
        }
        if let (Some(since), Some(error)) = (self.breaker_since, &self.breaker_error) {
            return Wait::Circuit { since, error: error.clone(), retry_at: next };
        }
        match self.due_at {
            Some(due) if due > self.now => Wait::Backoff(due),
            _ => Wait::Turn(self.flow.unwrap_or_default()),
        }
    }
}
