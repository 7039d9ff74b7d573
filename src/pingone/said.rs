//! PingOne's error document, read loosely: it may be absent, another gateway's page, or have grown members.

use reqwest::StatusCode;
use serde_json::Value;

use crate::redact::{Name, Redacted};

/// The longest part of a foreign message that is kept, in characters.
pub(crate) const LONGEST_MESSAGE: usize = 300;
const UNEXPECTED_ERROR: &str = "UNEXPECTED_ERROR";

/// What an error document said, fit to be stored and shown.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The code to branch on, such as `NOT_FOUND`.
    pub(crate) code: Option<Name>,
    /// PingOne's log identifier, which its support asks for.
    pub(crate) id: Option<Name>,
    detail: Option<Name>,
    message: Option<Redacted>,
}

impl Said {
    pub(crate) fn of(document: &Value) -> Self {
        let text = |member: &str| document.get(member)?.as_str();
        Self {
            code: text("code").and_then(Name::of),
            id: text("id").and_then(Name::of),
            detail: document.pointer("/details/0/code").and_then(Value::as_str).and_then(Name::of),
            message: text("message")
                .map(|said| Redacted::of(said, LONGEST_MESSAGE))
                .filter(|said| !said.is_empty()),
        }
    }

    /// Whether PingOne calls the error its own, whatever the status.
    pub(crate) fn is_unexpected(&self) -> bool {
        self.code.as_ref().is_some_and(|code| code.as_str() == UNEXPECTED_ERROR)
    }

    /// `what` happened, with everything PingOne said of it: `… (404 NOT_FOUND): The device was not found.`
    pub(crate) fn sentence(&self, what: &'static str, status: StatusCode) -> Redacted {
        let codes = [&self.code, &self.detail].into_iter().flatten();
        let codes = codes.fold(Redacted::from(status.as_u16()), |said, code| said.and(" ").and(code.clone()));
        let sentence = Redacted::from(what).and(" (").and(codes).and(")");
        match &self.message {
            Some(said) => sentence.and(": ").and(said.clone()),
            None => sentence,
        }
    }
}
