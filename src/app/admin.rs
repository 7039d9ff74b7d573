//! The admin port: plain HTTP for whoever keeps the process running. `/livez`: it runs; `/readyz`: it answers calls.

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Readiness;

pub(super) async fn run(listener: TcpListener, readiness: Readiness, stopped: CancellationToken) {
    let ready = move || async move {
        match readiness.reason() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        }
    };
    let routes = Router::new().route("/livez", get(async || "alive\n")).route("/readyz", get(ready));
    let served = axum::serve(listener, routes).with_graceful_shutdown(stopped.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::warn!(%error, "the admin port closed");
    }
}
