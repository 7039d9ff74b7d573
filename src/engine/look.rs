//! Finds what is due in our lanes: hinted or not, each flow is read on from where it was read to; now and then all is swept. And what
//! is stored of the environments.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Core, flow::Flow};
use crate::{
    device::EnvironmentId,
    job::Priority,
    store::{StoreError, Stretch, Swept},
};

/// Every flow is looked at this often without a hint.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Where hints are not heard: so soon after something was found, and twice as late after each look in vain.
const POLL_SOONEST: Duration = Duration::from_millis(50);
/// Two looks are never closer: hints come in swarms.
const LOOK_APART: Duration = Duration::from_millis(1);
/// Flows read by one statement.
const FLOWS_AT_ONCE: usize = 256;
/// Jobs read by one statement for one flow: more would hold up the others.
const JOBS_AT_ONCE: usize = 1000;
/// A pause is honoured within a second of its commit, also where nobody hears of it.
const FACTS_EVERY: Duration = Duration::from_millis(400);
const SWEEP_SOONEST: Duration = Duration::from_secs(1);
const SWEEP_LATEST: Duration = Duration::from_secs(60);
/// A sweep takes a hundredth of the time at most.
const SWEEP_SHARE: u32 = 100;
const OVERDUE_AT_ONCE: u32 = 1000;

/// Fills the windows of all flows, for as long as it runs.
pub(super) async fn read(core: Arc<Core>) {
    let mut poll = POLL_SOONEST;
    let mut polled = Instant::now();
    loop {
        if polled.elapsed() >= poll {
            polled = Instant::now();
            core.board().hint(|_| true, false);
            poll = if core.hears() { POLL_EVERY } else { (poll * 2).min(POLL_EVERY) };
        }
        match read_once(&core).await {
            Ok(0) => {}
            Ok(_) => {
                core.wake.notify_one();
                if !core.hears() {
                    poll = POLL_SOONEST;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "what is due could not be read");
                tokio::time::sleep(POLL_EVERY / 2).await;
            }
        }
        tokio::time::sleep(LOOK_APART).await;
        let next =
            core.board().iter_mut().flat_map(|(_, desk)| desk.flows.values().filter_map(Flow::tail_at)).min();
        let polls_at = polled + poll;
        tokio::select! {
            () = tokio::time::sleep_until(next.map_or(polls_at, |at| at.min(polls_at))) => {}
            () = core.look.notified() => {}
        }
    }
}

/// Reads on where windows are not full; says how many jobs it found.
async fn read_once(core: &Core) -> Result<usize, StoreError> {
    let asked = Instant::now();
    // What is in hand is read along and passed over: it must not fill the page, or there would seem to be more.
    let in_hand = core.busy().len();
    let mut stretches = Vec::new();
    for (environment, desk) in core.board().iter_mut().filter(|(environment, _)| core.schedules(*environment))
    {
        let window = desk.window(asked);
        for (number, flow) in &mut desk.flows {
            if let Some(after) = flow.reads_on(window, asked) {
                let at_most = u32::try_from(window.min(JOBS_AT_ONCE) + in_hand).unwrap_or(u32::MAX);
                stretches.push(Stretch { environment, flow: *number, after, at_most });
            }
        }
    }
    let mut found = 0;
    let mut more = false;
    for some in stretches.chunks(FLOWS_AT_ONCE) {
        let heads = core.store.find_heads(some).await?;
        found += heads.len();
        let mut by_flow: HashMap<(EnvironmentId, i64), Vec<_>> = HashMap::new();
        for head in heads {
            by_flow.entry((head.device.environment, head.flow)).or_default().push(head);
        }
        let busy = core.busy();
        let mut board = core.board();
        for stretch in some {
            let heads = by_flow.remove(&(stretch.environment, stretch.flow)).unwrap_or_default();
            let Some(desk) = board.get_mut(stretch.environment) else { continue };
            let window = desk.window(asked);
            let flow = desk.open_flow(stretch.flow);
            flow.take_in(heads, stretch.at_most as usize, asked, |id| busy.contains(&id));
            more |= flow.reads_on(window, asked).is_some();
        }
    }
    if more {
        core.look.notify_one();
    }
    Ok(found)
}

/// Keeps pauses, holds and the rest that is stored of our environments, and sets up desks for new ones, for as long as it runs.
pub(super) async fn watch_facts(core: Arc<Core>) {
    loop {
        if let Err(error) = adopt(&core).await {
            tracing::warn!(%error, "what is stored of the environments could not be read");
        }
        tokio::select! {
            () = tokio::time::sleep(FACTS_EVERY) => {}
            () = core.facts.notified() => {}
        }
    }
}

/// Takes over what is stored of the environments of our lanes.
pub(super) async fn adopt(core: &Arc<Core>) -> Result<(), StoreError> {
    let lanes = core.lanes.owned(Instant::now());
    if lanes.is_empty() {
        return Ok(());
    }
    let stored = core.store.find_environments(&lanes).await?;
    let now = Instant::now();
    let mut news = false;
    let mut shut = Vec::new();
    {
        let mut board = core.board();
        for facts in &stored {
            // Given away while we read: its new owner reads it.
            let Some(route) = core.routes.find(facts.id).filter(|_| core.lanes.owns(facts.id.lane(), now))
            else {
                continue;
            };
            let desk = board.desk(facts.id, route, now);
            let first = !std::mem::replace(&mut desk.adopted, true);
            let was_shut = desk.gate.is_shut(now);
            desk.gate.adopt(now, facts, first);
            news |= first || was_shut != desk.gate.is_shut(now);
            if desk.gate.is_shut(now) && desk.staged() > 0 {
                shut.append(&mut desk.give_up());
            }
        }
    }
    super::send::return_unsent(core, shut);
    if news {
        core.look.notify_one();
        core.wake.notify_one();
    }
    Ok(())
}

/// Counts what waits, ends what is overdue and finds what was overlooked, for as long as it runs.
pub(super) async fn sweep(core: Arc<Core>) {
    loop {
        let began = Instant::now();
        if let Err(error) = sweep_once(&core).await {
            tracing::warn!(%error, "the queue could not be swept");
        }
        let pause = (began.elapsed() * SWEEP_SHARE).clamp(SWEEP_SOONEST, SWEEP_LATEST);
        tokio::time::sleep(pause).await;
    }
}

async fn sweep_once(core: &Arc<Core>) -> Result<(), StoreError> {
    let lanes = core.lanes.owned(Instant::now());
    if lanes.is_empty() {
        return Ok(());
    }
    let swept = core.store.sweep(&lanes).await?;
    let mut overdue: Vec<EnvironmentId> =
        swept.iter().filter(|flow| flow.overdue).map(|flow| flow.environment).collect();
    overdue.dedup();
    let strangers = compare(core, swept);
    if !strangers.is_empty() {
        // Jobs without the row of their environment, as after a restore of some tables.
        core.store.register_environments(&strangers).await?;
        core.facts.notify_one();
    }
    for environment in overdue {
        let ended = core.store.end_overdue(environment, OVERDUE_AT_ONCE).await?;
        core.watch.changed(&ended);
        core.hints.jobs(&ended);
    }
    Ok(())
}

/// What a sweep found against what the windows know. Says which environments nothing is known of.
fn compare(core: &Core, swept: Vec<Swept>) -> Vec<EnvironmentId> {
    let mut board = core.board();
    let mut found: HashMap<(EnvironmentId, i64), Swept> =
        swept.into_iter().map(|flow| ((flow.environment, flow.flow), flow)).collect();
    let mut overlooked = false;
    for (environment, desk) in board.iter_mut() {
        let numbers: Vec<i64> =
            found.keys().filter(|(of, _)| *of == environment).map(|(_, flow)| *flow).collect();
        for number in numbers {
            if Priority::of_flow(number) == Priority::Bulk && !desk.flows.contains_key(&number) {
                desk.open_flow(number);
                overlooked = true;
            }
        }
        for (number, flow) in &mut desk.flows {
            let seen = found.remove(&(environment, *number));
            flow.count = seen.map(|seen| seen.count).unwrap_or_default();
            if seen.and_then(|seen| seen.first_due_at).is_some_and(|first| flow.has_overlooked(first)) {
                flow.read_anew();
                overlooked = true;
            }
        }
        desk.close_flows();
    }
    drop(board);
    if overlooked {
        core.look.notify_one();
    }
    let mut strangers: Vec<EnvironmentId> = found.into_keys().map(|(environment, _)| environment).collect();
    strangers.sort_unstable();
    strangers.dedup();
    // What is not served here waits for a replica that serves it.
    strangers.retain(|environment| core.routes.find(*environment).is_some());
    strangers
}
