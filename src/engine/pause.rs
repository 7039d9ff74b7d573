//! Pauses and resumes, from any replica. The owners find out by looking; the hint has them look at once.

use super::Control;
use crate::{
    device::{EnvironmentId, Lane},
    job::Caller,
    store::StoreError,
};

impl Control {
    /// Has nothing more sent to `environment`, or to any. `reason`: at most 500 characters.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::pause_environment`](crate::store::Store::pause_environment).
    pub async fn pause(
        &self,
        environment: Option<EnvironmentId>,
        caller: &Caller,
        reason: &str,
    ) -> Result<(), StoreError> {
        match environment {
            Some(id) => self.0.store.pause_environment(id, caller.as_str(), reason).await?,
            None => self.0.store.pause_everything(caller.as_str(), reason).await?,
        }
        tracing::warn!(environment.id = named(environment), caller = caller.as_str(), "paused");
        self.look_again(environment);
        Ok(())
    }

    /// Takes the pause of `environment`, or of everything, back.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::resume_environment`](crate::store::Store::resume_environment).
    pub async fn resume(
        &self,
        environment: Option<EnvironmentId>,
        caller: &Caller,
    ) -> Result<(), StoreError> {
        match environment {
            Some(id) => self.0.store.resume_environment(id).await?,
            None => self.0.store.resume_everything().await?,
        }
        tracing::info!(environment.id = named(environment), caller = caller.as_str(), "resumed");
        self.look_again(environment);
        Ok(())
    }

    fn look_again(&self, environment: Option<EnvironmentId>) {
        self.0.wake.notify_one();
        match environment {
            Some(id) => self.0.hints.lanes(std::iter::once(id.lane())),
            None => self.0.hints.lanes(Lane::all()),
        }
    }
}

fn named(environment: Option<EnvironmentId>) -> String {
    environment.map_or_else(|| "all".to_owned(), |id| id.to_string())
}
