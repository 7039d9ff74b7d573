//! Changes in, wake-ups out: whoever waits for a job looks at it again when it may have changed. What it looks like is read from
//! the store each time, so a slow reader skips to the newest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    job::{Confirmed, JobId},
    store::{Progress, Store},
};

/// Finds changes that nobody told of: those of other replicas whose hints were lost.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// One statement asks for so many jobs at most.
const POLLED_AT_ONCE: usize = 5_000;

/// Who waits for which job.
#[derive(Debug, Default)]
pub struct Watch {
    watched: Mutex<HashMap<JobId, Watched>>,
}

#[derive(Debug)]
struct Watched {
    changes: watch::Sender<Changes>,
    /// The newest that a poll or somebody who waits has seen.
    revision: Option<i64>,
}

/// What is known of a job's changes.
#[derive(Debug, Clone, Default)]
struct Changes {
    count: u64,
    /// How it ended, where that was seen here: then there is nothing to read.
    confirmed: Option<Arc<Confirmed>>,
}

/// That someone waits for a job. Register it before looking: then no change falls in between.
#[derive(Debug)]
pub struct Interest {
    watch: Arc<Watch>,
    job: JobId,
    changes: watch::Receiver<Changes>,
}

impl Watch {
    /// Registers interest in a job.
    #[must_use]
    pub fn interest(self: &Arc<Self>, job: JobId) -> Interest {
        let mut watched = self.watched();
        let entry = watched
            .entry(job)
            .or_insert_with(|| Watched { changes: watch::Sender::new(Changes::default()), revision: None });
        Interest { watch: Arc::clone(self), job, changes: entry.changes.subscribe() }
    }

    /// These jobs may have changed.
    pub fn changed(&self, jobs: &[JobId]) {
        let watched = self.watched();
        for entry in jobs.iter().filter_map(|job| watched.get(job)) {
            entry.changes.send_modify(|changes| changes.count += 1);
        }
    }

    /// PingOne confirmed this job at its first attempt, and that is saved.
    pub fn confirmed(&self, job: JobId, confirmed: impl FnOnce() -> Confirmed) {
        let watched = self.watched();
        let Some(entry) = watched.get(&job) else { return };
        entry.changes.send_modify(|changes| {
            changes.count += 1;
            changes.confirmed = Some(Arc::new(confirmed()));
        });
    }

    /// Looks for changes that nobody told of, for as long as it runs.
    pub async fn poll(self: Arc<Self>, store: Store) {
        loop {
            tokio::time::sleep(POLL_EVERY).await;
            if let Err(error) = self.poll_once(&store).await {
                tracing::debug!(%error, "changes were not looked for");
            }
        }
    }

    async fn poll_once(&self, store: &Store) -> Result<(), crate::store::StoreError> {
        let jobs: Vec<JobId> = self.watched().keys().copied().collect();
        for jobs in jobs.chunks(POLLED_AT_ONCE) {
            self.found(&store.find_progress(jobs).await?);
        }
        Ok(())
    }

    /// So far jobs have come.
    fn found(&self, progress: &[Progress]) {
        let mut watched = self.watched();
        for seen in progress {
            let Some(entry) = watched.get_mut(&seen.id) else { continue };
            let before = entry.revision.replace(seen.revision);
            if before != Some(seen.revision) {
                entry.changes.send_modify(|changes| changes.count += 1);
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<JobId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    /// Waits until the job may have changed since interest was registered or this last returned.
    pub async fn changed(&mut self) {
        // The sender lives in the map for as long as an interest does.
        let _ = self.changes.changed().await;
    }

    /// The job was seen at this revision: only another is a change.
    pub fn seen(&self, revision: i64) {
        if let Some(entry) = self.watch.watched().get_mut(&self.job) {
            entry.revision = entry.revision.max(Some(revision));
        }
    }

    /// How the job ended, where PingOne confirmed its first attempt and that was seen here.
    #[must_use]
    pub fn confirmed(&self) -> Option<Arc<Confirmed>> {
        self.changes.borrow().confirmed.clone()
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut watched = self.watch.watched();
        // The receiver counted last is this one.
        if watched.get(&self.job).is_some_and(|entry| entry.changes.receiver_count() <= 1) {
            watched.remove(&self.job);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Lane;

    #[tokio::test]
    async fn a_change_after_registering_is_never_missed() {
        let watch = Arc::new(Watch::default());
        let job = JobId::new(Lane::from_stored(1));
        let mut interest = watch.interest(job);
        watch.changed(&[job]);
        interest.changed().await;
        watch.changed(&[job]);
        watch.changed(&[job]);
        interest.changed().await;
        assert!(!interest.changes.has_changed().unwrap_or(true), "two changes are one wake-up");
    }

    #[tokio::test]
    async fn what_was_seen_already_is_no_change() {
        let watch = Arc::new(Watch::default());
        let job = JobId::new(Lane::from_stored(1));
        let interest = watch.interest(job);
        interest.seen(7);
        watch.found(&[Progress { id: job, revision: 7 }]);
        assert!(!interest.changes.has_changed().unwrap_or(true));
        watch.found(&[Progress { id: job, revision: 8 }]);
        assert!(interest.changes.has_changed().unwrap_or(false));
    }

    #[tokio::test]
    async fn nothing_is_kept_for_whom_nobody_waits() {
        let watch = Arc::new(Watch::default());
        let job = JobId::new(Lane::from_stored(1));
        let (first, second) = (watch.interest(job), watch.interest(job));
        drop(first);
        assert_eq!(watch.watched().len(), 1);
        drop(second);
        assert_eq!(watch.watched().len(), 0);
    }
}
