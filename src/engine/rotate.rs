//! Credentials whose secret changes while we run.

use std::sync::Arc;

use tokio::time::Instant;

use super::Core;
use crate::pingone::Client;

/// Gets a fresh token by each new secret of `client`, and has environments that wait for their credential try it at once.
pub(super) async fn follow(core: Arc<Core>, client: Client) {
    let mut secret = client.secret();
    while secret.changed().await {
        if let Err(failure) = client.check_credential().await {
            tracing::error!(
                error.reason = failure.reason.name(), error.message = %failure.message,
                "no token is granted by the changed credential; the present one serves until it ends"
            );
            continue;
        }
        tracing::info!("the changed credential is used from now on");
        let now = Instant::now();
        for (environment, desk) in core.board().iter_mut() {
            if core.routes.find(environment).is_some_and(|route| route.client.is(&client)) {
                desk.gate.try_credential(now);
            }
        }
        core.wake.notify_one();
    }
}
