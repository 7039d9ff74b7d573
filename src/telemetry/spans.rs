//! The spans there are, with names, kinds and attributes as OpenTelemetry's conventions have them.
//!
//! ```text
//!  pingone.device.v1.DeviceService/Unblock   SERVER     the call
//!  └─ submit unblock_jobs                    PRODUCER   its context is what is kept with the job
//!     └─ submit                              CLIENT     the statement; of several jobs: a root, linked to each
//!  process unblock_jobs                      CONSUMER   an attempt, linked to the producer and to the attempt before
//!  ├─ POST /{environmentId}/as/token         CLIENT
//!  ├─ POST /environments/…/{deviceId}        CLIENT     its context is sent to PingOne
//!  └─ complete_succeeded                     CLIENT
//! ```
//!
//! No span says which user, device or person it is about: `url.full`, which would, is left out.

use std::{fmt::Display, net::SocketAddr};

use opentelemetry::{KeyValue, trace::Status};
use opentelemetry_semantic_conventions::attribute::{
    DB_OPERATION_BATCH_SIZE, DB_OPERATION_NAME, DB_SYSTEM_NAME, ERROR_TYPE, HTTP_REQUEST_RESEND_COUNT,
    HTTP_RESPONSE_STATUS_CODE, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME,
    SERVER_ADDRESS, SERVER_PORT,
};
use tracing::{Instrument as _, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{
    SPANS,
    metrics::{End, Request},
    names::{attribute, messaging},
    traces::{TracePoint, continue_from, has_context, sends_spans, wants_span},
};

/// More links than this say nothing more.
const LINKS_AT_MOST: usize = 32;

/// The span of a call that arrived; none where nobody would see it.
#[must_use]
pub fn call(method: &str, headers: &http::HeaderMap, server: SocketAddr) -> Span {
    if !wants_span(has_context(headers)) {
        return Span::none();
    }
    let span = info_span!(
        target: SPANS, parent: None, "call", otel.name = method, otel.kind = "server", { RPC_SYSTEM_NAME } = "grpc",
        { RPC_METHOD } = method, { SERVER_ADDRESS } = %server.ip(), { SERVER_PORT } = server.port(),
    );
    continue_from(&span, headers);
    span
}

/// A call was answered with that status. Those that callers bring about are no errors of the service.
pub fn answered(span: &Span, code: tonic::Code) {
    let name = code_name(code);
    span.set_attribute(RPC_RESPONSE_STATUS_CODE, name);
    if is_fault(code) {
        failed(span, name);
    }
}

/// The codes that are the server's fault, by the convention.
#[must_use]
pub const fn is_fault(code: tonic::Code) -> bool {
    matches!(
        code,
        tonic::Code::Unknown
            | tonic::Code::DeadlineExceeded
            | tonic::Code::Unimplemented
            | tonic::Code::Internal
            | tonic::Code::Unavailable
            | tonic::Code::DataLoss
    )
}

/// A status as conventions name it.
#[must_use]
pub const fn code_name(code: tonic::Code) -> &'static str {
    match code {
        tonic::Code::Ok => "OK",
        tonic::Code::Cancelled => "CANCELLED",
        tonic::Code::Unknown => "UNKNOWN",
        tonic::Code::InvalidArgument => "INVALID_ARGUMENT",
        tonic::Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        tonic::Code::NotFound => "NOT_FOUND",
        tonic::Code::AlreadyExists => "ALREADY_EXISTS",
        tonic::Code::PermissionDenied => "PERMISSION_DENIED",
        tonic::Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        tonic::Code::FailedPrecondition => "FAILED_PRECONDITION",
        tonic::Code::Aborted => "ABORTED",
        tonic::Code::OutOfRange => "OUT_OF_RANGE",
        tonic::Code::Unimplemented => "UNIMPLEMENTED",
        tonic::Code::Internal => "INTERNAL",
        tonic::Code::Unavailable => "UNAVAILABLE",
        tonic::Code::DataLoss => "DATA_LOSS",
        tonic::Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The span of a job that is being recorded, within that of its call.
#[must_use]
pub fn submission(job: impl Display, environment: impl Display) -> Span {
    if !sends_spans() {
        return Span::none();
    }
    info_span!(
        target: SPANS, "submit unblock_jobs", otel.kind = "producer", { MESSAGING_SYSTEM } = messaging::SYSTEM,
        { MESSAGING_DESTINATION_NAME } = messaging::DESTINATION, { MESSAGING_OPERATION_NAME } = "submit",
        { MESSAGING_OPERATION_TYPE } = "send", { MESSAGING_MESSAGE_ID } = %job,
        { attribute::ENVIRONMENT_ID } = %environment,
    )
}

/// The span of an attempt: its own trace, or a hundred thousand jobs would make a monster trace. `asked` is what is kept with the
/// job, `before` the attempt before. Where nothing is sent it carries on what was asked, for log lines to name it.
#[must_use]
pub fn attempt(
    job: impl Display,
    environment: impl Display,
    number: u32,
    asked: Option<&str>,
    before: Option<&TracePoint>,
) -> Span {
    if !wants_span(asked.is_some()) {
        return Span::none();
    }
    let span = info_span!(
        target: SPANS, parent: None, "process unblock_jobs", otel.kind = "consumer",
        { MESSAGING_SYSTEM } = messaging::SYSTEM, { MESSAGING_DESTINATION_NAME } = messaging::DESTINATION,
        { MESSAGING_OPERATION_NAME } = "process", { MESSAGING_OPERATION_TYPE } = "process",
        { MESSAGING_MESSAGE_ID } = %job, { attribute::ENVIRONMENT_ID } = %environment, { attribute::ATTEMPT } = number,
    );
    match asked.and_then(TracePoint::parse) {
        Some(asked) if sends_spans() => asked.link(&span),
        Some(asked) => asked.adopt(&span),
        None => {}
    }
    if let Some(before) = before {
        before.link(&span);
    }
    span
}

/// What came of an attempt: nothing was sent, all was well, or why it failed.
#[derive(Debug, Clone, Copy)]
pub enum Ended {
    /// It was confirmed.
    Well,
    /// Nothing was sent.
    Unsent,
    /// It failed, for that reason.
    Failed(&'static str),
}

/// An attempt ended.
pub fn ended(span: &Span, how: Ended) {
    let outcome = match how {
        Ended::Well => "ok",
        Ended::Unsent => "unsent",
        Ended::Failed(reason) => {
            failed(span, reason);
            reason
        }
    };
    span.set_attribute(attribute::OUTCOME, outcome);
}

/// The span of a request over HTTP, within the current one. It may have been sent so often before.
#[must_use]
pub fn request(kind: &Request, resent: u32) -> Span {
    if !sends_spans() {
        return Span::none();
    }
    let span = info_span!(target: SPANS, "request", otel.name = &*kind.name, otel.kind = "client");
    for KeyValue { key, value, .. } in &kind.about {
        span.set_attribute(key.clone(), value.clone());
    }
    if resent > 0 {
        span.set_attribute(HTTP_REQUEST_RESEND_COUNT, i64::from(resent));
    }
    span
}

/// A request ended so; `status` came, even where the rest of the answer did not.
pub fn responded(span: &Span, status: Option<u16>, end: End) {
    if let Some(status) = status {
        span.set_attribute(HTTP_RESPONSE_STATUS_CODE, i64::from(status));
    }
    match end {
        End::Answered(status @ 400..) => failed(span, status.to_string()),
        End::Answered(_) => {}
        End::Lost(why) => failed(span, why),
    }
}

/// An error that a span can name.
pub trait Kind {
    /// In one word, of few.
    fn kind(&self) -> &'static str;
}

/// Runs a statement in a span of its own. It serves `jobs`, as many as `size`: of one it is the child, of several the effect.
///
/// # Errors
/// What `statement` fails with.
pub async fn statement<T, E: Kind>(
    name: &'static str,
    size: usize,
    jobs: impl IntoIterator<Item = Option<TracePoint>>,
    statement: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    if !sends_spans() {
        return statement.await;
    }
    let span = info_span!(
        target: SPANS, "statement", otel.name = name, otel.kind = "client", { DB_SYSTEM_NAME } = "postgresql",
        { DB_OPERATION_NAME } = name,
    );
    // A group of one is no group.
    if size > 1 {
        span.set_attribute(DB_OPERATION_BATCH_SIZE, i64::try_from(size).unwrap_or(i64::MAX));
    }
    let served: Vec<TracePoint> = jobs.into_iter().flatten().take(LINKS_AT_MOST).collect();
    match served.as_slice() {
        [only] if size == 1 => only.adopt(&span),
        several => several.iter().for_each(|place| place.link(&span)),
    }
    let result = statement.instrument(span.clone()).await;
    if let Err(error) = &result {
        failed(&span, error.kind());
    }
    result
}

/// What `span` stands for failed.
pub fn failed(span: &Span, error: impl Into<opentelemetry::Value>) {
    span.set_attribute(ERROR_TYPE, error);
    span.set_status(Status::error(""));
}
