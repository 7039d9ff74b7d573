//! An answer before it goes out, and the form of PingOne's errors.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use uuid::Uuid;

/// Status, headers and body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether giving it changed a device.
    pub(super) effect: bool,
}

impl Answer {
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), effect: false }
    }

    /// JSON, typed as PingOne types its resources.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("answers have text keys and no fallible serialiser");
        Self::text(status, "application/hal+json;charset=UTF-8", body)
    }

    pub(super) fn text(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut answer = Self { body: body.into(), ..Self::empty(status) };
        answer.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        answer
    }

    pub(super) fn html(status: StatusCode) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let page = format!("<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n");
        Self::text(status, "text/html", page)
    }

    /// The error PingOne documents for `status` ("PingOne error codes").
    pub(super) fn error(status: StatusCode, id: Uuid) -> Self {
        let (code, detail) = match status.as_u16() {
            400 => ("INVALID_DATA", Some("INVALID_VALUE")),
            401 => ("ACCESS_FAILED", Some("INVALID_TOKEN")),
            403 => ("ACCESS_FAILED", Some("INSUFFICIENT_PERMISSIONS")),
            404 => ("NOT_FOUND", None),
            405 | 415 => ("INVALID_REQUEST", None),
            408 | 409 => ("REQUEST_FAILED", None),
            429 => ("REQUEST_LIMITED", Some("LIMIT_EXCEEDED")),
            500..=599 => ("UNEXPECTED_ERROR", None),
            _ => ("REQUEST_FAILED", None),
        };
        Self::error_with_code(status, code, detail, id)
    }

    /// PingOne's error object with that code and detail. Its id is what PingOne's support asks for.
    pub(super) fn error_with_code(status: StatusCode, code: &str, detail: Option<&str>, id: Uuid) -> Self {
        let message = message(code);
        let details = detail.map(|code| Detail { code, message }).into_iter().collect();
        Self::json(status, &ErrorBody { id, code, message, details })
    }

    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        // A text that cannot stand in a header, from a fault over the control API, is left out.
        self.headers.extend(HeaderValue::from_str(value).map(|value| (name, value)));
        self
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    id: Uuid,
    code: &'a str,
    message: &'a str,
    details: Vec<Detail<'a>>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: &'a str,
    message: &'a str,
}

fn message(code: &str) -> &'static str {
    match code {
        "ACCESS_FAILED" => "The request could not be completed. You do not have access to this resource.",
        "INVALID_DATA" => {
            "The request could not be completed. One or more validation errors were in the request."
        }
        "INVALID_REQUEST" => "The request could not be completed. The request was invalid.",
        "NOT_FOUND" => "The request could not be completed. The requested resource was not found.",
        "REQUEST_LIMITED" => "The request could not be completed. The rate limit was exceeded.",
        "UNEXPECTED_ERROR" => "There was an unexpected error with the service. Please try again later.",
        _ => "The request could not be completed.",
    }
}
