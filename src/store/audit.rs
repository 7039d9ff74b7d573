//! What the statements that do something tell the trail of it: each writes its events itself, so that neither is without the other.

use std::time::Duration;

use uuid::Uuid;

use super::{Store, StoreError, column, micros};
use crate::{
    audit::{self, Action, Denial, Packed, Personal},
    device::{EnvironmentId, Lane},
    job::Actor,
    telemetry::metrics::timed,
};

/// Who does something, and what of it is personal: the columns that every statement fills in the same way.
pub(super) struct Note {
    pub(super) event_id: Uuid,
    pub(super) caller: String,
    pub(super) policy: String,
    pub(super) trace_id: Option<Uuid>,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) personal: Option<Vec<u8>>,
}

impl Note {
    pub(super) fn by(actor: &Actor, lane: Lane, personal: Personal) -> Self {
        let (digest, personal) = parted(pack(actor, personal));
        Self {
            event_id: audit::event_id(lane),
            caller: actor.caller.as_str().to_owned(),
            policy: actor.policy.as_ref().to_owned(),
            trace_id: trace_id(actor),
            digest,
            personal,
        }
    }
}

/// With the person that `actor` acts for; nothing where nothing is personal.
pub(super) fn pack(actor: &Actor, personal: Personal) -> Option<Packed> {
    let acting_for = actor.acting_for.as_deref().unwrap_or_default().to_owned();
    let personal = Personal { acting_for, ..personal };
    (personal != Personal::default()).then(|| personal.pack())
}

pub(super) fn parted(packed: Option<Packed>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    packed.map(|packed| (packed.digest.to_vec(), packed.bytes)).unzip()
}

pub(super) fn trace_id(actor: &Actor) -> Option<Uuid> {
    actor.trace_id.as_deref().and_then(audit::trace_id)
}

/// Where what concerns every environment, or none that is known, is recorded.
pub const NOWHERE: Lane = Lane::from_stored(0);

fn lane_of(environment: Option<EnvironmentId>) -> Lane {
    environment.map_or(NOWHERE, EnvironmentId::lane)
}

impl Store {
    /// Records calls that were refused, each with how often it was.
    ///
    /// # Errors
    /// [`StoreError`]: then none is recorded, or all are and the answer was lost.
    pub async fn record_denials(&self, denials: &[(Denial, u64)]) -> Result<(), StoreError> {
        let _timed = timed("record_denials");
        let lanes = column(denials, |(denial, _)| lane_of(denial.environment));
        sqlx::query!(
            r#"
            insert into audit (lane, event_id, environment_id, trace_id, count, action, caller, policy, reason, detail)
            select lane, event_id, environment_id, trace_id, count, $10, caller, policy, reason, method
            from unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[],
                        $9::text[])
                as t (lane, event_id, environment_id, trace_id, count, caller, policy, reason, method)
            "#,
            &column(&lanes, |lane| lane.number()),
            &column(&lanes, |lane| audit::event_id(*lane)),
            &column(denials, |(denial, _)| denial.environment.map(EnvironmentId::as_uuid)) as &[Option<Uuid>],
            &column(denials, |(denial, _)| denial.trace_id.as_deref().and_then(audit::trace_id))
                as &[Option<Uuid>],
            &column(denials, |(_, count)| i64::try_from(*count).unwrap_or(i64::MAX)),
            &column(denials, |(denial, _)| denial.who.to_string()),
            &column(denials, |(denial, _)| denial.policy.as_deref().map(ToOwned::to_owned))
                as &[Option<String>],
            &column(denials, |(denial, _)| denial.reason.to_owned()),
            &column(denials, |(denial, _)| denial.method.as_ref().to_owned()),
            Action::Denied.number(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records that the trail is about to be read: of `environment`, or of all. `what`: how, in the service's words.
    ///
    /// # Errors
    /// [`StoreError`]: then it is not recorded, and must not be read, or the answer was lost.
    pub async fn record_trail_read(
        &self,
        environment: Option<EnvironmentId>,
        actor: &Actor,
        what: &str,
    ) -> Result<(), StoreError> {
        let _timed = timed("record_trail_read");
        let lane = lane_of(environment);
        let note = Note::by(actor, lane, Personal::default());
        sqlx::query!(
            r#"
            insert into audit (lane, event_id, environment_id, trace_id, action, caller, policy, detail, personal_digest, personal)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            "#,
            lane.number(),
            note.event_id,
            environment.map(EnvironmentId::as_uuid),
            note.trace_id,
            Action::TrailRead.number(),
            note.caller,
            note.policy,
            what,
            note.digest,
            note.personal,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets sealed entries of `lane` that are older than `keep` and 30 days, whole seals only, at most `seals` of them. Says how
    /// many entries went.
    ///
    /// # Errors
    /// [`StoreError`]: then none went, or they did and the answer was lost.
    pub async fn forget_audit(&self, lane: Lane, keep: Duration, seals: i32) -> Result<u64, StoreError> {
        let _timed = timed("forget_audit");
        let gone = sqlx::query_scalar!(
            r#"select forget_audit($1, $2, $3) as "gone!""#,
            lane.number(),
            micros(keep),
            seals
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(u64::try_from(gone).unwrap_or_default())
    }

    /// Whether this service's role in the database could change or delete what is in the audit trail.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn may_change_audit(&self) -> Result<bool, StoreError> {
        let _timed = timed("may_change_audit");
        Ok(sqlx::query_scalar!(
            r#"
            select pg_has_role(relowner, 'member') or has_table_privilege(oid, 'update, delete, truncate') as "may!"
            from pg_class where oid = to_regclass('audit')
            "#
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
