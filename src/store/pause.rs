//! An operator's pauses: of one environment, or of everything. Each change is one statement, from any replica.
//!
//! Who and when belong to the reason: a pause for the reason it is paused for already leaves all three as they are, another
//! reason takes the place of the first.

use super::{
    Store, StoreError,
    audit::{NOWHERE, Note},
    column,
};
use crate::{
    audit::{Action, Personal},
    device::{EnvironmentId, Lane},
    environment::Pause,
    job::Actor,
    telemetry::metrics::timed,
};

/// What an operator has stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pauses {
    /// Everything, environments that nobody has seen yet included.
    pub everything: Option<Pause>,
    /// Environments by themselves, in no order. They stay paused when everything is resumed.
    pub environments: Vec<(EnvironmentId, Pause)>,
}

impl Pauses {
    /// Why nothing may be sent to `environment`; nothing where it may.
    #[must_use]
    pub fn of(&self, environment: EnvironmentId) -> Option<&Pause> {
        let own = || self.environments.iter().find(|(id, _)| *id == environment);
        self.everything.as_ref().or_else(|| own().map(|(_, pause)| pause))
    }
}

impl Store {
    /// Pauses one environment, also one that nobody has seen yet. `reason`: at most 500 characters.
    ///
    /// # Errors
    /// [`StoreError`]: then nothing changed, or the answer was lost; the same call again is harmless.
    pub async fn pause_environment(
        &self,
        environment: EnvironmentId,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), StoreError> {
        let _timed = timed("pause_environment");
        let note = Note::by(actor, environment.lane(), Personal::because(reason, ""));
        sqlx::query!(
            r#"
            with changed as (
                insert into environment (lane, environment_id, paused_at, paused_by, pause_reason)
                values ($1, $2, now(), $3, $4)
                on conflict (lane, environment_id) do update
                set paused_at = excluded.paused_at, paused_by = excluded.paused_by, pause_reason = excluded.pause_reason
                where environment.pause_reason is distinct from excluded.pause_reason
                returning lane, environment_id
            )
            insert into audit (lane, event_id, environment_id, trace_id, action, caller, policy, personal_digest, personal)
            select lane, $5, environment_id, $6, $7, $3, $8, $9, $10 from changed
            "#,
            environment.lane().number(),
            environment.as_uuid(),
            note.caller,
            reason,
            note.event_id,
            note.trace_id,
            Action::Paused.number(),
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes the pause of one environment back, if there is one.
    ///
    /// # Errors
    /// As [`Store::pause_environment`].
    pub async fn resume_environment(
        &self,
        environment: EnvironmentId,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), StoreError> {
        let _timed = timed("resume_environment");
        let note = Note::by(actor, environment.lane(), Personal::because(reason, ""));
        sqlx::query!(
            r#"
            with changed as (
                update environment set paused_at = null, paused_by = null, pause_reason = null
                where lane = $1 and environment_id = $2 and paused_at is not null
                returning lane, environment_id
            )
            insert into audit (lane, event_id, environment_id, trace_id, action, caller, policy, personal_digest, personal)
            select lane, $3, environment_id, $4, $5, $6, $7, $8, $9 from changed
            "#,
            environment.lane().number(),
            environment.as_uuid(),
            note.event_id,
            note.trace_id,
            Action::Resumed.number(),
            note.caller,
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Pauses everything, environments that nobody has seen yet included. `reason`: at most 500 characters.
    ///
    /// # Errors
    /// As [`Store::pause_environment`].
    pub async fn pause_everything(&self, actor: &Actor, reason: &str) -> Result<(), StoreError> {
        let _timed = timed("pause_everything");
        let note = Note::by(actor, NOWHERE, Personal::because(reason, ""));
        sqlx::query!(
            r#"
            with changed as (
                insert into global_pause (only_row, paused_at, paused_by, pause_reason) values (true, now(), $1, $2)
                on conflict (only_row) do update
                set paused_at = excluded.paused_at, paused_by = excluded.paused_by, pause_reason = excluded.pause_reason
                where global_pause.pause_reason is distinct from excluded.pause_reason
                returning only_row
            )
            insert into audit (lane, event_id, trace_id, action, caller, policy, personal_digest, personal)
            select $3, $4, $5, $6, $1, $7, $8, $9 from changed
            "#,
            note.caller,
            reason,
            NOWHERE.number(),
            note.event_id,
            note.trace_id,
            Action::Paused.number(),
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Takes the pause of everything back, if there is one. Environments paused by themselves stay so.
    ///
    /// # Errors
    /// As [`Store::pause_environment`].
    pub async fn resume_everything(&self, actor: &Actor, reason: &str) -> Result<(), StoreError> {
        let _timed = timed("resume_everything");
        let note = Note::by(actor, NOWHERE, Personal::because(reason, ""));
        sqlx::query!(
            r#"
            with changed as (
                update global_pause set paused_at = null, paused_by = null, pause_reason = null
                where only_row and paused_at is not null
                returning only_row
            )
            insert into audit (lane, event_id, trace_id, action, caller, policy, personal_digest, personal)
            select $1, $2, $3, $4, $5, $6, $7, $8 from changed
            "#,
            NOWHERE.number(),
            note.event_id,
            note.trace_id,
            Action::Resumed.number(),
            note.caller,
            note.policy,
            note.digest,
            note.personal,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The pause of everything, if it is in force.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_global_pause(&self) -> Result<Option<Pause>, StoreError> {
        let _timed = timed("find_global_pause");
        Ok(self.find_pauses(&[]).await?.everything)
    }

    /// The pauses that are in force in `lanes`.
    ///
    /// # Errors
    /// [`StoreError`] when Postgres cannot say.
    pub async fn find_pauses(&self, lanes: &[Lane]) -> Result<Pauses, StoreError> {
        let _timed = timed("find_pauses");
        let rows = sqlx::query!(
            r#"
            select null::uuid as environment_id, paused_at as "at!", paused_by as "by!", pause_reason as "reason!"
            from global_pause where paused_at is not null
            union all
            select environment_id, paused_at, paused_by, pause_reason
            from environment where lane = any($1) and paused_at is not null
            "#,
            &column(lanes, |lane| lane.number()),
        )
        .fetch_all(&self.pool)
        .await?;
        let mut pauses = Pauses::default();
        for row in rows {
            let pause = Pause { at: row.at, by: row.by, reason: row.reason };
            match row.environment_id {
                None => pauses.everything = Some(pause),
                Some(id) => pauses.environments.push((id.into(), pause)),
            }
        }
        Ok(pauses)
    }
}
