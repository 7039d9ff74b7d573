//! Saves the results of attempts, many in one commit. Nothing is forgotten while Postgres is away: places are held meanwhile, so
//! claiming stops before saving does.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    Core,
    send::{InHand, Place},
};
use crate::{
    job::JobId,
    store::{Ending, Failed, StoreError, Succeeded, Unsent},
};

/// A finished attempt, and what it holds until that is saved.
#[derive(Debug)]
pub(super) enum Finished {
    Succeeded(Succeeded, Place, InHand),
    Failed(Failed, Place, InHand),
    Unsent(Unsent, Place, InHand),
}

const GROUP_AT_MOST: usize = 256;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// Saves what comes, for as long as it runs. While one commit is in flight the next group gathers.
pub(super) async fn run(core: Arc<Core>, mut results: mpsc::UnboundedReceiver<Finished>) {
    let mut rng = fastrand::Rng::new();
    let mut gathered = Vec::with_capacity(GROUP_AT_MOST);
    while results.recv_many(&mut gathered, GROUP_AT_MOST).await > 0 {
        save(&core, Group::of(gathered.drain(..)), &mut rng).await;
    }
}

/// Saves a group however long Postgres is away.
async fn save(core: &Arc<Core>, group: Group, rng: &mut fastrand::Rng) {
    let mut wait = RETRY_FIRST;
    loop {
        match group.save(core, rng).await {
            Ok(endings) => return group.tell(core, &endings),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, results = group.len(), "results wait for Postgres");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_LONGEST);
            }
            // One bad row costs one job, never its group.
            Err(_) if group.len() > 1 => {
                for one in group.split() {
                    Box::pin(save(core, one, rng)).await;
                }
                return;
            }
            Err(error) => {
                // Its lease lapses: the job is tried again rather than lost.
                tracing::error!(%error, jobs = ?group.jobs(), "a result could not be saved");
                return;
            }
        }
    }
}

#[derive(Default)]
struct Group {
    succeeded: Vec<Succeeded>,
    failed: Vec<Failed>,
    unsent: Vec<Unsent>,
    held: Vec<(Place, InHand)>,
}

impl Group {
    fn of(finished: impl Iterator<Item = Finished>) -> Self {
        let mut group = Self::default();
        for one in finished {
            let held = match one {
                Finished::Succeeded(succeeded, place, in_hand) => {
                    group.succeeded.push(succeeded);
                    (place, in_hand)
                }
                Finished::Failed(failed, place, in_hand) => {
                    group.failed.push(failed);
                    (place, in_hand)
                }
                Finished::Unsent(unsent, place, in_hand) => {
                    group.unsent.push(unsent);
                    (place, in_hand)
                }
            };
            group.held.push(held);
        }
        group
    }

    fn len(&self) -> usize {
        self.held.len()
    }

    /// The results one by one, each with a place.
    fn split(self) -> Vec<Self> {
        let succeeded =
            self.succeeded.into_iter().map(|entry| Self { succeeded: vec![entry], ..Self::default() });
        let failed = self.failed.into_iter().map(|entry| Self { failed: vec![entry], ..Self::default() });
        let unsent = self.unsent.into_iter().map(|entry| Self { unsent: vec![entry], ..Self::default() });
        let groups = succeeded.chain(failed).chain(unsent);
        groups.zip(self.held).map(|(group, held)| Self { held: vec![held], ..group }).collect()
    }

    fn jobs(&self) -> Vec<JobId> {
        let claims = self.succeeded.iter().map(|entry| entry.claim);
        let claims = claims.chain(self.failed.iter().map(|entry| entry.claim));
        claims.chain(self.unsent.iter().map(|entry| entry.claim)).map(|claim| claim.id).collect()
    }

    /// Each part may be repeated: it is fenced, and finds its own traces.
    async fn save(&self, core: &Core, rng: &mut fastrand::Rng) -> Result<Vec<Ending>, StoreError> {
        if !self.succeeded.is_empty() {
            core.store.complete_succeeded(&self.succeeded).await?;
        }
        if !self.unsent.is_empty() {
            core.store.release(&self.unsent).await?;
        }
        if self.failed.is_empty() {
            return Ok(Vec::new());
        }
        core.store.complete_failed(&self.failed, &core.policy, rng).await
    }

    /// After the commit: local waiters at once, other replicas soon; and the next look at what is tried again.
    fn tell(self, core: &Arc<Core>, endings: &[Ending]) {
        let changed = self.jobs();
        drop(self.held);
        core.watch.changed(&changed);
        core.hints.jobs(&changed);
        for ending in endings {
            if let Ending::Again(wait) = ending {
                core.wake_in(*wait);
            }
        }
        if !self.unsent.is_empty() {
            core.wake.notify_one();
            core.hints.lanes(changed.iter().map(|job| job.lane()));
        }
    }
}
