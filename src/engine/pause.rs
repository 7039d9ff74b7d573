//! Pauses and resumes, from any replica. The owners find out by looking; the hint has them look at once.

use super::{Control, hints::Word, look};
use crate::{device::EnvironmentId, job::Actor, store::StoreError};

impl Control {
    /// Has nothing more sent to `environment`, or to any. `reason`: at most 500 characters.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::pause_environment`](crate::store::Store::pause_environment).
    pub async fn pause(
        &self,
        environment: Option<EnvironmentId>,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), StoreError> {
        match environment {
            Some(id) => self.0.store.pause_environment(id, actor, reason).await?,
            None => self.0.store.pause_everything(actor, reason).await?,
        }
        tracing::warn!(environment.id = named(environment), caller = actor.caller.as_str(), "paused");
        self.look_again().await;
        Ok(())
    }

    /// Takes the pause of `environment`, or of everything, back.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::resume_environment`](crate::store::Store::resume_environment).
    pub async fn resume(
        &self,
        environment: Option<EnvironmentId>,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), StoreError> {
        match environment {
            Some(id) => self.0.store.resume_environment(id, actor, reason).await?,
            None => self.0.store.resume_everything(actor, reason).await?,
        }
        tracing::info!(environment.id = named(environment), caller = actor.caller.as_str(), "resumed");
        self.look_again().await;
        Ok(())
    }

    /// Here at once, so that nothing starts on this replica once the caller has its answer; elsewhere as soon as it is heard.
    async fn look_again(&self) {
        self.0.hints.say(Word::Facts);
        if let Err(error) = look::adopt(&self.0).await {
            tracing::warn!(%error, "a pause or a resume is seen with the next look only");
        }
        self.0.facts.notify_one();
    }
}

fn named(environment: Option<EnvironmentId>) -> String {
    environment.map_or_else(|| "all".to_owned(), |id| id.to_string())
}
