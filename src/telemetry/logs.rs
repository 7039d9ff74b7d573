//! Log records over OTLP, as they stand on stderr: the same events, each with the trace and the span it was written in.

use opentelemetry::{
    InstrumentationScope,
    logs::{LogRecord as _, Severity},
};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{
    ExporterBuildError, LogExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{BatchLogProcessor, LogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{
    OWN_TARGET,
    dropped::{Bounded, Counted, RECORDS, queue_size},
    otlp::{self, Destination, Signal},
};

/// Where log records go besides stderr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Logs {
    /// Nowhere.
    #[default]
    Kept,
    /// Nowhere, though they are asked for: this is why.
    Unusable(String),
    /// To the collector at this address, over gRPC.
    Sent(String),
}

impl Logs {
    /// What the `OTEL_*` variables ask for.
    #[must_use]
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        match Destination::of(Signal::Logs, variable) {
            Destination::Disabled | Destination::Nowhere => Self::Kept,
            Destination::Unusable(why) => Self::Unusable(why),
            Destination::Collector(endpoint) => Self::Sent(endpoint),
        }
    }

    pub(super) fn provider(
        &self,
        resource: &Resource,
    ) -> Result<Option<SdkLoggerProvider>, ExporterBuildError> {
        let Self::Sent(endpoint) = self else { return Ok(None) };
        let exporter = LogExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_tls_config(ClientTlsConfig::new().with_enabled_roots())
            .build()?;
        let inner = BatchLogProcessor::builder(Counted { inner: exporter, tally: &RECORDS }).build();
        let at_most = queue_size("OTEL_BLRP_MAX_QUEUE_SIZE");
        let processor = Unnamed(Bounded { inner, tally: &RECORDS, at_most });
        Ok(Some(
            SdkLoggerProvider::builder()
                .with_resource(resource.clone())
                .with_log_processor(processor)
                .build(),
        ))
    }
}

/// The layer that hands events over.
pub(super) fn layer<S>(provider: &SdkLoggerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    OwnEvents(OpenTelemetryTracingBridge::new(&Scoped(provider.clone())))
}

/// Events of this crate only: those of the exporter's own connection would make more of them without end. Not a filter of the
/// layer, see the one filter in [`super`].
struct OwnEvents<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for OwnEvents<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target().starts_with(OWN_TARGET) {
            self.0.on_event(event, context);
        }
    }
}

/// The provider, for a bridge that would give its scope no name.
struct Scoped(SdkLoggerProvider);

impl opentelemetry::logs::LoggerProvider for Scoped {
    type Logger = SdkLogger;

    fn logger_with_scope(&self, _nameless: InstrumentationScope) -> SdkLogger {
        self.0.logger_with_scope(otlp::scope())
    }
}

/// Takes away the names that the `tracing` macros make up of file and line: they would say that a record is an event of that
/// name.
#[derive(Debug)]
struct Unnamed<P>(P);

impl<P: LogProcessor> LogProcessor for Unnamed<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if record.event_name().is_some_and(|name| name.starts_with("event ")) {
            record.set_event_name("");
        }
        self.0.emit(record, scope);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: std::time::Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.0.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
