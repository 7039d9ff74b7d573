//! PingOne's error document, read loosely: it may be absent, another gateway's page, or have grown members.

use reqwest::StatusCode;
use serde_json::Value;

use super::redact::{name, redact};

/// The longest part of a foreign message that is kept, in characters.
pub(crate) const LONGEST_MESSAGE: usize = 300;
const UNEXPECTED_ERROR: &str = "UNEXPECTED_ERROR";

/// What an error document said, fit to be stored and shown.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The code to branch on, such as `NOT_FOUND`.
    pub(crate) code: Option<String>,
    /// PingOne's log identifier, which its support asks for.
    pub(crate) id: Option<String>,
    detail: Option<String>,
    message: Option<String>,
}

impl Said {
    pub(crate) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).map(|document| Self::of(&document)).unwrap_or_default()
    }

    pub(crate) fn of(document: &Value) -> Self {
        let text = |member: &str| document.get(member)?.as_str();
        Self {
            code: text("code").and_then(name),
            id: text("id").and_then(name),
            detail: document.pointer("/details/0/code").and_then(Value::as_str).and_then(name),
            message: text("message")
                .map(|said| redact(said, LONGEST_MESSAGE))
                .filter(|said| !said.is_empty()),
        }
    }

    /// Whether PingOne calls the error its own, whatever the status.
    pub(crate) fn is_unexpected(&self) -> bool {
        self.code.as_deref() == Some(UNEXPECTED_ERROR)
    }

    /// `what` happened, with everything PingOne said of it: `… (404 NOT_FOUND): The device was not found.`
    pub(crate) fn sentence(&self, what: &str, status: StatusCode) -> String {
        let codes = [&self.code, &self.detail].into_iter().flatten().map(String::as_str);
        let codes: Vec<&str> = std::iter::once(status.as_str()).chain(codes).collect();
        let message = self.message.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
        format!("{what} ({}){message}", codes.join(" "))
    }
}
