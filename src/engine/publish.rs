//! Says once a second how the environments stand that work here: any replica can then tell, without counting.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Core;
use crate::{device::EnvironmentId, environment::Status, job::Priority};

const EVERY: Duration = Duration::from_secs(1);

/// Publishes, for as long as it runs.
pub(super) async fn run(core: Arc<Core>) {
    let mut working: HashSet<EnvironmentId> = HashSet::new();
    loop {
        let (statuses, now_working) = statuses(&core, &working);
        if !statuses.is_empty() {
            match core.store.publish_status(core.lanes.replica(), &statuses).await {
                Ok(()) => working = now_working,
                Err(error) => tracing::warn!(%error, "how the environments stand was not published"),
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Of those that work, and once more of those that no longer do.
fn statuses(core: &Core, before: &HashSet<EnvironmentId>) -> (Vec<Status>, HashSet<EnvironmentId>) {
    let now = Instant::now();
    let mut working = HashSet::new();
    let mut statuses = Vec::new();
    for (environment, desk) in core.board().iter_mut() {
        let (effective_rate, current_rate) = desk.gate.rates(now);
        let pending = |priority| -> u64 {
            let of = desk.flows.iter().filter(|(flow, _)| Priority::of_flow(**flow) == priority);
            of.map(|(_, flow)| u64::try_from(flow.count).unwrap_or_default()).sum()
        };
        let (pending_interactive, pending_bulk) = (pending(Priority::Interactive), pending(Priority::Bulk));
        let in_flight = desk.in_flight();
        let works = in_flight > 0 || current_rate > 0.0 || pending_interactive + pending_bulk > 0;
        if works {
            working.insert(environment);
        }
        if !works && !before.contains(&environment) {
            continue;
        }
        statuses.push(Status {
            environment,
            rate_limit: desk.limits.rate,
            effective_rate,
            current_rate,
            in_flight,
            max_in_flight: desk.limits.max_in_flight,
            limit_group: desk.group.as_ref().map(ToString::to_string),
            pending_interactive,
            pending_bulk,
            oldest_due_at: desk.flows.values().filter_map(super::flow::Flow::oldest_due_at).min(),
        });
    }
    (statuses, working)
}
