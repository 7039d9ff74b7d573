//! Records jobs: calls that come while one commit is in flight leave together with the next. What can be sent at once is born
//! claimed and sent as soon as it is durable.

use std::{collections::HashSet, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Core,
    schedule::HORIZON,
    send::{self, Attempt, InHand, Place},
};
use crate::{
    device::EnvironmentId,
    job::{JobId, NewJob},
    store::{Claim, Recorded, StoreError, Submission},
};

const GROUP_AT_MOST: usize = 256;
/// Calls that wait for their group, at most; more wait in the callers' own tasks.
const WAITING_AT_MOST: usize = 4096;

/// Why a job was not recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// Postgres did not take it. It may be recorded all the same where an answer was lost.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// A recorded job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub id: JobId,
    /// Whether an earlier call had recorded it.
    pub earlier: bool,
}

/// Through which jobs are recorded. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Submitter(mpsc::Sender<Call>);

/// A job, and who waits for it to be durable.
#[derive(Debug)]
pub(super) struct Call {
    job: NewJob,
    reply: oneshot::Sender<Result<Submitted, SubmitError>>,
}

pub(super) fn channel() -> (Submitter, mpsc::Receiver<Call>) {
    let (sender, receiver) = mpsc::channel(WAITING_AT_MOST);
    (Submitter(sender), receiver)
}

impl Submitter {
    /// Records a job; it is durable when this returns. Whoever stops waiting does not stop it.
    ///
    /// # Errors
    /// [`SubmitError`]: the same call with the same request id settles whether it was recorded.
    pub async fn submit(&self, job: NewJob) -> Result<Submitted, SubmitError> {
        let (reply, submitted) = oneshot::channel();
        self.0.send(Call { job, reply }).await.map_err(|_| SubmitError::Stopped)?;
        submitted.await.map_err(|_| SubmitError::Stopped)?
    }
}

/// Records what comes until the last [`Submitter`] is gone.
pub(super) async fn run(core: Arc<Core>, mut calls: mpsc::Receiver<Call>) {
    let mut known = HashSet::new();
    let mut gathered = Vec::with_capacity(GROUP_AT_MOST);
    while calls.recv_many(&mut gathered, GROUP_AT_MOST).await > 0 {
        let group = std::mem::take(&mut gathered);
        record(&core, group, &mut known).await;
    }
}

async fn record(core: &Arc<Core>, group: Vec<Call>, known: &mut HashSet<EnvironmentId>) {
    match record_group(core, &group, known).await {
        Ok(submitted) => {
            for (call, submitted) in group.into_iter().zip(submitted) {
                // A caller that went away does not cancel its job.
                let _ = call.reply.send(Ok(submitted));
            }
        }
        // One bad row fails one caller, never its group.
        Err(error) if !error.is_transient() && group.len() > 1 => {
            for call in group {
                Box::pin(record(core, vec![call], known)).await;
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for call in group {
                let _ = call.reply.send(Err(SubmitError::Store(Arc::clone(&error))));
            }
        }
    }
}

async fn record_group(
    core: &Arc<Core>,
    group: &[Call],
    known: &mut HashSet<EnvironmentId>,
) -> Result<Vec<Submitted>, StoreError> {
    let unknown: HashSet<EnvironmentId> =
        group.iter().map(|call| call.job.device.environment).filter(|id| !known.contains(id)).collect();
    if !unknown.is_empty() {
        core.store.register_environments(&unknown.iter().copied().collect::<Vec<_>>()).await?;
        known.extend(unknown);
    }
    let asked_at = Instant::now();
    let places: Vec<Option<(Place, InHand)>> =
        group.iter().map(|call| place_for(core, &call.job, asked_at)).collect();
    let submissions: Vec<Submission> = group
        .iter()
        .zip(&places)
        .map(|(call, place)| Submission { job: call.job.clone(), born_claimed: place.is_some() })
        .collect();
    let recorded = core.store.submit(&submissions).await?;

    let mut submitted = Vec::with_capacity(group.len());
    for ((call, place), recorded) in group.iter().zip(places).zip(recorded) {
        let id = match recorded {
            Recorded::Earlier(id) => {
                submitted.push(Submitted { id, earlier: true });
                continue;
            }
            Recorded::New => call.job.id,
        };
        submitted.push(Submitted { id, earlier: false });
        if let Some((place, in_hand)) = place {
            let claim = Claim { id, run: 1, attempt: 1, expires_in: call.job.time_to_live };
            let (device, trace_parent) = (call.job.device, call.job.trace_parent.clone());
            send::spawn(core, Attempt { claim, device, trace_parent, in_hand, place, asked_at });
        } else if core.schedules(call.job.device.environment) {
            core.wake.notify_one();
        } else {
            core.hints.lanes(std::iter::once(id.lane()));
        }
    }
    Ok(submitted)
}

/// A place for a job that is not recorded yet, if it can be sent at once from here.
fn place_for(core: &Arc<Core>, job: &NewJob, now: Instant) -> Option<(Place, InHand)> {
    let environment = job.device.environment;
    if !core.schedules(environment) || core.desks().get(&environment).is_some_and(|desk| desk.backlog) {
        return None;
    }
    let place = Place::take(core, environment, now + HORIZON)?;
    Some((place, InHand::new(core, job.id)?))
}
