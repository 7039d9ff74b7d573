//! Keeps the batches of our lanes: counts what ended, judges what becomes of them, opens and shuts their flows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Core, send};
use crate::{
    batch::{Batch, BatchNumber, Pause, State, judge},
    job::{JobId, Priority},
    store::{BatchKey, Published, StoreError},
    telemetry::metrics,
};

/// A pause is honoured within a second of its commit, also where nobody hears of it.
const EVERY: Duration = Duration::from_millis(400);
/// Two looks are never closer: every group of results asks for one.
const APART: Duration = Duration::from_millis(50);
/// How fast a batch goes is said this often.
const PUBLISHED_EVERY: Duration = Duration::from_secs(1);
/// What was finished this long ago counts half for the rate now.
const RATE_HALVES_IN: f64 = 3.0;

/// How fast each batch goes.
#[derive(Debug, Default)]
pub(super) struct Rates {
    of: HashMap<BatchKey, Rate>,
    since: Option<Instant>,
}

/// What was finished lately, the latest with the most weight.
#[derive(Debug, Default)]
struct Rate {
    finished: u64,
    weighed: f64,
    weight: f64,
}

impl Rate {
    /// So much time passed, after which what was known is worth `keeps` of it.
    fn turn(&mut self, passed: f64, keeps: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of seconds")]
        let latest = std::mem::take(&mut self.finished) as f64 / passed;
        self.weighed = self.weighed * keeps + latest * (1.0 - keeps);
        // Less than one at first: or a batch would seem slow for as long as it is new.
        self.weight = self.weight * keeps + (1.0 - keeps);
        self.weighed / self.weight
    }
}

impl Rates {
    fn count(&mut self, finished: HashMap<BatchKey, u64>) {
        for (key, count) in finished {
            self.of.entry(key).or_default().finished += count;
        }
    }

    /// Once a second: jobs finished per second, lately.
    fn turn(&mut self, now: Instant) -> Option<HashMap<BatchKey, f64>> {
        let since = *self.since.get_or_insert(now);
        let passed = (now - since).as_secs_f64();
        if passed < PUBLISHED_EVERY.as_secs_f64() {
            return None;
        }
        self.since = Some(now);
        let keeps = 0.5_f64.powf(passed / RATE_HALVES_IN);
        let rates: HashMap<BatchKey, f64> =
            self.of.iter_mut().map(|(key, rate)| (*key, rate.turn(passed, keeps))).collect();
        self.of.retain(|key, _| rates[key] > 0.01);
        Some(rates)
    }
}

/// Keeps them, for as long as it runs.
pub(super) async fn run(core: Arc<Core>) {
    let mut rates = Rates::default();
    loop {
        if let Err(error) = keep(&core, Some(&mut rates)).await {
            tracing::warn!(%error, "batches could not be looked at");
        }
        tokio::time::sleep(APART).await;
        tokio::select! {
            () = tokio::time::sleep(EVERY - APART) => {}
            () = core.batches.notified() => {}
        }
    }
}

/// Looks at all batches of our lanes once; with `rates`, counts what ended and says how fast they go.
pub(super) async fn keep(core: &Arc<Core>, rates: Option<&mut Rates>) -> Result<(), StoreError> {
    let lanes = core.lanes.owned(Instant::now());
    if lanes.is_empty() {
        return Ok(());
    }
    let mut now_rates = None;
    if let Some(rates) = rates {
        rates.count(core.store.fold_batches(&lanes).await?);
        now_rates = rates.turn(Instant::now());
    }
    let mut batches = core.store.find_open_batches(&lanes).await?;
    for batch in &mut batches {
        let canary = batch.state == State::Running && batch.header.canary_count > 0 && !batch.canary_passed;
        let waits = canary && core.store.flow_waits(batch, batch.number.canary_flow()).await?;
        let Some(judgement) = judge(batch, waits) else { continue };
        if core.store.record_judgement(batch, &judgement).await? {
            let id = &batch.header.id;
            judgement.pause.into_iter().for_each(|pause| metrics().jobs.batch_paused(cause(pause)));
            tracing::info!(batch.id = %id, state = ?judgement.state, why = judgement.reason, "a batch changed");
            batch.state = judgement.state;
        }
    }
    let open = OPEN.map(|(state, name)| (name, batches.iter().filter(|batch| batch.state == state).count()));
    metrics().replica.looks_after(open);
    apply(core, &batches);
    for batch in batches.iter().filter(|batch| batch.state == State::Cancelling) {
        cancel(core, batch).await?;
    }
    match now_rates {
        Some(rates) => publish(core, &batches, &rates).await,
        None => Ok(()),
    }
}

/// The states of a batch that is looked after, by name.
const OPEN: [(State, &str); 4] = [
    (State::Uploading, "uploading"),
    (State::Running, "running"),
    (State::Paused, "paused"),
    (State::Cancelling, "cancelling"),
];

const fn cause(pause: Pause) -> &'static str {
    match pause {
        Pause::Canary => "canary",
        Pause::Failures => "failures",
    }
}

/// Has the windows give away what may be sent, and nothing else.
fn apply(core: &Arc<Core>, batches: &[Batch]) {
    let mut shut = Vec::new();
    let mut opened = false;
    let mut board = core.board();
    for (environment, desk) in board.iter_mut() {
        let of: Vec<&Batch> =
            batches.iter().filter(|batch| batch.header.environment == environment).collect();
        desk.flows.retain(|flow, _| {
            *flow <= Priority::Bulk.flow()
                || BatchNumber::of_flow(*flow)
                    .is_some_and(|number| of.iter().any(|batch| batch.number == number))
        });
        for batch in of {
            let (canary, rest) = batch.sends();
            for (flow, open) in [(batch.number.canary_flow(), canary), (batch.number.flow(), rest)] {
                if !open && !desk.flows.contains_key(&flow) {
                    continue;
                }
                let was_shut = desk.open_flow(flow).set_open(open);
                opened |= open && was_shut;
                if !open && desk.staged() > 0 {
                    shut.append(&mut desk.take_back(|attempt| attempt.job.flow == flow));
                }
            }
        }
    }
    drop(board);
    send::return_unsent(core, shut);
    if opened {
        core.look.notify_one();
    }
}

/// Ends what waits of a batch that is being cancelled.
pub(super) async fn cancel(core: &Core, batch: &Batch) -> Result<(), StoreError> {
    let environment = batch.header.environment;
    let key = BatchKey { lane: environment.lane(), number: batch.number };
    for flow in [batch.number.canary_flow(), batch.number.flow()] {
        let mut after = (time::OffsetDateTime::UNIX_EPOCH, JobId::first());
        loop {
            let (ended, next) = core.store.cancel_step(key, environment, flow, after).await?;
            core.watch.changed(&ended);
            let Some(next) = next else { break };
            after = next;
        }
    }
    core.batches.notify_one();
    Ok(())
}

async fn publish(core: &Core, batches: &[Batch], rates: &HashMap<BatchKey, f64>) -> Result<(), StoreError> {
    let mut published = Vec::new();
    for batch in batches {
        let environment = batch.header.environment;
        let key = BatchKey { lane: environment.lane(), number: batch.number };
        let running = core.board().get_mut(environment).map_or(0, |desk| {
            desk.running_of(batch.number.canary_flow()) + desk.running_of(batch.number.flow())
        });
        let current_rate = rates.get(&key).copied().unwrap_or_default();
        if running > 0 || current_rate > 0.0 {
            published.push(Published { key, current_rate, running });
        }
    }
    if published.is_empty() { Ok(()) } else { core.store.publish_batches(&published).await }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Lane;

    #[test]
    fn a_rate_is_near_the_truth_soon_and_forgotten_in_the_end() {
        let key = BatchKey { lane: Lane::from_stored(0), number: BatchNumber::from_stored(2) };
        let (mut rates, mut now) = (Rates::default(), Instant::now());
        assert_eq!(rates.turn(now), None);
        let mut rate_after = |rates: &mut Rates, finished| {
            rates.count(HashMap::from([(key, finished)]));
            now += PUBLISHED_EVERY;
            rates.turn(now).and_then(|rates| rates.get(&key).copied()).unwrap_or_default()
        };
        // The first second had begun without it.
        let rising = [8, 20, 20, 20, 20].map(|finished| rate_after(&mut rates, finished));
        assert!(rising.is_sorted() && rising[1] > 14.0 && rising[4] > 18.0, "{rising:?}");
        let stands = (0..60).map(|_| rate_after(&mut rates, 0)).last();
        assert!(stands.is_some_and(|rate| rate < 0.01) && rates.of.is_empty(), "{stands:?}");
    }
}
