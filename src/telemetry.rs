//! What the process says of itself: log lines on stderr, metrics on the admin port; traces, metrics and logs to a collector where
//! one is named.

mod dropped;
mod levels;
mod lines;
mod logs;
pub mod metrics;
pub mod names;
mod otlp;
pub mod spans;
mod traces;

use std::{any::Any, io::IsTerminal as _, panic, time::Duration};

use opentelemetry_sdk::error::OTelSdkResult;
use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt,
    fmt::format::{Format as LineFormat, JsonFields},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::{SubscriberInitExt as _, TryInitError},
};

use crate::redact::Redacted;

pub use dropped::{Dropped, dropped};
pub use levels::{Filter, InvalidFilter, Levels};
pub use logs::Logs;
pub use metrics::{Metrics, exposition, metrics};
pub use traces::{TracePoint, Traces, sends_spans, trace_id, trace_parent_of_current_span};

/// The target of this service's spans.
pub const SPANS: &str = "pingone_unblock::span";

/// What the targets of this service's own events begin with.
const OWN_TARGET: &str = "pingone_unblock";
/// The most that is told of a panic, in characters.
const LONGEST_PANIC: usize = 200;

/// What is logged and traced. The default: `info`, as fits stderr, nothing sent.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is logged.
    pub filter: Filter,
    /// What a log line looks like.
    pub format: Format,
    /// Where traces go.
    pub traces: Traces,
    /// Where log records go besides stderr.
    pub logs: Logs,
    /// Where metrics go.
    pub metrics: Metrics,
}

/// What a log line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people on a terminal, for programs otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The collector's address or another `OTEL_EXPORTER_OTLP_*` variable cannot be used.
    #[error("telemetry cannot be sent, see OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Metrics cannot be shown.
    #[error("metrics cannot be shown: {0}")]
    Shown(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// Telemetry was started before in this process.
    #[error("logging was started twice: {0}")]
    Twice(#[from] TryInitError),
    /// The filter cannot be read.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
}

/// Running telemetry. Without [`shutdown`](Self::shutdown) what waits to be sent is lost.
pub struct Telemetry {
    levels: Levels,
    flushers: Vec<Flusher>,
}

/// Sends what is left of one signal, in a thread of its own, and takes no more.
struct Flusher {
    what: &'static str,
    flush: Box<dyn FnOnce(Duration) -> OTelSdkResult + Send>,
}

/// Starts logs and traces for the whole process, and logs panics as one error line each. Inside a Tokio runtime, which the
/// exporters' connections run on.
///
/// # Errors
/// [`TelemetryError`] when it was started before or cannot be set up. A collector that is down is no error.
pub fn init(options: &Options) -> Result<Telemetry, TelemetryError> {
    let resource = otlp::resource();
    let tracers = options.traces.provider(&resource)?;
    let loggers = options.logs.provider(&resource)?;
    let meters = options.metrics.start(resource)?;
    traces::sent(matches!(options.traces, Traces::Sent(_)));
    // One filter for everything. Not one per layer: what one layer's filter refused, another layer's would at times forget to log.
    let (filter, handle) = reload::Layer::new(options.filter.directives()?);
    tracing_subscriber::registry()
        .with(tracers.as_ref().map(traces::layer))
        .with(filter.and_then(ceiling()))
        .with(loggers.as_ref().map(logs::layer))
        .with(log_layer(options))
        .try_init()?;
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic_message(panic.payload());
        tracing::error!(panic.message = %message, panic.location = location, "panicked");
    }));
    if let Traces::Unusable(why) = &options.traces {
        tracing::warn!(why, "traces are not sent");
    }
    if let Logs::Unusable(why) = &options.logs {
        tracing::warn!(why, "logs are not sent");
    }
    if let Metrics::Unusable(why) = &options.metrics {
        tracing::warn!(why, "metrics are not sent");
    }
    let levels = Levels::new(options.filter.clone(), move |filter| handle.reload(filter));
    let mut telemetry = Telemetry { levels, flushers: Vec::new() };
    if let Some(tracers) = tracers.filter(|_| sends_spans()) {
        telemetry.at_the_end("traces", move |deadline| tracers.shutdown_with_timeout(deadline));
    }
    if let Some(meters) = meters {
        telemetry.at_the_end("metrics", move |deadline| meters.shutdown_with_timeout(deadline));
    }
    if let Some(loggers) = loggers {
        telemetry.at_the_end("logs", move |deadline| loggers.shutdown_with_timeout(deadline));
    }
    Ok(telemetry)
}

impl Telemetry {
    /// What is logged, to be changed while the process runs.
    #[must_use]
    pub fn levels(&self) -> Levels {
        self.levels.clone()
    }

    /// Has `flush` send at the end what is left of `what`, within the time it is given.
    fn at_the_end(
        &mut self,
        what: &'static str,
        flush: impl FnOnce(Duration) -> OTelSdkResult + Send + 'static,
    ) {
        self.flushers.push(Flusher { what, flush: Box::new(flush) });
    }

    /// Sends what is still waiting to be sent, all signals at once, for at most `deadline`. What a collector has not taken by
    /// then is lost.
    pub async fn shutdown(self, deadline: Duration) {
        let flushing = self.flushers.into_iter().map(|Flusher { what, flush }| async move {
            let flushed = tokio::task::spawn_blocking(move || flush(deadline));
            match tokio::time::timeout(deadline, flushed).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::warn!(%error, "the last {what} were not sent"),
                Ok(Err(_)) | Err(_) => tracing::warn!("the last {what} were not sent in time"),
            }
        });
        futures_util::future::join_all(flushing).await;
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flushers: Vec<&str> = self.flushers.iter().map(|flusher| flusher.what).collect();
        f.debug_struct("Telemetry").field("levels", &self.levels).field("flushers", &flushers).finish()
    }
}

/// What no filter reaches past. Libraries put headers and bodies into their finer events, and sqlx what it does not understand of an
/// address or a password file into warnings.
fn ceiling() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target(OWN_TARGET, LevelFilter::TRACE)
        .with_target("sqlx", LevelFilter::WARN)
        .with_target("sqlx_postgres::options", LevelFilter::ERROR)
}

/// What may be told of a panic: the program's own words, and of a message that was put together what stands before any value.
fn panic_message(payload: &(dyn Any + Send)) -> Redacted {
    match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(words), _) => Redacted::of(words, LONGEST_PANIC),
        (None, Some(message)) => Redacted::unquoted(message, LONGEST_PANIC),
        (None, None) => "no message".into(),
    }
}

/// Lines on stderr. One that cannot be written, as on a full disk, is lost: nothing stops for it.
fn log_layer<S>(options: &Options) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let terminal = std::io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let json = match options.format {
        Format::Auto => !terminal,
        Format::Text => false,
        Format::Json => true,
    };
    let format = LineFormat::default();
    match json {
        true => lines
            .fmt_fields(JsonFields::new())
            .event_format(lines::object(
                format.json().flatten_event(true).with_current_span(false).with_span_list(false),
            ))
            .boxed(),
        false => lines.event_format(lines::text(format.with_ansi(colour))).boxed(),
    }
}

#[cfg(test)]
mod tests;
