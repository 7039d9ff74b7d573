//! Steers jobs that are recorded, from any replica.

use std::sync::{Arc, atomic::AtomicUsize};

use super::Core;
use crate::{
    device::EnvironmentId,
    job::{Actor, JobId, RetryPolicy},
    store::{Cancelled, Redrive, Redriven, StoreError},
    telemetry::metrics,
};

/// Through which jobs are cancelled and redriven. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control(pub(super) Arc<Core>);

impl Control {
    pub(super) const fn new(core: Arc<Core>) -> Self {
        Self(core)
    }

    /// Whether jobs of `environment` can be sent with this configuration.
    #[must_use]
    pub fn serves(&self, environment: EnvironmentId) -> bool {
        self.0.routes.serves(environment)
    }

    /// How many replicas live, this one among them, as it saw last; 0 before it has seen any. What all of them share out.
    #[must_use]
    pub fn replicas(&self) -> Arc<AtomicUsize> {
        self.0.lanes.replicas()
    }

    /// When failed attempts are repeated.
    #[must_use]
    pub fn policy(&self) -> &RetryPolicy {
        &self.0.policy
    }

    /// Ends a waiting job, or has it end with the attempt that runs.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::cancel`](crate::store::Store::cancel).
    pub async fn cancel(&self, id: JobId, actor: &Actor, reason: &str) -> Result<Cancelled, StoreError> {
        let cancelled = self.0.store.cancel(id, actor, reason).await?;
        match cancelled {
            Cancelled::Ended => self.tell(id),
            Cancelled::EndsWithAttempt { settled_in } => {
                self.tell(id);
                // Then what has not started never will: the answer is true however long it is believed.
                tokio::time::sleep(settled_in).await;
                // It may have been given back unsent: then nothing else ends it but a sweep, some time.
                if !self.0.store.end_if_overdue(&[id]).await?.is_empty() {
                    self.tell(id);
                    return Ok(Cancelled::Ended);
                }
            }
            Cancelled::TooLate(_) | Cancelled::Unknown => {}
        }
        Ok(cancelled)
    }

    /// Begins a new run of a job that failed or expired.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::redrive`](crate::store::Store::redrive).
    pub async fn redrive(&self, wish: &Redrive) -> Result<Redriven, StoreError> {
        let redriven = self.0.store.redrive(wish).await?;
        if redriven == Redriven::Begun {
            self.tell(wish.id);
            self.0.board().hint(|lane| lane == wish.id.lane(), false);
            self.0.look.notify_one();
            self.0.hints.lanes(std::iter::once(wish.id.lane()));
        }
        if let Redriven::Refused(over) = redriven {
            metrics().security.over_quota(over.bound(), 1);
        }
        Ok(redriven)
    }

    fn tell(&self, id: JobId) {
        self.0.watch.changed(&[id]);
        self.0.hints.jobs(&[id]);
    }
}
