//! What the process says of itself: logs on stderr, traces to a collector where one is named. Metrics are not here.

mod traces;

use std::{io::IsTerminal as _, panic, time::Duration};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, fmt,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::{SubscriberInitExt as _, TryInitError},
};

pub use traces::{Traces, continue_from, has_context, link_to, trace_parent_of_current_span, wants_span};

/// The target of this service's spans.
pub const SPANS: &str = "pingone_unblock::span";

/// What is logged and traced. The default: `info`, as fits stderr, nothing sent.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is logged.
    pub filter: Filter,
    /// What a log line looks like.
    pub format: Format,
    /// Where traces go.
    pub traces: Traces,
}

/// Which events are logged: a level, or levels by target, such as `warn,pingone_unblock=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

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

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not a filter: {0}")]
pub struct InvalidFilter(#[from] tracing_subscriber::filter::ParseError);

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The collector's address or another `OTEL_EXPORTER_OTLP_*` variable cannot be used.
    #[error("traces cannot be sent, see OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Telemetry was started before in this process.
    #[error("logging was started twice: {0}")]
    Twice(#[from] TryInitError),
    /// The filter cannot be read.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
}

/// Running telemetry. Without [`shutdown`](Self::shutdown) the last traces are lost.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logs and traces for the whole process, and logs panics as one error line each. Inside a Tokio runtime, which the
/// exporter's connection runs on.
///
/// # Errors
/// [`TelemetryError`] when it was started before or cannot be set up. A collector that is down is no error.
pub fn init(options: &Options) -> Result<Telemetry, TelemetryError> {
    let provider = options.traces.provider()?;
    let traces = provider.as_ref().map(traces::layer);
    traces::sent(matches!(options.traces, Traces::Sent(_)));
    tracing_subscriber::registry().with(traces).with(filter(options)?).with(log_layer(options)).try_init()?;
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        // Debug, so that a message of several lines stays on one.
        tracing::error!(panic.message = ?message, panic.location = location, "panicked");
    }));
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends what is still waiting to be sent, for at most `deadline`. What a collector has not taken by then is lost.
    pub async fn shutdown(self, deadline: Duration) {
        let Some(provider) = self.provider else { return };
        let flushing = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(deadline));
        match tokio::time::timeout(deadline, flushing).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last traces were not sent"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last traces were not sent in time"),
        }
    }
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`InvalidFilter`] says which part is not understood.
    pub fn parse(text: &str) -> Result<Self, InvalidFilter> {
        EnvFilter::try_new(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

/// One filter for everything. Not one per layer: what one layer's filter refused, another layer's would at times forget to log.
fn filter(options: &Options) -> Result<EnvFilter, InvalidFilter> {
    // Notices of the database are no events of ours, and spans are made whatever is logged: a trace must not end here. A
    // filter that names them has its way.
    Ok(EnvFilter::try_new(format!("sqlx=warn,{SPANS}=info,{}", options.filter.0))?)
}

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
    match json {
        true => lines.json().flatten_event(true).with_current_span(false).boxed(),
        false => lines.boxed(),
    }
}
