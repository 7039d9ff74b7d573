//! Claims what limits allow in the next moment, and has it staged to start.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{
    Core,
    flow::Waiting,
    send::{self, Attempt, InHand},
};
use crate::{
    device::EnvironmentId,
    job::JobId,
    store::{Candidate, Claim, SEND_WINDOW, StoreError},
    telemetry::metrics,
};

/// Jobs claimed by one statement.
const CLAIMED_AT_ONCE: usize = 1000;
/// Two looks are never closer: what comes free in between is claimed together.
const CLAIM_APART: Duration = Duration::from_millis(1);
const LOOK_LATEST: Duration = Duration::from_secs(1);

/// Claims until the engine stops.
pub(super) async fn run(core: Arc<Core>) {
    while !core.stopping.is_cancelled() {
        let again = match run_once(&core).await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(%error, "nothing could be claimed");
                tokio::time::sleep(LOOK_LATEST / 4).await;
                None
            }
        };
        tokio::time::sleep(CLAIM_APART).await;
        let latest = Instant::now() + LOOK_LATEST;
        tokio::select! {
            () = tokio::time::sleep_until(again.map_or(latest, |at| at.min(latest))) => {}
            () = core.wake.notified() => {}
            () = core.stopping.cancelled() => {}
        }
    }
}

/// Claims once. Says when the next look is worth it, where that is known.
async fn run_once(core: &Arc<Core>) -> Result<Option<Instant>, StoreError> {
    let asked = Instant::now();
    let room = core.permits.available_permits().min(CLAIMED_AT_ONCE);
    let wanted = u32::try_from(room).unwrap_or_default();
    // Where saving lags there is no room: whoever saves wakes us.
    let Ok(permits) = Arc::clone(&core.permits).try_acquire_many_owned(wanted.max(1)) else {
        return Ok(None);
    };
    let picked = core.board().pick(asked, permits.num_permits());
    if !picked.expired.is_empty() {
        let ended = core.store.end_if_overdue(&picked.expired).await?;
        core.watch.changed(&ended);
        core.hints.jobs(&ended);
    }
    // The windows gave jobs away: they may be filled again while these are claimed.
    core.look.notify_one();
    if picked.jobs.is_empty() {
        return Ok(picked.again);
    }
    let full = picked.jobs.len() == permits.num_permits();
    claim(core, picked.jobs, permits, asked).await?;
    Ok(if full { Some(Instant::now()) } else { picked.again })
}

async fn claim(
    core: &Arc<Core>,
    jobs: Vec<Waiting>,
    mut permits: OwnedSemaphorePermit,
    asked: Instant,
) -> Result<(), StoreError> {
    let mut wanted: HashMap<JobId, (Waiting, InHand)> = HashMap::with_capacity(jobs.len());
    for job in jobs {
        if let Some(in_hand) = InHand::new(core, job.id).filter(|_| core.schedules(job.device.environment)) {
            wanted.insert(job.id, (job, in_hand));
        }
    }
    let mut candidates: Vec<Candidate> = wanted
        .values()
        .map(|(job, _)| Candidate { id: job.id, run: job.run, attempt: job.attempt, lapsed: job.lapsed })
        .collect();
    // One order for all: two that claim the same jobs wait for each other, never in a circle.
    candidates.sort_by_key(|candidate| (candidate.id.lane(), candidate.id));
    let claimed = match core.store.claim(&candidates).await {
        Ok(claimed) => claimed,
        Err(error) => {
            // They may be claimed or not: they are read again, and a claim nobody uses lapses.
            core.board().hint(|lane| wanted.keys().any(|job| job.lane() == lane), true);
            return Err(error);
        }
    };
    core.watch.changed(&claimed);
    core.hints.jobs(&claimed);
    let lapsed = |id: &&JobId| wanted.get(*id).is_some_and(|(job, _)| job.lapsed.is_some());
    metrics().jobs.lapsed(claimed.iter().filter(lapsed).count());
    let mut taken: Vec<(Waiting, InHand)> = claimed.iter().filter_map(|id| wanted.remove(id)).collect();
    taken.sort_by_key(|(job, _)| (job.due_at, job.id));
    let mut environments: HashSet<EnvironmentId> = HashSet::new();
    for (mut job, in_hand) in taken {
        job.attempt += 1;
        environments.insert(job.device.environment);
        let claim = Claim { id: job.id, run: job.run, attempt: job.attempt };
        let Some(permit) = permits.split(1) else { break };
        send::stage(core, Attempt { claim, job, start_by: asked + SEND_WINDOW, permit, in_hand });
    }
    for environment in environments {
        send::kick(core, environment);
    }
    Ok(())
}
