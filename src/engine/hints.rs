//! What replicas tell each other: "look at these lanes", "these jobs changed". Hints only: polling finds everything without them.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{Core, licence};
use crate::{device::Lane, job::JobId};

/// Hints that come within this long leave together.
const GATHER: Duration = Duration::from_millis(10);
/// Postgres refuses payloads of 8000 bytes and more.
const PAYLOAD_AT_MOST: usize = 7900;
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// What concerns every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    /// What is stored of the environments changed: a pause, above all.
    Facts,
    /// A licence waits.
    Hold,
}

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Self::Facts => "facts",
            Self::Hold => "hold",
        }
    }
}

#[derive(Debug)]
pub(super) enum Hint {
    Lane(Lane),
    /// Jobs of that lane, claimed by us, wait again.
    Returned(Lane),
    Job(JobId),
    Word(Word),
    /// Everything before this has been said.
    Flushed(oneshot::Sender<()>),
}

/// Where hints are left.
#[derive(Debug)]
pub(super) struct Hints(mpsc::UnboundedSender<Hint>);

pub(super) fn channel() -> (Hints, mpsc::UnboundedReceiver<Hint>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Hints(sender), receiver)
}

impl Hints {
    /// There is something new in these lanes.
    pub(super) fn lanes(&self, lanes: impl Iterator<Item = Lane>) {
        for lane in lanes {
            self.leave(Hint::Lane(lane));
        }
    }

    /// Jobs of these lanes that we had claimed wait again.
    pub(super) fn returned(&self, lanes: impl Iterator<Item = Lane>) {
        for lane in lanes {
            self.leave(Hint::Returned(lane));
        }
    }

    /// Something that concerns every replica.
    pub(super) fn say(&self, word: Word) {
        self.leave(Hint::Word(word));
    }

    /// These jobs changed.
    pub(super) fn jobs(&self, jobs: &[JobId]) {
        for job in jobs {
            self.leave(Hint::Job(*job));
        }
    }

    /// Waits until all that was left before has been said.
    pub(super) async fn flush(&self) {
        let (done, said) = oneshot::channel();
        self.leave(Hint::Flushed(done));
        // Nobody speaks any more: then nothing will be said.
        let _ = tokio::time::timeout(Duration::from_secs(1), said).await;
    }

    fn leave(&self, hint: Hint) {
        // Only fails when the engine is gone, and with it whoever would speak.
        let _ = self.0.send(hint);
    }
}

/// Says what is left, gathered, in transactions of its own.
pub(super) async fn speak(core: Arc<Core>, mut hints: mpsc::UnboundedReceiver<Hint>) {
    while let Some(first) = hints.recv().await {
        let mut said = Said::default();
        said.add(first);
        if said.flushed.is_empty() {
            tokio::time::sleep(GATHER).await;
        }
        while let Ok(hint) = hints.try_recv() {
            said.add(hint);
        }
        if !core.lanes.alone() {
            for payload in said.payloads() {
                if let Err(error) = core.store.notify(&payload).await {
                    tracing::debug!(%error, "a hint was not said");
                    break;
                }
            }
        }
        for done in said.flushed {
            let _ = done.send(());
        }
    }
}

#[derive(Default)]
struct Said {
    words: BTreeSet<Word>,
    lanes: BTreeSet<Lane>,
    returned: BTreeSet<Lane>,
    jobs: BTreeSet<JobId>,
    flushed: Vec<oneshot::Sender<()>>,
}

impl Said {
    fn add(&mut self, hint: Hint) {
        match hint {
            Hint::Lane(lane) => drop(self.lanes.insert(lane)),
            Hint::Returned(lane) => drop(self.returned.insert(lane)),
            Hint::Word(word) => drop(self.words.insert(word)),
            Hint::Job(job) => drop(self.jobs.insert(job)),
            Hint::Flushed(done) => self.flushed.push(done),
        }
    }

    fn payloads(&self) -> Vec<String> {
        let words = self.words.iter().map(|word| word.text().to_owned());
        let lanes = self.lanes.iter().map(|lane| lane.number().to_string());
        let returned = self.returned.iter().map(|lane| format!("-{}", lane.number() + 1));
        let jobs = self.jobs.iter().map(JobId::to_string);
        let mut payloads: Vec<String> = Vec::new();
        for word in words.chain(lanes).chain(returned).chain(jobs) {
            match payloads.last_mut() {
                Some(payload) if payload.len() + word.len() < PAYLOAD_AT_MOST => {
                    payload.push(' ');
                    payload.push_str(&word);
                }
                _ => payloads.push(word),
            }
        }
        payloads
    }
}

/// Hears what other replicas say, for as long as it runs. Where LISTEN is not to be had, polling does.
pub(super) async fn listen(core: Arc<Core>) {
    loop {
        match core.store.listen().await {
            Ok(mut listener) => {
                // What was said before is lost: look at everything once.
                look_at_everything(&core);
                core.hearing.store(true, Ordering::Relaxed);
                loop {
                    match listener.try_recv().await {
                        Ok(Some(notification)) => hear(&core, notification.payload()),
                        Ok(None) => look_at_everything(&core),
                        Err(error) => {
                            tracing::debug!(%error, "hints are not heard");
                            break;
                        }
                    }
                }
                core.hearing.store(false, Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "hints are not heard"),
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

fn look_at_everything(core: &Core) {
    core.board().hint(|_| true, false);
    core.look.notify_one();
    core.facts.notify_one();
    core.batches.notify_one();
}

fn hear(core: &Core, payload: &str) {
    let mut jobs = Vec::new();
    let (mut lanes, mut returned) = (Vec::new(), Vec::new());
    for word in payload.split(' ') {
        match (word.parse::<i16>(), JobId::parse(word)) {
            (Ok(number @ 0..), _) => lanes.push(Lane::from_stored(number)),
            (Ok(number), _) => returned.push(Lane::from_stored(-number - 1)),
            (_, Ok(job)) => jobs.push(job),
            _ if word == Word::Facts.text() => {
                core.facts.notify_one();
                core.batches.notify_one();
            }
            _ if word == Word::Hold.text() => licence::void_slots(core),
            _ => {}
        }
    }
    core.watch.changed(&jobs);
    let now = Instant::now();
    if lanes.iter().chain(&returned).any(|lane| core.lanes.owns(*lane, now)) {
        let mut board = core.board();
        board.hint(|lane| lanes.contains(&lane), false);
        board.hint(|lane| returned.contains(&lane), true);
        drop(board);
        core.look.notify_one();
        // An environment may be new, or a batch.
        core.facts.notify_one();
        core.batches.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hints_fit_into_few_payloads() {
        let mut said = Said::default();
        let lane = Lane::from_stored(3);
        said.add(Hint::Lane(lane));
        for _ in 0..500 {
            said.add(Hint::Job(JobId::new(lane)));
        }
        let payloads = said.payloads();
        assert_eq!(payloads.len(), 3);
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        assert_eq!(payloads.iter().flat_map(|payload| payload.split(' ')).count(), 501);
    }
}
