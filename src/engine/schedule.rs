//! Finds what is due in our lanes, claims what limits allow in the next moment, and has it sent.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Core,
    gate::Desk,
    send::{self, Attempt, InHand, Place},
};
use crate::store::{Head, StoreError};

/// Claims are made just in time: for what may start this soon.
pub(super) const HORIZON: Duration = Duration::from_millis(250);
/// Finds everything without a hint.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Two looks are never closer: hints come in swarms.
const LOOK_APART: Duration = Duration::from_millis(2);
const OVERDUE_AT_ONCE: u32 = 1000;

/// Schedules until the engine stops.
pub(super) async fn run(core: Arc<Core>) {
    while !core.stopping.is_cancelled() {
        let look_again = match run_once(&core).await {
            Ok(look_again) => look_again,
            Err(error) => {
                tracing::warn!(%error, "what is due could not be read");
                None
            }
        };
        let wait =
            look_again.map_or(POLL_EVERY, |at| at.saturating_duration_since(Instant::now()).min(POLL_EVERY));
        tokio::time::sleep(LOOK_APART).await;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = core.wake.notified() => {}
            () = core.stopping.cancelled() => {}
        }
    }
}

/// One look at all our lanes. Says when the next is worth it, where that is known.
async fn run_once(core: &Arc<Core>) -> Result<Option<Instant>, StoreError> {
    let lanes = core.lanes.owned(Instant::now());
    if lanes.is_empty() {
        return Ok(None);
    }
    let ended = core.store.end_overdue(&lanes, OVERDUE_AT_ONCE).await?;
    core.watch.changed(&ended);
    core.hints.jobs(&ended);

    let statuses = core.store.find_environments(&lanes).await?;
    let now = Instant::now();
    let mut look_again: Option<Instant> = None;
    let mut wanted = Vec::new();
    {
        let mut desks = core.desks();
        // Whoever has nothing unfinished has no backlog.
        desks.values_mut().for_each(|desk| desk.backlog = false);
        for status in &statuses {
            let Some(route) = core.routes.find(status.id) else { continue };
            let desk = desks.entry(status.id).or_insert_with(|| Desk::new(route.limits, now));
            desk.gate.adopt(now, status);
            let slots = u32::try_from(desk.slots.available_permits()).unwrap_or(u32::MAX);
            let places = desk.gate.places(now, now + HORIZON).min(slots);
            desk.backlog = places == 0;
            if places > 0 {
                wanted.push((status.id, places));
            } else if let Some(opens) = desk.gate.opens(now).filter(|_| slots > 0) {
                look_again = Some(look_again.map_or(opens, |at| at.min(opens)));
            }
        }
    }
    if wanted.is_empty() {
        return Ok(look_again);
    }
    let heads = core.store.find_heads(&wanted).await?;
    for (environment, places) in &wanted {
        let found = heads.iter().filter(|head| head.device.environment == *environment).count();
        if found >= *places as usize {
            let mut desks = core.desks();
            let Some(desk) = desks.get_mut(environment) else { continue };
            desk.backlog = true;
            // More is due than was looked for: look again when these are on their way.
            let soon = now + HORIZON / 2;
            look_again = Some(look_again.map_or(soon, |at| at.min(soon)));
        }
    }
    send_due(core, heads).await?;
    Ok(look_again)
}

/// Claims the heads that get a place, and sends what was claimed.
async fn send_due(core: &Arc<Core>, heads: Vec<Head>) -> Result<(), StoreError> {
    let asked_at = Instant::now();
    let mut placed: Vec<(Head, InHand, Place)> = Vec::with_capacity(heads.len());
    for head in heads {
        let environment = head.device.environment;
        if !core.schedules(environment) {
            continue;
        }
        let Some(in_hand) = InHand::new(core, head.id) else { continue };
        if let Some(place) = Place::take(core, environment, asked_at + HORIZON) {
            placed.push((head, in_hand, place));
        }
    }
    if placed.is_empty() {
        return Ok(());
    }
    let heads: Vec<Head> = placed.iter().map(|(head, _, _)| head.clone()).collect();
    let claims = core.store.claim(&heads).await?;
    let mut running = Vec::with_capacity(claims.len());
    for (head, in_hand, place) in placed {
        // Gone or taken in between: its place is given back.
        let Some(claim) = claims.iter().find(|claim| claim.id == head.id) else { continue };
        running.push(head.id);
        let (device, trace_parent) = (head.device, head.trace_parent);
        send::spawn(core, Attempt { claim: *claim, device, trace_parent, in_hand, place, asked_at });
    }
    core.watch.changed(&running);
    core.hints.jobs(&running);
    Ok(())
}
