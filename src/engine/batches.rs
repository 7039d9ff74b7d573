//! Records and steers batches, from any replica.

use std::sync::Arc;

use super::{Control, SubmitError, hints::Word, keep};
use crate::{
    batch::{Batch, Header, State, Target},
    job::{Actor, Caller, Priority},
    store::{Appended, BatchKey, Opened, Retried, RetryWish, StoreError, TargetPlace, Unfit},
    telemetry::metrics,
};

/// A batch that is being uploaded.
#[derive(Debug, Clone)]
pub struct Upload {
    /// What it is.
    pub batch: Batch,
    /// Which upload of it; nothing where any may write.
    pub number: Option<i64>,
    /// Who uploads.
    pub actor: Actor,
}

impl Upload {
    fn key(&self) -> BatchKey {
        key(&self.batch)
    }
}

/// Where a batch is kept.
fn key(batch: &Batch) -> BatchKey {
    BatchKey { lane: batch.header.environment.lane(), number: batch.number }
}

impl Control {
    /// Makes the batch, or finds it.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::open_batch`](crate::store::Store::open_batch).
    pub async fn open_batch(&self, header: &Header, actor: &Actor) -> Result<Opened, StoreError> {
        let trace_parent = crate::telemetry::trace_parent_of_current_span();
        let opened = self.0.store.open_batch(header, actor, trace_parent.as_deref()).await?;
        self.0.batches.notify_one();
        Ok(opened)
    }

    /// From now on, of all streams only this one writes the batch.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::take_upload`](crate::store::Store::take_upload).
    pub async fn take_upload(&self, upload: &mut Upload) -> Result<(), StoreError> {
        upload.number = Some(self.0.store.take_upload(upload.key()).await?);
        Ok(())
    }

    /// Records rows from `offset` on; those recorded before are only compared.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`] before anything is recorded; [`SubmitError::Store`] as
    /// [`Store::append_targets`](crate::store::Store::append_targets).
    pub async fn append(
        &self,
        upload: &Upload,
        offset: u64,
        targets: &[Target],
    ) -> Result<Result<Appended, Unfit>, SubmitError> {
        let environment = upload.batch.header.environment;
        self.0.backlogs.admit(environment, Priority::Bulk, targets.len())?;
        let appended = self
            .0
            .store
            .append_targets(upload.key(), &upload.batch.header, &upload.actor, upload.number, offset, targets)
            .await;
        let recorded = match &appended {
            Ok(Ok(appended)) => appended.jobs,
            _ => 0,
        };
        self.0.backlogs.give_back(environment, Priority::Bulk, targets.len().saturating_sub(recorded));
        if recorded > 0 {
            self.0.tell_of(environment);
        }
        if let Ok(Err(Unfit::OverQuota(over))) = &appended {
            metrics().security.over_quota(over.bound(), 1);
        }
        appended.map_err(|error| SubmitError::Store(Arc::new(error)))
    }

    /// No more rows will come.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::seal_batch`](crate::store::Store::seal_batch).
    pub async fn seal(&self, upload: &Upload, rows: u64) -> Result<Result<(), Unfit>, StoreError> {
        let sealed = self.0.store.seal_batch(upload.key(), &upload.actor, upload.number, rows).await?;
        self.look_at_batches().await;
        Ok(sealed)
    }

    /// Has nothing more of it sent. False when it has ended or is being cancelled.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::move_batch`](crate::store::Store::move_batch).
    pub async fn pause_batch(&self, batch: &Batch, actor: &Actor, reason: &str) -> Result<bool, StoreError> {
        let from = [State::Uploading, State::Running, State::Paused];
        let why = because("paused", &actor.caller, reason);
        let paused = self.0.store.move_batch(key(batch), &from, State::Paused, &why, (actor, reason)).await?;
        self.look_at_batches().await;
        if paused {
            metrics().jobs.batch_paused("operator");
        }
        Ok(paused)
    }

    /// Takes a pause back. False when it is not paused.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::resume_batch`](crate::store::Store::resume_batch).
    pub async fn resume_batch(&self, batch: &Batch, actor: &Actor, reason: &str) -> Result<bool, StoreError> {
        let resumed = self.0.store.resume_batch(key(batch), actor, reason).await?;
        self.look_at_batches().await;
        Ok(resumed)
    }

    /// Ends all of it that has not been sent. False when it is done.
    ///
    /// # Errors
    /// [`StoreError`] as [`Store::move_batch`](crate::store::Store::move_batch).
    pub async fn cancel_batch(&self, batch: &Batch, actor: &Actor, reason: &str) -> Result<bool, StoreError> {
        let from = [State::Uploading, State::Running, State::Paused, State::Cancelling];
        let why = because("cancelled", &actor.caller, reason);
        if !self.0.store.move_batch(key(batch), &from, State::Cancelling, &why, (actor, reason)).await? {
            return Ok(batch.state == State::Cancelled);
        }
        // So that its owner claims nothing more while we go through it.
        self.look_at_batches().await;
        keep::cancel(&self.0, batch).await?;
        self.look_at_batches().await;
        Ok(true)
    }

    /// Gives what failed or expired new attempts, as far as there is room for them; says how many, or nothing where it is cancelled.
    ///
    /// # Errors
    /// [`StoreError`]: then some have new attempts; the same call again goes on.
    pub async fn retry_batch(
        &self,
        batch: &Batch,
        wish: &RetryWish<'_>,
    ) -> Result<Option<Retried>, StoreError> {
        if !self.0.store.begin_retry(key(batch), wish).await? {
            return Ok(None);
        }
        let (mut from, mut retried): (TargetPlace, Retried) = ((0, 0), Retried::default());
        loop {
            let (step, next) =
                self.0.store.retry_step(key(batch), from, wish, batch.header.environment).await?;
            retried.begun += step.begun;
            retried.left += step.left;
            if let Some(over) = step.over {
                metrics().security.over_quota(over.bound(), step.left as usize);
            }
            retried.over = retried.over.or(step.over);
            let Some(next) = next else { break };
            from = next;
        }
        self.0.tell_of(batch.header.environment);
        self.look_at_batches().await;
        Ok(Some(retried))
    }

    /// Here at once, so that what the caller is told is so on this replica; elsewhere as soon as it is heard.
    async fn look_at_batches(&self) {
        self.0.hints.say(Word::Facts);
        if let Err(error) = keep::keep(&self.0, None).await {
            tracing::warn!(%error, "a change of a batch is seen with the next look only");
        }
    }
}

fn because(what: &str, caller: &Caller, reason: &str) -> String {
    match reason {
        "" => format!("{what} by {}", caller.as_str()),
        _ => format!("{what} by {}: {reason}", caller.as_str()),
    }
}
