//! A licence's rate, shared by environments wherever they are scheduled: time slots are taken from one clock before they are used,
//! as many as are needed, a moment ahead.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Core, bucket::Learned, gate::Started, hints::Word, send};
use crate::{device::EnvironmentId, store::StoreError};

/// Slots are taken no further ahead.
const AHEAD: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Slots are further apart than allowed, so that what timers and the network delay unevenly does not look like a burst.
const SLOWER: f64 = 1.024;
/// The database's clock and ours drift apart by less than this share.
const DRIFT: u32 = 1000;

/// The licences whose rate is shared.
#[derive(Debug, Default)]
pub(super) struct Licences {
    learned: Mutex<HashMap<Arc<str>, Learned>>,
    clock: Mutex<Clock>,
}

/// The database's clock as it is told by its answers. Each comes late, by a little or, where the machine is busy, by a lot: the one
/// that came with the least delay tells the time, or slots given out one after the other would be unevenly apart.
#[derive(Debug, Default)]
struct Clock(Option<(Instant, OffsetDateTime)>);

impl Clock {
    /// When it was `told_at`, as an answer that came at `now` says.
    fn instant(&mut self, told_at: OffsetDateTime, now: Instant) -> Instant {
        let by_best = self.0.and_then(|(at, told)| {
            let passed = Duration::try_from(told_at - told).ok()?;
            Some(at + passed + passed / DRIFT)
        });
        match by_best {
            Some(instant) if instant <= now => instant,
            _ => {
                self.0 = Some((now, told_at));
                now
            }
        }
    }
}

impl Licences {
    fn learned(&self) -> MutexGuard<'_, HashMap<Arc<str>, Learned>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// PingOne asked the licence `name` to wait, because of a request that began at `started`.
    pub(super) fn hold(&self, core: &Arc<Core>, name: &Arc<str>, wait: Duration, started: Started) {
        let now = Instant::now();
        let rate = self.learned().get_mut(name).map(|learned| {
            let before = learned.rate(now);
            learned.limited(started.at(), before, now + wait).unwrap_or(before)
        });
        let Some(rate) = rate.filter(|rate| rate.is_finite()) else { return };
        hold_desks(core, name, now + wait);
        let (core, name) = (Arc::clone(core), Arc::clone(name));
        tokio::spawn(async move {
            if let Err(error) = core.store.hold_limit_group(&name, wait, rate, now - started.at()).await {
                tracing::warn!(%error, limit_group = %name, "a hold of the licence was not stored");
            }
            // Not before: who hears of it takes new slots at once, unless the clock says that there are none.
            core.hints.say(Word::Hold);
        });
    }
}

/// The slots in hand are void: another replica met the licence's limit.
pub(super) fn void_slots(core: &Core) {
    let now = Instant::now();
    for (_, desk) in core.board().iter_mut().filter(|(_, desk)| desk.group.is_some()) {
        desk.gate.hold_group(now);
    }
}

fn hold_desks(core: &Core, name: &Arc<str>, until: Instant) {
    let mut board = core.board();
    for (_, desk) in board.iter_mut().filter(|(_, desk)| desk.group.as_ref() == Some(name)) {
        desk.gate.hold_group(until);
    }
}

/// Takes slots as they are needed, for as long as it runs.
pub(super) async fn run(core: Arc<Core>) {
    let groups = core.routes.limit_groups.clone();
    if groups.is_empty() {
        return;
    }
    core.licences.learned().extend(groups.iter().map(|(name, rate)| (Arc::clone(name), Learned::new(*rate))));
    let names: Vec<String> = groups.keys().map(|name| name.to_string()).collect();
    while let Err(error) = core.store.register_limit_groups(&names).await {
        tracing::warn!(%error, "the licences could not be registered");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    loop {
        for name in groups.keys() {
            if let Err(error) = take_once(&core, name).await {
                tracing::warn!(%error, limit_group = %name, "no slots could be taken");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        // Unevenly: of two that look in step, the first would take nearly all.
        tokio::time::sleep(LOOK_EVERY.mul_f64(0.5 + fastrand::f64())).await;
    }
}

async fn take_once(core: &Arc<Core>, name: &Arc<str>) -> Result<(), StoreError> {
    let now = Instant::now();
    let mut wants: Vec<(EnvironmentId, usize)> = core
        .board()
        .iter_mut()
        .filter(|(_, desk)| desk.group.as_ref() == Some(name))
        .map(|(environment, desk)| (environment, desk.slots_wanted(now)))
        .filter(|(_, wanted)| *wanted > 0)
        .collect();
    let wanted: usize = wants.iter().map(|(_, wanted)| wanted).sum();
    if wanted == 0 {
        return Ok(());
    }
    let rate = core.licences.learned().get(name).map_or(1.0, |learned| learned.rate(now));
    let interval = Duration::from_secs_f64(SLOWER / rate);
    let slots =
        core.store.take_slots(name, u32::try_from(wanted).unwrap_or(u32::MAX), interval, AHEAD).await?;
    // Never earlier than the clock of the licence has it.
    let first = core.licences.clock().instant(slots.taken_at, Instant::now()) + slots.first_in;
    if let Some((rate, ago)) = slots.learned_rate
        && let Some(learned) = core.licences.learned().get_mut(name)
    {
        learned.adopt(rate, now.checked_sub(ago).unwrap_or(now));
    }
    if !slots.hold.is_zero() {
        hold_desks(core, name, now + slots.hold);
        return Ok(());
    }
    let mut board = core.board();
    let mut turn = 0;
    for number in 0..slots.count {
        // In turn, those who want none any more passed over.
        let Some(step) = (0..wants.len()).find(|step| wants[(turn + step) % wants.len()].1 > 0) else {
            break;
        };
        turn += step;
        let at = turn % wants.len();
        wants[at].1 -= 1;
        turn += 1;
        if let Some(desk) = board.get_mut(wants[at].0) {
            desk.gate.add_slot(first + interval * number);
        }
    }
    drop(board);
    for (environment, _) in wants {
        send::kick(core, environment);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promptest_answer_tells_the_time() {
        let ms = Duration::from_millis;
        let (start, told) = (Instant::now(), OffsetDateTime::UNIX_EPOCH);
        let mut clock = Clock::default();
        // Answers that come 9, 2, 30 and 1 ms late, and one after a while in which the clocks drifted apart by 0.4 ms.
        let mut tell = |at, late| clock.instant(told + ms(at), start + ms(at + late)) - start - ms(at);
        assert_eq!(tell(0, 9), ms(9));
        assert_eq!(tell(20, 2), ms(2));
        assert!(tell(40, 30) < ms(3));
        assert_eq!(tell(60, 1), ms(1));
        assert_eq!(tell(2000, 2), ms(2));
    }
}
