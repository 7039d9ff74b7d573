//! What the process says of itself: logs on stderr, metrics on the admin port, traces and metrics to a collector where one is named.

pub mod metrics;
mod traces;

use std::{any::Any, io::IsTerminal as _, panic, time::Duration};

use futures_util::future::OptionFuture;
use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource, error::OTelSdkResult, metrics::SdkMeterProvider, trace::SdkTracerProvider,
};
use opentelemetry_semantic_conventions::{
    SCHEMA_URL,
    resource::{SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION},
};
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::{SubscriberInitExt as _, TryInitError},
};
use uuid::Uuid;

use crate::redact::Redacted;

pub use metrics::{Metrics, exposition, metrics};
pub use traces::{Traces, continue_from, has_context, link_to, trace_parent_of_current_span, wants_span};

const SERVICE: &str = "pingone-unblock";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The target of this service's spans.
pub const SPANS: &str = "pingone_unblock::span";

/// What the targets of this service's own events begin with.
const OWN: &str = "pingone_unblock";
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
    /// Where metrics go.
    pub metrics: Metrics,
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

/// Running telemetry. Without [`shutdown`](Self::shutdown) the last traces are lost.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    meters: Option<SdkMeterProvider>,
}

/// Where the `OTEL_*` variables have a signal go.
enum Endpoint {
    /// Nothing is to be made of any signal.
    Disabled,
    /// It is sent nowhere.
    Nowhere,
    /// To the collector at this address.
    At(String),
}

/// Where `signal` goes: `TRACES`, `METRICS` or `LOGS`.
fn endpoint(variable: impl Fn(&str) -> Option<String>, signal: &str) -> Endpoint {
    let set =
        |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Endpoint::Disabled;
    }
    if set(&format!("OTEL_{signal}_EXPORTER")).is_some_and(|value| value == "none") {
        return Endpoint::Nowhere;
    }
    set(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))
        .or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"))
        .map_or(Endpoint::Nowhere, Endpoint::At)
}

/// What the `OTEL_*` variables say of this process; its name, version and instance unless they give them.
fn resource() -> Resource {
    let said = Resource::builder().build();
    let given = |key: &'static str| said.get(&key.into()).map(|value| value.to_string());
    let name = given(SERVICE_NAME).filter(|name| !name.starts_with("unknown_service"));
    let own = [
        KeyValue::new(SERVICE_NAME, name.unwrap_or_else(|| SERVICE.to_owned())),
        KeyValue::new(SERVICE_VERSION, given(SERVICE_VERSION).unwrap_or_else(|| VERSION.to_owned())),
        KeyValue::new(
            SERVICE_INSTANCE_ID,
            given(SERVICE_INSTANCE_ID).unwrap_or_else(|| Uuid::new_v4().to_string()),
        ),
    ];
    Resource::builder().with_schema_url([], SCHEMA_URL).with_attributes(own).build()
}

/// Starts logs and traces for the whole process, and logs panics as one error line each. Inside a Tokio runtime, which the
/// exporter's connection runs on.
///
/// # Errors
/// [`TelemetryError`] when it was started before or cannot be set up. A collector that is down is no error.
pub fn init(options: &Options) -> Result<Telemetry, TelemetryError> {
    let resource = resource();
    let provider = options.traces.provider(resource.clone())?;
    let meters = options.metrics.start(resource)?;
    let traces = provider.as_ref().map(traces::layer);
    traces::sent(matches!(options.traces, Traces::Sent(_)));
    let filters = filter(options)?.and_then(ceiling());
    tracing_subscriber::registry().with(traces).with(filters).with(log_layer(options)).try_init()?;
    panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic_message(panic.payload());
        tracing::error!(panic.message = %message, panic.location = location, "panicked");
    }));
    Ok(Telemetry { provider, meters })
}

impl Telemetry {
    /// Sends what is still waiting to be sent, for at most `deadline`. What a collector has not taken by then is lost.
    pub async fn shutdown(self, deadline: Duration) {
        let Self { provider, meters } = self;
        let traces =
            provider.map(|provider| flush(deadline, move || provider.shutdown_with_timeout(deadline)));
        let metrics = meters.map(|meters| flush(deadline, move || meters.shutdown_with_timeout(deadline)));
        tokio::join!(OptionFuture::from(traces), OptionFuture::from(metrics));
    }
}

async fn flush(deadline: Duration, shutdown: impl FnOnce() -> OTelSdkResult + Send + 'static) {
    match tokio::time::timeout(deadline, tokio::task::spawn_blocking(shutdown)).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the last telemetry was not sent"),
        Ok(Err(_)) | Err(_) => tracing::warn!("the last telemetry was not sent in time"),
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

/// What no filter reaches past. Libraries put headers and bodies into their finer events, and sqlx what it does not understand of an
/// address or a password file into warnings.
fn ceiling() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target(OWN, LevelFilter::TRACE)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn no_filter_makes_libraries_tell_headers_and_bodies() {
        let ceiling = ceiling();
        for library in ["hyper", "h2", "reqwest", "rustls", "tonic", "tower", "log"] {
            assert!(!ceiling.would_enable(library, &Level::DEBUG), "{library}");
            assert!(ceiling.would_enable(library, &Level::INFO), "{library}");
        }
        assert!(!ceiling.would_enable("sqlx", &Level::INFO));
        assert!(!ceiling.would_enable("sqlx_postgres::options::parse", &Level::WARN));
        assert!(ceiling.would_enable("pingone_unblock::engine", &Level::TRACE));
    }

    #[test]
    fn a_panic_tells_no_value() {
        let told = |panics: fn()| {
            let payload = panic::catch_unwind(panics).err().unwrap_or(Box::new(()));
            panic_message(&*payload).to_string()
        };
        assert_eq!(told(|| panic!("nobody is here")), "nobody is here");
        assert_eq!(
            told(|| std::hint::black_box(Err::<(), _>("hunter2")).expect("the token is read")),
            "the token is read"
        );
        assert_eq!(
            told(|| drop("über hunter2"[1..2].to_owned())),
            "start byte index 1 is not a char boundary; it is inside"
        );
        assert_eq!(told(|| panic!("mail {}", "jane@example.com")), "mail [redacted]");
        assert_eq!(told(|| panic::panic_any(7)), "no message");
    }
}
