//! What the trail is told of the rows of a batch: one event for each job that a row makes.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    audit::{self, Action, Personal},
    batch::{Header, Named},
    device::{DeviceId, EnvironmentId},
    job::{Actor, JobId},
    store::{
        StoreError,
        audit::{parted, trace_id},
        column,
    },
};

/// A row whose job is new.
pub(super) struct NewRow<'a> {
    pub(super) job: JobId,
    pub(super) named: Named,
    pub(super) reference: &'a str,
}

/// What rows have in common.
pub(super) struct Asked<'a> {
    pub(super) environment: EnvironmentId,
    pub(super) batch_id: &'a str,
    pub(super) caller: &'a str,
    pub(super) policy: Option<&'a str>,
    pub(super) trace_id: Option<Uuid>,
    pub(super) detail: Option<&'a str>,
    pub(super) personal: Personal,
}

impl<'a> Asked<'a> {
    pub(super) fn by(actor: &'a Actor, header: &'a Header) -> Self {
        let acting_for = actor.acting_for.as_deref().unwrap_or_default().to_owned();
        Self {
            environment: header.environment,
            batch_id: &header.id,
            caller: actor.caller.as_str(),
            policy: Some(&actor.policy),
            trace_id: trace_id(actor),
            detail: None,
            personal: Personal { acting_for, ..super::personal(header) },
        }
    }
}

/// Tells the trail of `rows`, in the transaction that records their jobs. The ids of the events are new, unlike those of the jobs:
/// those go back to when the batch was made, and whoever reads the trail in its order has long passed that.
pub(super) async fn note_rows(
    connection: &mut PgConnection,
    asked: &Asked<'_>,
    rows: &[NewRow<'_>],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let lane = asked.environment.lane();
    let (digests, packed): (Vec<_>, Vec<_>) = rows
        .iter()
        .map(|row| {
            let personal = Personal {
                user: Some(row.named.user),
                device: Some(row.named.device).filter(|device| *device != DeviceId::EVERY),
                reference: row.reference.to_owned(),
                ..asked.personal.clone()
            };
            parted(Some(personal.pack()))
        })
        .unzip();
    sqlx::query!(
        r#"
        insert into audit (lane, event_id, environment_id, job_id, trace_id, action, caller, policy, batch_id, detail,
                           personal_digest, personal)
        select $1, audit_event_id($2, job_id), $3, job_id, $4, $5, $6, $7, $8, $9, personal_digest, personal
        from unnest($10::uuid[], $11::bytea[], $12::bytea[]) as t (job_id, personal_digest, personal)
        "#,
        lane.number(),
        audit::event_id(lane),
        asked.environment.as_uuid(),
        asked.trace_id,
        Action::RowRequested.number(),
        asked.caller,
        asked.policy,
        asked.batch_id,
        asked.detail,
        &column(rows, |row| row.job.as_uuid()),
        &digests as &[Option<Vec<u8>>],
        &packed as &[Option<Vec<u8>>],
    )
    .execute(connection)
    .await?;
    Ok(())
}
