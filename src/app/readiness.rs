//! Whether calls are answered, and why not. Not because PingOne is down: jobs are durable.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::{api::Health, store::Store, telemetry::metrics};

const PING_EVERY: Duration = Duration::from_secs(1);
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Whether calls are answered. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness {
    reason: Arc<Mutex<Option<String>>>,
    prepared: Arc<AtomicBool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            reason: Arc::new(Mutex::new(Some("the database has not been reached yet".to_owned()))),
            prepared: Arc::default(),
        }
    }
}

impl Readiness {
    /// Why calls are not answered; nothing when they are.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens once the database has been found as this version needs it.
    pub(super) fn gate(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.prepared)
    }

    pub(super) fn prepared(&self) {
        self.prepared.store(true, Ordering::Release);
        self.set(None);
    }

    pub(super) fn not_prepared(&self, why: &dyn std::fmt::Display) {
        self.set(Some(why.to_string()));
    }

    pub(super) fn draining(&self) {
        self.set(Some("draining".to_owned()));
    }

    fn set(&self, reason: Option<String>) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Asks Postgres for anything at all; one that does not answer soon does not answer.
async fn look(store: &Store) -> Result<(), String> {
    match tokio::time::timeout(ANSWERS_WITHIN, store.ping()).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("Postgres did not answer within {} s", ANSWERS_WITHIN.as_secs())),
    }
}

/// Keeps readiness and gRPC health true to whether Postgres answers, until `stopped`.
pub(super) async fn watch(store: Store, readiness: Readiness, health: Health, stopped: CancellationToken) {
    let mut serving = None;
    while !stopped.is_cancelled() {
        let began = Instant::now();
        let answer = look(&store).await;
        let answers = answer.is_ok();
        metrics().postgres.looked(answers, began.elapsed());
        if serving != Some(answers) {
            readiness.set(answer.err());
            health.set(answers).await;
            serving = Some(answers);
        }
        tokio::select! {
            () = tokio::time::sleep(PING_EVERY) => {}
            () = stopped.cancelled() => {}
        }
    }
}
