//! Saves the results of attempts, many in one commit. Nothing is forgotten while Postgres is away: permits are held meanwhile, so
//! claiming stops before saving does.

use std::{collections::HashMap, sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::{sync::mpsc, time::Instant};

use super::{Core, gather::Groups, lookup, send::Attempt};
use crate::{
    job::{self, Confirmed, JobId, Priority, Reason, State},
    store::{Ending, Failed, ReadFirst, StoreError, Succeeded, Unsent},
    telemetry::metrics,
};

/// A finished attempt, the read that came before it, and what it holds until that is saved.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) result: Outcome,
    pub(super) first: Option<ReadFirst>,
    pub(super) attempt: Attempt,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Succeeded(Succeeded),
    Failed(Failed),
    Unsent(Unsent),
}

const GROUP_AT_MOST: usize = 512;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// Saves what comes, for as long as it runs.
pub(super) async fn run(core: Arc<Core>, results: mpsc::UnboundedReceiver<Finished>) {
    let mut rng = fastrand::Rng::new();
    let mut groups = Groups::new(results, GROUP_AT_MOST);
    while let Some(group) = groups.next().await {
        save(&core, Group::of(group.into_iter()), &mut rng).await;
    }
}

/// Saves a group however long Postgres is away.
async fn save(core: &Arc<Core>, group: Group, rng: &mut fastrand::Rng) {
    let mut wait = RETRY_FIRST;
    loop {
        match group.save(core, rng).await {
            Ok(saved) => return group.tell(core, saved),
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

/// Results of one kind each, with the attempts they are of.
#[derive(Default)]
struct Group {
    succeeded: (Vec<Succeeded>, Vec<Attempt>),
    failed: (Vec<Failed>, Vec<Attempt>),
    unsent: (Vec<Unsent>, Vec<Attempt>),
    reads: Vec<ReadFirst>,
}

/// What the store made of a group.
struct Saved {
    /// When each success ended its job; nothing: it had been superseded.
    ended: Vec<Option<OffsetDateTime>>,
    endings: Vec<Ending>,
    /// Ended with the others.
    answered: Vec<JobId>,
}

impl Group {
    fn of(finished: impl Iterator<Item = Finished>) -> Self {
        let mut group = Self::default();
        for Finished { result, first, attempt } in finished {
            group.reads.extend(first);
            match result {
                Outcome::Succeeded(succeeded) => group.succeeded.push(succeeded, attempt),
                Outcome::Failed(failed) => group.failed.push(failed, attempt),
                Outcome::Unsent(unsent) => group.unsent.push(unsent, attempt),
            }
        }
        // Rows are locked in one order by all: two groups wait for each other, never in a circle.
        group.succeeded.sort();
        group.failed.sort();
        group.unsent.sort();
        group
    }

    fn len(&self) -> usize {
        self.attempts().count()
    }

    fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.succeeded.1.iter().chain(&self.failed.1).chain(&self.unsent.1)
    }

    fn jobs(&self) -> Vec<JobId> {
        self.attempts().map(|attempt| attempt.claim.id).collect()
    }

    /// The results one by one.
    fn split(self) -> Vec<Self> {
        let mut reads = self.reads;
        let mut one = |attempt: &Attempt| {
            let at = reads.iter().position(|read| read.claim.id == attempt.claim.id);
            Self { reads: at.map(|at| reads.swap_remove(at)).into_iter().collect(), ..Self::default() }
        };
        let mut groups = Vec::new();
        for (entry, attempt) in self.succeeded.0.into_iter().zip(self.succeeded.1) {
            groups.push(Self { succeeded: (vec![entry], Vec::new()), ..one(&attempt) }.with(attempt));
        }
        for (entry, attempt) in self.failed.0.into_iter().zip(self.failed.1) {
            groups.push(Self { failed: (vec![entry], Vec::new()), ..one(&attempt) }.with(attempt));
        }
        for (entry, attempt) in self.unsent.0.into_iter().zip(self.unsent.1) {
            groups.push(Self { unsent: (vec![entry], Vec::new()), ..one(&attempt) }.with(attempt));
        }
        groups
    }

    fn with(mut self, attempt: Attempt) -> Self {
        let attempts = match (self.succeeded.0.len(), self.failed.0.len()) {
            (1, _) => &mut self.succeeded.1,
            (_, 1) => &mut self.failed.1,
            _ => &mut self.unsent.1,
        };
        attempts.push(attempt);
        self
    }

    /// Each part may be repeated: it is fenced, and finds its own traces.
    async fn save(&self, core: &Core, rng: &mut fastrand::Rng) -> Result<Saved, StoreError> {
        metrics().postgres.carried("complete", self.len());
        let mut saved = Saved { ended: Vec::new(), endings: Vec::new(), answered: Vec::new() };
        if !self.reads.is_empty() {
            core.store.record_reads(&self.reads).await?;
        }
        // Before the others: a bulk job that made way is answered by the job it made way for.
        if !self.unsent.0.is_empty() {
            core.store.release(&self.unsent.0).await?;
            // Cancelled meanwhile, perhaps.
            let given_back: Vec<JobId> = self.unsent.0.iter().map(|entry| entry.claim.id).collect();
            saved.answered = core.store.end_if_overdue(&given_back).await?;
        }
        let (succeeded, attempts) = &self.succeeded;
        if !succeeded.is_empty() {
            let ended = save_succeeded(core, succeeded, attempts).await?;
            saved.ended = succeeded.iter().map(|entry| ended.get(&entry.claim.id).copied()).collect();
            let others = answering_others(core, succeeded, attempts, &self.unsent.1);
            if !others.is_empty() {
                saved.answered.extend(core.store.answer_others(&others).await?);
            }
        }
        if !self.failed.0.is_empty() {
            saved.endings = core.store.complete_failed(&self.failed.0, &core.policy, rng).await?;
        }
        Ok(saved)
    }

    /// After the commit: local waiters at once, other replicas soon; and what is tried again waits in its place.
    fn tell(self, core: &Arc<Core>, saved: Saved) {
        let mut changed = self.jobs();
        let (succeeded, attempts) = self.succeeded;
        for ((entry, attempt), ended) in succeeded.into_iter().zip(attempts).zip(saved.ended) {
            let (run, number) = (entry.claim.run, entry.claim.attempt);
            if ended.is_some() {
                count(&attempt, State::Succeeded, None);
            }
            match ended {
                Some(completed_at) if (run, number) == (1, 1) => {
                    core.watch.confirmed(entry.claim.id, || confirmed(entry, completed_at));
                }
                _ => core.watch.changed(&[entry.claim.id]),
            }
            settle(core, attempt, Next::Over);
        }
        let (failed, attempts) = self.failed;
        for ((entry, attempt), ending) in failed.iter().zip(attempts).zip(saved.endings) {
            let next = match ending {
                Ending::Final(
                    state @ (State::Failed | State::Cancelled | State::Expired | State::Succeeded),
                ) => {
                    count(&attempt, state, Some(entry.failure.reason));
                    Next::Over
                }
                Ending::Again { wait, due_at } => Next::Again { wait, due_at, sent: true },
                Ending::Final(State::Pending | State::Running) | Ending::Late => Next::Unknown,
            };
            settle(core, attempt, next);
            core.watch.changed(&[entry.claim.id]);
        }
        let (unsent, attempts) = self.unsent;
        let returned: Vec<_> = unsent.iter().map(|entry| entry.claim.id.lane()).collect();
        for (entry, attempt) in unsent.iter().zip(attempts) {
            settle(core, attempt, Next::Again { wait: Duration::ZERO, due_at: None, sent: false });
            core.watch.changed(&[entry.claim.id]);
        }
        core.watch.changed(&saved.answered);
        changed.extend(saved.answered);
        if !core.lanes.alone() {
            core.hints.jobs(&changed);
        }
        // Whoever schedules them now would wait for the end of our claim.
        let lost = returned.into_iter().filter(|lane| !core.lanes.owns(*lane, Instant::now()));
        core.hints.returned(lost);
        core.wake.notify_one();
    }
}

/// A job ended with this attempt.
fn count(attempt: &Attempt, state: State, reason: Option<Reason>) {
    let priority = Priority::of_flow(attempt.job.flow);
    metrics().jobs.finished(priority, state, reason, 1);
    metrics().jobs.lasted(priority, state, attempt.job.requested.elapsed());
}

/// When each ended. Lookups of batches become a job for each device found.
async fn save_succeeded(
    core: &Core,
    succeeded: &[Succeeded],
    attempts: &[Attempt],
) -> Result<HashMap<JobId, OffsetDateTime>, StoreError> {
    let mut ended = HashMap::new();
    let mut others = Vec::with_capacity(succeeded.len());
    for (entry, attempt) in succeeded.iter().zip(attempts) {
        if !lookup::is_of_batch(&attempt.job) {
            others.push(entry);
            continue;
        }
        let found = lookup::found(&attempt.job, &entry.snapshot);
        if let Some(at) = core.store.expand(entry, attempt.job.flow, &found).await? {
            ended.insert(entry.claim.id, at);
            core.tell_of(attempt.job.device.environment);
        }
    }
    if others.len() == succeeded.len() {
        return core.store.complete_succeeded(succeeded).await;
    }
    let others: Vec<Succeeded> = others.into_iter().cloned().collect();
    if !others.is_empty() {
        ended.extend(core.store.complete_succeeded(&others).await?);
    }
    Ok(ended)
}

trait Paired {
    fn sort(&mut self);
}

impl<T> Paired for (Vec<T>, Vec<Attempt>) {
    fn sort(&mut self) {
        if self.1.is_sorted_by_key(|attempt| (attempt.claim.id.lane(), attempt.claim.id)) {
            return;
        }
        let mut pairs: Vec<(T, Attempt)> = self.0.drain(..).zip(self.1.drain(..)).collect();
        pairs.sort_by_key(|(_, attempt)| (attempt.claim.id.lane(), attempt.claim.id));
        (self.0, self.1) = pairs.into_iter().unzip();
    }
}

trait Push<T> {
    fn push(&mut self, entry: T, attempt: Attempt);
}

impl<T> Push<T> for (Vec<T>, Vec<Attempt>) {
    fn push(&mut self, entry: T, attempt: Attempt) {
        self.0.push(entry);
        self.1.push(attempt);
    }
}

/// The interactive successes in whose environments bulk jobs wait: some of them for the same device, perhaps.
fn answering_others(
    core: &Core,
    succeeded: &[Succeeded],
    attempts: &[Attempt],
    given_back: &[Attempt],
) -> Vec<Succeeded> {
    let mut board = core.board();
    let mut bulk_waits = |attempt: &Attempt| {
        let device = attempt.job.device;
        Priority::of_flow(attempt.job.flow) == Priority::Interactive
            && !device.is_every()
            && (given_back.iter().any(|other| other.job.device == device)
                || board.get_mut(device.environment).is_some_and(|desk| desk.knows_bulk()))
    };
    succeeded
        .iter()
        .zip(attempts)
        .filter(|(_, attempt)| bulk_waits(attempt))
        .map(|(entry, _)| entry.clone())
        .collect()
}

/// As it would be read: the store keeps microseconds.
fn confirmed(entry: Succeeded, completed_at: OffsetDateTime) -> Confirmed {
    let stored = |at: OffsetDateTime| at.replace_nanosecond(at.microsecond() * 1000).unwrap_or(at);
    let micros = u64::try_from(entry.duration.as_micros()).unwrap_or(u64::MAX);
    let attempt = job::Attempt {
        run: entry.claim.run,
        number: entry.claim.attempt,
        read: entry.read,
        started_at: stored(entry.started_at),
        duration: Duration::from_micros(micros),
        http_status: Some(entry.http_status),
        correlation_id: entry.correlation_id,
        error: None,
    };
    let at = stored(entry.snapshot.at());
    Confirmed { completed_at, attempt, snapshot: entry.snapshot.seen_at(at) }
}

/// What becomes of a job after an attempt.
enum Next {
    /// It has ended.
    Over,
    /// It waits: after so long, at a new place or its old one.
    Again { wait: Duration, due_at: Option<OffsetDateTime>, sent: bool },
    /// Somebody else knows.
    Unknown,
}

/// Lets go of a job, and puts it back in its place where it waits.
fn settle(core: &Core, attempt: Attempt, next: Next) {
    let Attempt { claim, mut job, permit, in_hand, .. } = attempt;
    // First, or it would still be taken for one in hand.
    drop((permit, in_hand));
    let mut board = core.board();
    let Some(desk) = board.get_mut(job.device.environment) else { return };
    let flow = desk.open_flow(job.flow);
    match next {
        Next::Over => flow.count -= 1,
        Next::Again { wait, due_at, sent } => {
            job.attempt = claim.attempt;
            job.lapsed = None;
            job.repeated |= sent;
            job.due_at = due_at.unwrap_or(job.due_at);
            if wait.is_zero() {
                flow.insert(job);
            } else {
                flow.park(job, Instant::now() + wait);
            }
        }
        Next::Unknown => {}
    }
}
