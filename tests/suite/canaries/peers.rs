//! A PingOne that says all it knows in every answer, and a collector that keeps every byte.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, post},
};
use pingone_unblock::proto::v1::job::State;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, sync::DropGuard};
use uuid::{Uuid, uuid};

use super::{
    Result,
    places::{EMAIL, PAIRING_KEY, PASSCODE, PHONE, PHONE_DIGITS, SEED, TOKEN},
};

/// A client that the token endpoint never takes.
pub(super) const REFUSED_CLIENT: &str = "refused";

/// A user for each way that PingOne answers, and what becomes of a job.
pub(super) const USERS: [(Uuid, State); 7] = [
    (uuid!("00000000-0000-4000-8000-000000000200"), State::Succeeded),
    (uuid!("00000000-0000-4000-8000-000000000400"), State::Failed),
    (uuid!("00000000-0000-4000-8000-000000000403"), State::Failed),
    (uuid!("00000000-0000-4000-8000-000000000404"), State::Failed),
    // Another device than the one asked for.
    (uuid!("00000000-0000-4000-8000-000000000201"), State::Failed),
    // No JSON.
    (uuid!("00000000-0000-4000-8000-000000000202"), State::Failed),
    // Tried again later.
    (uuid!("00000000-0000-4000-8000-000000000503"), State::Pending),
];

/// Such a PingOne.
pub(super) struct PingOne {
    pub(super) base: String,
    _running: DropGuard,
}

impl PingOne {
    pub(super) async fn start() -> Result<Self> {
        let asked_before = Arc::new(AtomicBool::new(false));
        let devices = "/v1/environments/{environment}/users/{user}/devices";
        let routes = Router::new()
            .route("/{environment}/as/token", post(token))
            .route(devices, any(list))
            .route(&format!("{devices}/{{device}}"), any(device))
            .with_state(asked_before);
        let (base, running) = serve(routes).await?;
        Ok(Self { base, _running: running })
    }
}

async fn serve(routes: Router) -> Result<(String, DropGuard)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        axum::serve(listener, routes).with_graceful_shutdown(stopped.cancelled_owned()).await
    });
    Ok((base, stop.drop_guard()))
}

/// Refuses the first, and the client that is to be refused, and quotes all that was shown.
async fn token(Shared(asked_before): Shared<Arc<AtomicBool>>, headers: HeaderMap) -> Response {
    let shown = secret_of(&headers);
    let refused = shown.starts_with(REFUSED_CLIENT);
    if refused || !asked_before.swap(true, Ordering::SeqCst) {
        let decoded = shown
            .replace("%2F", "/")
            .replace("%2B", "+")
            .replace("%20", " ")
            .replace("%26", "&")
            .replace("%3D", "=");
        let error = json!({
            "error": "invalid_client", "error_description": format!("no {shown} or {decoded} for {EMAIL}, call {PHONE}"),
            "code": decoded, "id": PHONE_DIGITS, "message": format!("no {shown}"),
        });
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    Json(json!({ "access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600 })).into_response()
}

/// `client:secret`, as it was shown.
fn secret_of(headers: &HeaderMap) -> String {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    base64(shown.trim_start_matches("Basic "))
}

fn base64(text: &str) -> String {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        bits = (bits << 6) | u32::from(value(letter));
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held).to_be_bytes()[3]);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn list(Path((environment, user)): Path<(String, Uuid)>, headers: HeaderMap) -> Response {
    answer(&environment, user, "", &headers)
}

async fn device(
    Path((environment, user, device)): Path<(String, Uuid, String)>,
    headers: HeaderMap,
) -> Response {
    answer(&environment, user, &device, &headers)
}

fn answer(environment: &str, user: Uuid, device: &str, headers: &HeaderMap) -> Response {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let code = user.to_string()[33..].parse().unwrap_or(500);
    let describe = |id: &str| {
        json!({
            "id": id, "environment": { "id": environment }, "user": { "id": user }, "type": "SMS", "status": "ACTIVE",
            "block": { "status": "UNBLOCKED" }, "phone": PHONE, "email": EMAIL, "nickname": format!("of {EMAIL}"),
            "otp": PASSCODE, "pairingKey": PAIRING_KEY, "test": { "otp": PASSCODE, "secret": SEED, "keyUri": SEED },
        })
    };
    let said =
        format!("{EMAIL} {PHONE} {PHONE_DIGITS} {shown} {TOKEN} code {PASSCODE}, key {PAIRING_KEY}, {SEED}");
    let (status, body) = match code {
        200 => (200, describe(device).to_string()),
        201 => (200, describe(&Uuid::new_v4().to_string()).to_string()),
        202 => (200, format!("<html>{said}</html>")),
        refused => (refused, refusal(&said).to_string()),
    };
    let headers = [("correlation-id", PHONE_DIGITS), ("retry-after", PASSCODE), ("set-cookie", PASSCODE)];
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, headers, body).into_response()
}

fn refusal(said: &str) -> Value {
    json!({
        "id": PHONE_DIGITS, "code": "INVALID_DATA", "message": said,
        "details": [{ "code": PHONE_DIGITS, "target": EMAIL, "message": said, "innerError": { "said": said } }],
    })
}

/// Takes whatever is sent over OTLP, and keeps it.
pub(super) struct Collector {
    pub(super) base: String,
    sent: Arc<Mutex<Vec<u8>>>,
    _running: DropGuard,
}

impl Collector {
    pub(super) async fn start() -> Result<Self> {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let routes = Router::new().fallback(any(keep)).with_state(Arc::clone(&sent));
        let (base, running) = serve(routes).await?;
        Ok(Self { base, sent, _running: running })
    }

    pub(super) fn sent(&self) -> String {
        String::from_utf8_lossy(&self.sent.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Answers with an empty message of gRPC.
async fn keep(Shared(sent): Shared<Arc<Mutex<Vec<u8>>>>, body: Bytes) -> Response {
    sent.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&body);
    ([("content-type", "application/grpc"), ("grpc-status", "0")], vec![0_u8; 5]).into_response()
}
