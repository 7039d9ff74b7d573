//! What a request does that PingOne's documents do not describe. The simulator answers it as PingOne would, if it can, and
//! takes note: a client whose tests see no deviation speaks as documented.

use std::collections::VecDeque;

use http::{Method, header};
use serde::Serialize;

use super::{
    documented::{Action, FORM},
    seen::{Route, Seen},
};

/// Characters an external transaction id may have ("External transaction and session IDs").
const TRANSACTION_ID_MAX: usize = 100;
/// What a request line and its headers may be long together ("PingOne platform limits": 6 KB).
const HEAD_MAX: usize = 6 * 1024;
/// Deviations kept; the first ones tell most.
const KEPT: usize = 1_000;

/// One thing that is not as documented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Deviation {
    /// No such path, or ids that are no UUIDs.
    #[error("no such path")]
    Path,
    /// The path is not for this method.
    #[error("{0} is not for this path")]
    Method(String),
    /// Another media type than one that chooses an action (or than a form, at the token endpoint).
    #[error("content type {0:?}")]
    ContentType(Option<String>),
    /// A body of so many bytes where none belongs.
    #[error("a body of {0} bytes")]
    Body(u64),
    /// A POST without a body that does not say `Content-Length: 0`.
    #[error("content length {0:?} instead of 0")]
    ContentLength(Option<String>),
    /// No bearer token.
    #[error("no bearer token")]
    Bearer,
    /// An external transaction id of more than 100 characters, or with characters PingOne replaces.
    #[error("an external transaction id that PingOne would change")]
    TransactionId,
    /// More than 6 KB of request line and headers.
    #[error("{0} bytes of headers")]
    Headers(usize),
    /// The same device again, so many milliseconds before its `Retry-After` has passed.
    #[error("{0} ms before its Retry-After has passed")]
    TooSoon(u64),
}

/// A request that deviated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deviated {
    /// The number of its [`Record`](super::Record).
    pub request: u64,
    /// Where it went.
    pub path: String,
    /// How.
    pub deviation: Deviation,
}

/// The deviations so far, the first thousand of them.
#[derive(Default)]
pub(super) struct Deviations {
    kept: VecDeque<Deviated>,
}

impl Deviations {
    pub(super) fn add(&mut self, request: u64, path: &str, deviation: Deviation) {
        tracing::warn!(request, path, "not as PingOne documents it: {deviation}");
        if self.kept.len() < KEPT {
            self.kept.push_back(Deviated { request, path: path.to_owned(), deviation });
        }
    }

    pub(super) fn all(&self) -> Vec<Deviated> {
        self.kept.iter().cloned().collect()
    }
}

/// What can be told from the request alone.
pub(super) fn of(seen: &Seen) -> Vec<Deviation> {
    let mut found = Vec::new();
    match seen.route {
        Route::Unknown => found.push(Deviation::Path),
        Route::Token(_) if seen.method == Method::POST => {
            if seen.media_type().as_deref() != Some(FORM) {
                found.push(Deviation::ContentType(seen.media_type()));
            }
        }
        Route::Device(_) if seen.method == Method::POST => {
            action(seen, &mut found);
            bearer(seen, &mut found);
        }
        Route::Device(_) | Route::Devices(..) if seen.method == Method::GET => {
            if seen.body_length > 0 {
                found.push(Deviation::Body(seen.body_length));
            }
            bearer(seen, &mut found);
        }
        Route::Token(_) | Route::Device(_) | Route::Devices(..) => {
            found.push(Deviation::Method(seen.method.to_string()));
        }
    }
    if seen.headers.get(TRANSACTION_ID).is_some_and(|given| changed(given.as_bytes()) != given.as_bytes()) {
        found.push(Deviation::TransactionId);
    }
    let head = seen.head_length();
    if head > HEAD_MAX {
        found.push(Deviation::Headers(head));
    }
    found
}

fn action(seen: &Seen, found: &mut Vec<Deviation>) {
    if Action::of(seen).is_none() {
        found.push(Deviation::ContentType(seen.media_type()));
    }
    let length = seen.header(header::CONTENT_LENGTH.as_str());
    if seen.body_length > 0 {
        found.push(Deviation::Body(seen.body_length));
    } else if length != Some("0") {
        found.push(Deviation::ContentLength(length.map(str::to_owned)));
    }
}

fn bearer(seen: &Seen, found: &mut Vec<Deviation>) {
    if seen.bearer().is_none() {
        found.push(Deviation::Bearer);
    }
}

/// The header by which a request is found again in PingOne's audit.
pub(super) const TRANSACTION_ID: &str = "x-ping-external-transaction-id";

/// What PingOne makes of an external transaction id: other characters than letters, digits and `._-/@=#+` become `_`, and
/// what is too long is cut (the documents give the limit, not what happens beyond it).
pub(super) fn changed(given: &[u8]) -> Vec<u8> {
    let allowed = |c: char| c.is_alphanumeric() || "._-/@=#+".contains(c);
    let text = String::from_utf8_lossy(given);
    let changed = text.chars().take(TRANSACTION_ID_MAX).map(|c| if allowed(c) { c } else { '_' });
    changed.collect::<String>().into_bytes()
}
