//! Events of the audit trail as they are stored.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::Event;

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
