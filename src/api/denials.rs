//! Refused calls, on their way to the audit trail: those that are alike are counted, so that a flood of them is no flood of entries.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{audit::Denial, store::Store, telemetry::metrics};

const EVERY: Duration = Duration::from_secs(1);
/// So many that differ are kept at most; what finds no room is counted as dropped.
const MOST: usize = 1000;

/// Refused calls that are not in the audit trail yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Denials(Arc<Mutex<Waiting>>);

/// Each without its trace, then the trace of the first of its like, and how many there are.
type Waiting = HashMap<Denial, (Option<Arc<str>>, u64)>;

impl Denials {
    /// Has a refused call recorded.
    pub(super) fn note(&self, mut denial: Denial) {
        let trace = denial.trace_id.take();
        self.keep(denial, trace, 1);
    }

    fn keep(&self, denial: Denial, trace: Option<Arc<str>>, calls: u64) {
        let mut waiting = self.waiting();
        if waiting.len() >= MOST && !waiting.contains_key(&denial) {
            metrics().security.denials_dropped(calls);
            return;
        }
        waiting.entry(denial).or_insert((trace, 0)).1 += calls;
    }

    /// Writes them to `store` every second until `stopped`, and what is left then.
    pub async fn run(self, store: Store, stopped: CancellationToken) {
        while stopped.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            self.write(&store).await;
        }
        self.write(&store).await;
        let left = self.waiting().values().map(|(_, calls)| calls).sum();
        metrics().security.denials_dropped(left);
    }

    async fn write(&self, store: &Store) {
        let taken = mem::take(&mut *self.waiting());
        if taken.is_empty() {
            return;
        }
        let named = |(denial, (trace_id, calls))| (Denial { trace_id, ..denial }, calls);
        let denials: Vec<(Denial, u64)> = taken.into_iter().map(named).collect();
        if let Err(error) = store.record_denials(&denials).await {
            tracing::warn!(%error, "refused calls are not in the audit trail yet");
            for (mut denial, calls) in denials {
                let trace = denial.trace_id.take();
                self.keep(denial, trace, calls);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::audit::Who;

    fn denial(method: &str, trace: &str) -> Denial {
        Denial {
            environment: None,
            who: Who::Peer(Ipv4Addr::LOCALHOST.into()),
            method: method.into(),
            reason: "CREDENTIALS_INVALID",
            policy: None,
            trace_id: Some(trace.into()),
        }
    }

    #[test]
    fn those_that_are_alike_are_counted_under_the_first_ones_trace() {
        let denials = Denials::default();
        for trace in ["one", "other"] {
            denials.note(denial("GetJob", trace));
        }
        let kept: Vec<_> = denials.waiting().values().cloned().collect();
        assert_eq!(kept, [(Some("one".into()), 2)]);
    }

    #[test]
    fn a_flood_of_different_ones_has_an_end_and_those_known_are_still_counted() {
        let denials = Denials::default();
        for number in 0..2 * MOST {
            denials.note(denial(&number.to_string(), "t"));
        }
        denials.note(denial("0", "t"));
        let waiting = denials.waiting();
        assert_eq!(waiting.len(), MOST);
        assert_eq!(waiting.values().map(|(_, calls)| calls).sum::<u64>(), MOST as u64 + 1);
    }
}
