//! What a fault makes of an answer, and how that is put on the wire.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    answer::Answer,
    fault::{Fault, Garbage, Page, RetryAfter},
    server::Link,
};

/// Somewhat more than the 1 MiB a careful client reads.
const TOO_LARGE: usize = (1 << 20) + (1 << 16);
const CHUNK: usize = 1 << 16;

/// What becomes of a request.
pub(super) enum Outcome {
    /// The answer is sent whole.
    Whole(Answer),
    /// It is sent in chunks, its length unsaid.
    Chunked(Answer),
    /// Its first half is sent, then the connection is reset.
    Cut(Answer),
    /// The connection is reset.
    Reset,
    /// Nothing happens.
    Silence,
}

/// Applies `fault` to what `process` answers; faults without effect do not call it.
pub(super) fn tamper(fault: Fault, id: Uuid, process: impl FnOnce() -> Answer) -> Outcome {
    match fault {
        // Holding and slowness were split off before; what is left of them is the answer itself.
        Fault::Normal | Fault::Slow { .. } | Fault::Hold { .. } => Outcome::Whole(process()),
        Fault::Status { status, page, retry_after } => {
            let answer = error(valid(status), page, id);
            Outcome::Whole(match retry_after {
                Some(after) => answer.with(header::RETRY_AFTER, &after.text()),
                None => answer,
            })
        }
        Fault::NoBody { status } => {
            process();
            Outcome::Whole(Answer::empty(valid(status)))
        }
        Fault::WrongJson { garbage } => {
            let answer = process();
            let body = garbled(&answer.body, garbage);
            Outcome::Whole(Answer { status: StatusCode::OK, body, ..answer })
        }
        Fault::AnotherDevice => {
            let answer = process();
            let id = json!(uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid());
            Outcome::Whole(Answer {
                status: StatusCode::OK,
                body: with_member(&answer.body, "id", id),
                ..answer
            })
        }
        Fault::TooLarge { chunked } => {
            let answer = process();
            let padding = json!("x".repeat(TOO_LARGE));
            let body = with_member(&answer.body, "padding", padding);
            let answer = Answer { status: StatusCode::OK, body, ..answer };
            if chunked { Outcome::Chunked(answer) } else { Outcome::Whole(answer) }
        }
        Fault::Redirect { location } => {
            Outcome::Whole(Answer::empty(StatusCode::TEMPORARY_REDIRECT).with(header::LOCATION, &location))
        }
        Fault::ResetBefore => Outcome::Reset,
        Fault::ResetAfter => {
            process();
            Outcome::Reset
        }
        Fault::ResetMidBody => Outcome::Cut(process()),
        Fault::Silence { effect } => {
            if effect {
                process();
            }
            Outcome::Silence
        }
    }
}

/// A number that is no status, or would not be an answer at all, becomes 500.
fn valid(status: u16) -> StatusCode {
    let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
    status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn error(status: StatusCode, page: Page, id: Uuid) -> Answer {
    match page {
        Page::Documented => Answer::error(status, id),
        Page::Code(code) => Answer::error_with_code(status, &code, None, id),
        Page::Html => Answer::html(status),
        Page::Empty => Answer::empty(status),
    }
}

fn garbled(body: &Bytes, garbage: Garbage) -> Bytes {
    match garbage {
        Garbage::Array => [b"[", body.as_ref(), b"]"].concat().into(),
        Garbage::Truncated => body.slice(..body.len() / 2),
        Garbage::Types => Bytes::from_static(br#"{"id":7,"block":"UNBLOCKED","lock":[],"status":null}"#),
        Garbage::Text => Bytes::from_static(b"unblocked"),
    }
}

fn with_member(body: &Bytes, name: &str, value: Value) -> Bytes {
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut members)) => {
            members.insert(name.to_owned(), value);
            Value::Object(members).to_string().into()
        }
        _ => body.clone(),
    }
}

impl RetryAfter {
    fn text(&self) -> String {
        match self {
            Self::Seconds(seconds) => seconds.to_string(),
            Self::DateIn(seconds) => {
                let at = SystemTime::now().checked_add(Duration::from_secs(*seconds));
                httpdate::fmt_http_date(at.unwrap_or(SystemTime::UNIX_EPOCH))
            }
            Self::Text(text) => text.clone(),
        }
    }
}

/// A body on its way out.
pub(super) enum Wire {
    /// All at once.
    Whole(Bytes),
    /// Piece by piece.
    Chunked(Bytes),
    /// So many bytes were promised; after these the connection is reset.
    Cut { half: Bytes, promised: u64, link: Link },
}

impl Body for Wire {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.get_mut() {
            Self::Whole(rest) => mem::take(rest),
            Self::Chunked(rest) => rest.split_to(rest.len().min(CHUNK)),
            Self::Cut { half, link, .. } => {
                if half.is_empty() {
                    // The half is flushed when this returns, and then the connection's task sees the request to reset.
                    link.reset();
                    return Poll::Pending;
                }
                mem::take(half)
            }
        };
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(rest) | Self::Chunked(rest) => rest.is_empty(),
            Self::Cut { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(rest) => SizeHint::with_exact(rest.len() as u64),
            Self::Chunked(_) => SizeHint::default(),
            Self::Cut { promised, .. } => SizeHint::with_exact(*promised),
        }
    }
}
