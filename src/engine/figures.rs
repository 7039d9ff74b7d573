//! Says each second how everything stands that this replica has in hand, for whoever reads metrics.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Core, IN_HAND_PER_PROCESS, desk::Desk, gate::Shut, send::Attempt};
use crate::{
    job::Priority,
    telemetry::metrics::{Environment, metrics},
};

const EVERY: Duration = Duration::from_secs(1);

/// Says it for as long as it runs; then there is nothing to say.
pub(super) async fn run(core: Arc<Core>) {
    let _over = Over;
    loop {
        say(&core);
        tokio::time::sleep(EVERY).await;
    }
}

fn say(core: &Core) {
    let now = Instant::now();
    let wall = OffsetDateTime::now_utc();
    let at_most = IN_HAND_PER_PROCESS as usize;
    let replica = &metrics().replica;
    replica.holds(at_most.saturating_sub(core.permits.available_permits()), at_most);
    replica.owns(core.lanes.owned(now).len());
    let mut board = core.board();
    metrics().upstream.stand(board.iter_mut().map(|(id, desk)| (id, figures(desk, now, wall))));
}

fn figures(desk: &mut Desk<Attempt>, now: Instant, wall: OffsetDateTime) -> Environment {
    let (allowed, rate) = desk.gate.rates(now);
    let limited = |rate: f64| rate.is_finite().then_some(rate);
    let Shut { paused, throttled, circuit_open, credential_refused } = desk.gate.stands(now);
    let mut figures = Environment {
        running: desk.running().map(u64::from),
        in_flight_limit: desk.limits.max_in_flight.into(),
        staged: u64::try_from(desk.staged()).unwrap_or(u64::MAX),
        rate,
        rate_allowed: limited(allowed),
        rate_limit: limited(desk.limits.rate),
        blocked: [paused, throttled, circuit_open, credential_refused],
        ..Environment::default()
    };
    for (number, flow) in &desk.flows {
        let priority = Priority::of_flow(*number) as usize;
        figures.pending[priority] += u64::try_from(flow.count).unwrap_or_default();
        // What is not to be sent is not late. The wall clock decides nothing here.
        let oldest = flow
            .oldest_due_at()
            .filter(|_| flow.is_open())
            .and_then(|due_at| Duration::try_from(wall - due_at).ok());
        figures.oldest[priority] = figures.oldest[priority].max(oldest.unwrap_or_default());
    }
    for priority in 0..figures.pending.len() {
        figures.pending[priority] = figures.pending[priority].saturating_sub(figures.running[priority]);
    }
    figures
}

/// What nobody looks after any more is not said any more.
struct Over;

impl Drop for Over {
    fn drop(&mut self) {
        metrics().replica.owns(0);
        metrics().upstream.stand(std::iter::empty());
    }
}
