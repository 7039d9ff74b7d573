//! What PingOne does with a request, by its documents. No fault and no limit is known here.

use http::{Method, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    answer::Answer,
    seen::{Route, Seen},
    state::State,
    token,
};
use crate::device::{DeviceRef, EnvironmentId, UserId};

/// The media type of a token request ("Get an admin access token").
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// What a POST to a device does. One URL; the media type chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// "Unblock MFA User Device".
    Unblock,
    /// "Block MFA User Device".
    Block,
    /// "Unlock Device".
    Unlock,
}

impl Action {
    pub(super) fn of(seen: &Seen) -> Option<Self> {
        match seen.media_type()?.as_str() {
            "application/vnd.pingidentity.device.unblock+json" => Some(Self::Unblock),
            "application/vnd.pingidentity.device.block+json" => Some(Self::Block),
            "application/vnd.pingidentity.device.unlock+json" => Some(Self::Unlock),
            _ => None,
        }
    }
}

pub(super) fn answer(state: &mut State, seen: &Seen, id: Uuid) -> Answer {
    match seen.route {
        Route::Token(_) => token::answer(&mut state.tokens, seen, state.settings.token_lifetime, id),
        Route::Unknown => Answer::error(StatusCode::NOT_FOUND, id),
        Route::Device(_) | Route::Devices(..) if !state.tokens.accepts(seen.bearer()) => {
            Answer::error(StatusCode::UNAUTHORIZED, id)
        }
        Route::Devices(environment, user) if seen.method == Method::GET => {
            list(state, seen, environment, user, id)
        }
        Route::Device(device) if seen.method == Method::GET => read(state, seen, device, id),
        Route::Device(device) if seen.method == Method::POST => act(state, seen, device, id),
        Route::Devices(..) => method_not_allowed("GET", id),
        Route::Device(_) => method_not_allowed("GET, POST", id),
    }
}

fn method_not_allowed(allowed: &str, id: Uuid) -> Answer {
    Answer::error(StatusCode::METHOD_NOT_ALLOWED, id).with(header::ALLOW, allowed)
}

/// "Read All MFA User Devices".
fn list(state: &mut State, seen: &Seen, environment: EnvironmentId, user: UserId, id: Uuid) -> Answer {
    let base = state.base(seen);
    let devices = state.devices.of_user(environment, user, !state.settings.strict);
    if devices.is_empty() {
        return Answer::error(StatusCode::NOT_FOUND, id);
    }
    let now = OffsetDateTime::now_utc();
    let this = format!("{base}/environments/{environment}/users/{user}/devices");
    Answer::json(
        StatusCode::OK,
        &json!({
            "_links": { "self": { "href": this }, "devices.reorder": { "href": this } },
            "_embedded": {
                "devices": devices.iter().map(|device| json!(device.shown(&base, now))).collect::<Vec<_>>(),
            },
        }),
    )
}

/// "Read One MFA User Device".
fn read(state: &mut State, seen: &Seen, device: DeviceRef, id: Uuid) -> Answer {
    let base = state.base(seen);
    match state.devices.get(device, !state.settings.strict) {
        Some(device) => shown(&device.shown(&base, OffsetDateTime::now_utc())),
        None => Answer::error(StatusCode::NOT_FOUND, id),
    }
}

fn act(state: &mut State, seen: &Seen, device: DeviceRef, id: Uuid) -> Answer {
    let Some(action) = Action::of(seen) else {
        return Answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, id);
    };
    let base = state.base(seen);
    let refuse_unblocked = state.settings.refuse_unblocked;
    let Some(device) = state.devices.get(device, !state.settings.strict) else {
        return Answer::error(StatusCode::NOT_FOUND, id);
    };
    let now = OffsetDateTime::now_utc();
    match action {
        Action::Unblock if refuse_unblocked && !device.blocked => {
            return Answer::error_with_code(StatusCode::BAD_REQUEST, "REQUEST_FAILED", None, id);
        }
        Action::Unblock => device.unblock(),
        Action::Block => device.block(now),
        Action::Unlock => device.locked_until = None,
    }
    Answer { effect: true, ..shown(&device.shown(&base, now)) }
}

fn shown(device: &impl Serialize) -> Answer {
    Answer::json(StatusCode::OK, device)
}
