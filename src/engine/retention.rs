//! Has jobs forgotten that ended long ago, and old entries of the audit trail: each worker in the lanes it owns, one lane after
//! another, a few at a time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::Core;
use crate::{device::Lane, store::StoreError, telemetry::metrics};

const AT_ONCE: u32 = 500;
/// Of the audit trail: each covers up to 1,000 entries.
const SEALS: i32 = 10;
/// Between two steps, so that deleting never is what Postgres is busy with.
const STEP_APART: Duration = Duration::from_millis(200);
/// After a round that found something: what has become due meanwhile goes soon.
const ROUND_APART: Duration = Duration::from_secs(60);
/// After a round that found nothing.
const IDLE: Duration = Duration::from_secs(3600);
/// A replica that owns no lane asks itself again whether it does.
const NO_LANES: Duration = Duration::from_secs(1);

/// How far each lane has been walked: what is deleted is stepped over once, not with every step.
type Walked = HashMap<Lane, Uuid>;

/// Forgets jobs older than `keep`, and entries of the audit trail older than `keep_audit`, until whoever holds this ends it.
pub(super) async fn run(core: Arc<Core>, keep: Duration, keep_audit: Duration) {
    let mut walked = Walked::new();
    loop {
        let lanes = core.lanes.owned(Instant::now());
        if lanes.is_empty() {
            tokio::time::sleep(NO_LANES).await;
            continue;
        }
        let wait = match run_once(&core, &lanes, keep, &mut walked).await {
            Ok(0) => IDLE,
            Ok(forgotten) => {
                metrics().jobs.purged(forgotten);
                tracing::info!(jobs = forgotten, "forgot jobs that ended long ago");
                ROUND_APART
            }
            Err(error) => {
                tracing::warn!(%error, "old jobs were not forgotten");
                ROUND_APART
            }
        };
        if let Err(error) = forget_audit(&core, &lanes, keep_audit).await {
            tracing::warn!(%error, "old entries of the audit trail were not forgotten");
        }
        tokio::time::sleep(wait).await;
    }
}

async fn forget_audit(core: &Core, lanes: &[Lane], keep: Duration) -> Result<(), StoreError> {
    let mut forgotten = 0;
    for lane in lanes {
        while core.lanes.owns(*lane, Instant::now()) {
            let gone = core.store.forget_audit(*lane, keep, SEALS).await?;
            if gone == 0 {
                break;
            }
            forgotten += gone;
            tokio::time::sleep(STEP_APART).await;
        }
    }
    if forgotten > 0 {
        tracing::info!(entries = forgotten, "forgot old entries of the audit trail");
    }
    Ok(())
}

/// One round through `lanes`. Says how many jobs went.
async fn run_once(
    core: &Core,
    lanes: &[Lane],
    keep: Duration,
    walked: &mut Walked,
) -> Result<u64, StoreError> {
    let floor = core.store.find_retention_floor(keep).await?;
    let mut forgotten = 0;
    for lane in lanes {
        // Before their jobs, which stay as long as their batch does.
        while core.lanes.owns(*lane, Instant::now()) && core.store.forget_batches(*lane, keep).await? > 0 {
            tokio::time::sleep(STEP_APART).await;
        }
        while core.lanes.owns(*lane, Instant::now()) {
            let after = walked.get(lane).copied().unwrap_or(Uuid::nil());
            let jobs = core.store.find_old_jobs(*lane, after, floor, AT_ONCE).await?;
            let Some(last) = jobs.last() else { break };
            forgotten += core.store.forget_jobs(&jobs, keep).await?;
            walked.insert(*lane, last);
            tokio::time::sleep(STEP_APART).await;
        }
        let mut after = (Uuid::nil(), Uuid::nil());
        while core.lanes.owns(*lane, Instant::now()) {
            let Some(last) = core.store.forget_device_uses(*lane, after, AT_ONCE).await? else { break };
            after = last;
            tokio::time::sleep(STEP_APART).await;
        }
        core.store.forget_caller_uses(*lane).await?;
        // What stayed is looked at again in the next round.
        walked.remove(lane);
    }
    Ok(forgotten)
}
