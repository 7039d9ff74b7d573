//! `/log` on the admin port: what is logged. `GET` says it, `PUT` changes it, with `?for=10m` for a while.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Query, State},
    http::StatusCode,
    routing::get,
};

use crate::{
    config::duration,
    telemetry::{Filter, Levels},
};

type Refused = (StatusCode, String);

#[derive(Debug, serde::Deserialize)]
struct Wish {
    r#for: Option<String>,
}

pub(super) fn routes(levels: Levels) -> Router {
    Router::new().route("/log", get(read).put(change)).with_state(levels)
}

async fn read(State(levels): State<Levels>) -> String {
    format!("{}\n", levels.current())
}

/// By `PUT`, which no web page may send to another site without being asked: a browser on this machine is a peer on loopback.
async fn change(
    State(levels): State<Levels>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(wish): Query<Wish>,
    body: String,
) -> Result<String, Refused> {
    if !peer.ip().to_canonical().is_loopback() {
        return Err((StatusCode::FORBIDDEN, "only from this machine\n".to_owned()));
    }
    let wrong = |error: &dyn std::fmt::Display| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    let filter = Filter::parse(&body).map_err(|error| wrong(&error))?;
    let time = wish.r#for.as_deref().map(duration::parse).transpose().map_err(|error| wrong(&error))?;
    set(&levels, &filter, time, peer);
    Ok(format!("{filter}\n"))
}

fn set(levels: &Levels, filter: &Filter, time: Option<Duration>, peer: SocketAddr) {
    let told = || {
        let time = time.map(duration::write);
        tracing::info!(log.filter = %filter, log.filter.time = time, client.address = %peer, "what is logged is changed");
    };
    // Under the wider of the two filters: a change to `error` is told as well.
    let before = tracing::enabled!(tracing::Level::INFO);
    if before {
        told();
    }
    levels.set(filter.clone(), time);
    if !before {
        told();
    }
}
