//! What can go wrong with a request. When it does is in `plan`, what is done to the answer in `tamper`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One thing that can go wrong with one request. What "takes effect" is processed as documented first, so the device is
/// unblocked whatever the caller gets to see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// None: as documented. Keeps a place in a script.
    #[default]
    Normal,
    /// That status, without effect.
    Status {
        /// The HTTP status.
        status: u16,
        /// What stands in the body.
        #[serde(default)]
        page: Page,
        /// The `Retry-After` header, if any.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
    },
    /// Takes effect and answers that status (200 or 204) without a body.
    NoBody {
        /// The HTTP status.
        status: u16,
    },
    /// Takes effect and answers 200 with something that is not the device.
    WrongJson {
        /// What instead.
        garbage: Garbage,
    },
    /// Takes effect and answers 200 with a device of another id.
    AnotherDevice,
    /// Takes effect and answers 200 with well over 1 MiB.
    TooLarge {
        /// In chunks, without saying the length beforehand.
        #[serde(default)]
        chunked: bool,
    },
    /// 307 to there, without effect.
    Redirect {
        /// The `Location` header.
        location: String,
    },
    /// The connection is reset, without effect.
    ResetBefore,
    /// Takes effect; then the connection is reset without an answer.
    ResetAfter,
    /// Takes effect; the connection is reset halfway through the answer's body.
    ResetMidBody,
    /// No answer for as long as the connection lasts.
    Silence {
        /// Takes effect all the same.
        #[serde(default)]
        effect: bool,
    },
    /// Answered so much later, after what `then` does.
    Slow {
        /// How much later.
        millis: u64,
        /// What is answered.
        #[serde(default)]
        then: Box<Fault>,
    },
    /// Held, without effect so far, until [`release`](super::Simulator::release).
    Hold {
        /// What happens then.
        #[serde(default)]
        then: Box<Fault>,
    },
}

impl Fault {
    /// A status with PingOne's documented error body for it.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self::Status { status, page: Page::Documented, retry_after: None }
    }

    /// A status with a `Retry-After`.
    #[must_use]
    pub const fn retry_after(status: u16, retry_after: RetryAfter) -> Self {
        Self::Status { status, page: Page::Documented, retry_after: Some(retry_after) }
    }

    /// A gateway's HTML page instead of PingOne's JSON. Takes no effect, also with a 200.
    #[must_use]
    pub const fn html(status: u16) -> Self {
        Self::Status { status, page: Page::Html, retry_after: None }
    }

    /// A 400 that says `UNEXPECTED_ERROR`, which PingOne's own clients try again.
    #[must_use]
    pub fn unexpected_error() -> Self {
        Self::Status { status: 400, page: Page::Code("UNEXPECTED_ERROR".to_owned()), retry_after: None }
    }

    /// The answer as documented, but so much later.
    #[must_use]
    pub fn slow(by: Duration) -> Self {
        Self::Slow { millis: u64::try_from(by.as_millis()).unwrap_or(u64::MAX), then: Box::default() }
    }

    /// Held until released, then as documented.
    #[must_use]
    pub fn hold() -> Self {
        Self::Hold { then: Box::default() }
    }

    pub(super) fn holds(&self) -> bool {
        match self {
            Self::Hold { .. } => true,
            Self::Slow { then, .. } => then.holds(),
            _ => false,
        }
    }

    /// Splits off what only concerns time: how much later to answer, and what to do apart from that.
    pub(super) fn timing(mut self) -> (Duration, Self) {
        let mut later = Duration::ZERO;
        loop {
            self = match self {
                Self::Hold { then } => *then,
                Self::Slow { millis, then } => {
                    later += Duration::from_millis(millis);
                    *then
                }
                rest => return (later, rest),
            }
        }
    }
}

/// What stands in the body of an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Page {
    /// PingOne's error object with the code documented for the status.
    #[default]
    Documented,
    /// PingOne's error object with this code.
    Code(String),
    /// A gateway's HTML page.
    Html,
    /// Nothing.
    Empty,
}

/// A `Retry-After` header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// In seconds, as PingOne does with 429 ("Rate limiting").
    Seconds(u64),
    /// As an HTTP date so many seconds from now, as PingOne may do with 503 ("Best practices").
    DateIn(u64),
    /// Exactly this, sensible or not.
    Text(String),
}

/// What can stand where a device should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// The device in an array.
    Array,
    /// JSON that breaks off, in an HTTP message that is whole.
    Truncated,
    /// An object whose members have other types.
    Types,
    /// Text.
    Text,
}
