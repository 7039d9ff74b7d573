//! The admin port: plain HTTP for whoever keeps the process running. `/livez`: it runs; `/readyz`: it answers calls;
//! `/metrics`: what it measures, for Prometheus.

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use crate::telemetry;

/// The text format that every Prometheus reads.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn run(listener: TcpListener, readiness: Readiness, stopped: CancellationToken) {
    let ready = move || async move {
        match readiness.reason() {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
        }
    };
    let routes = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(show));
    let served = axum::serve(listener, routes).with_graceful_shutdown(stopped.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::warn!(%error, "the admin port closed");
    }
}

async fn show() -> Response {
    // It locks what records, for a moment of which callers are to know nothing.
    match tokio::task::spawn_blocking(telemetry::exposition).await {
        Ok(Some(text)) => ([(CONTENT_TYPE, EXPOSITION)], text).into_response(),
        Ok(None) | Err(_) => {
            (StatusCode::NOT_FOUND, "nothing is measured: OTEL_SDK_DISABLED\n").into_response()
        }
    }
}
