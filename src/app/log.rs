//! `/log` on the admin port: what is logged. `GET` says it, `PUT` changes it, with `?for=10m` for a while.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Query, State},
    http::StatusCode,
    routing::get,
};

use crate::{
    duration,
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(levels: &Levels, peer: &str, body: &str, time: Option<&str>) -> Result<String, StatusCode> {
        let peer = ConnectInfo(SocketAddr::new(peer.parse().expect("an address"), 1024));
        let wish = Query(Wish { r#for: time.map(ToOwned::to_owned) });
        change(State(levels.clone()), peer, wish, body.to_owned()).await.map_err(|(status, _)| status)
    }

    #[tokio::test]
    async fn only_this_machine_changes_what_is_logged_and_only_to_what_can_be_read() {
        let levels = Levels::of_nobody();
        for stranger in ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7"] {
            assert_eq!(put(&levels, stranger, "debug", None).await, Err(StatusCode::FORBIDDEN));
        }
        for (body, time) in [("a=b=c", None), ("debug", Some("soon"))] {
            assert_eq!(put(&levels, "127.0.0.1", body, time).await, Err(StatusCode::BAD_REQUEST));
        }
        assert_eq!(levels.current(), Filter::default(), "nothing was changed");
        for (own, body) in [("127.0.0.1", "debug"), ("::1", "warn"), ("::ffff:127.0.0.1", "info,h2=debug")] {
            assert_eq!(put(&levels, own, body, None).await, Ok(format!("{body}\n")));
            assert_eq!(read(State(levels.clone())).await, format!("{body}\n"));
        }
    }
}
