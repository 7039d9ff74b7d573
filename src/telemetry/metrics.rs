//! What is counted and measured: instruments of the whole process, pushed over OTLP where a collector is named and shown to
//! Prometheus on the admin port, from the same instruments. Where nothing reads them they cost next to nothing.

mod calls;
mod family;
mod jobs;
mod label;
mod postgres;
mod process;
mod replica;
mod requests;
mod security;
mod upstream;

use std::sync::OnceLock;

use opentelemetry::metrics::Meter;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
};
use prometheus::{Encoder as _, Registry, TextEncoder};

use super::{
    dropped::{self, Counted},
    otlp::{self, Destination, Signal},
};

pub use calls::{Call, Method};
pub use postgres::{Connections, timed};
pub use requests::{End, Request};
pub use security::Reload;
#[cfg(test)]
pub(crate) use security::{FETCHES, TOKENS};
pub use upstream::{Cause, Environment};

/// Where metrics go beside the admin port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Metrics {
    /// Nothing is measured; the admin port has nothing to show.
    Disabled,
    /// To whoever asks on the admin port.
    #[default]
    Shown,
    /// As [`Self::Shown`], though they were to be sent: this is why.
    Unusable(String),
    /// There, and to the collector at this address, over gRPC.
    Sent(String),
}

/// Every instrument of this process.
#[derive(Debug)]
pub struct Instruments {
    /// Calls to this service.
    pub calls: calls::Calls,
    /// Requests to PingOne.
    pub requests: requests::Requests,
    /// Statements and connections.
    pub postgres: postgres::Postgres,
    /// Jobs, attempts and batches.
    pub jobs: jobs::Jobs,
    /// How the environments stand that this replica sends for.
    pub upstream: upstream::Upstream,
    /// This replica among the others.
    pub replica: replica::Replica,
    /// Who may do what, and what proves it.
    pub security: security::Security,
}

/// The instruments. Those asked for before [`init`](super::init) measure nothing.
pub fn metrics() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| Instruments::new(&opentelemetry::global::meter_with_scope(otlp::scope())))
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        process::observe(meter);
        dropped::observe(meter);
        Self {
            calls: calls::Calls::new(meter),
            requests: requests::Requests::new(meter),
            postgres: postgres::Postgres::new(meter),
            jobs: jobs::Jobs::new(meter),
            upstream: upstream::Upstream::new(meter),
            replica: replica::Replica::new(meter),
            security: security::Security::new(meter),
        }
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

/// What the admin port shows.
static SHOWN: OnceLock<Registry> = OnceLock::new();

/// All metrics as Prometheus reads them; nothing where nothing is measured.
#[must_use]
pub fn exposition() -> Option<String> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&SHOWN.get()?.gather(), &mut text).ok()?;
    String::from_utf8(text).ok()
}

impl Metrics {
    /// What the `OTEL_*` variables ask for. An exporter's headers, timeout, interval and the like it reads itself.
    #[must_use]
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        match Destination::of(Signal::Metrics, variable) {
            Destination::Disabled => Self::Disabled,
            Destination::Nowhere => Self::Shown,
            Destination::Unusable(why) => Self::Unusable(why),
            Destination::Collector(address) => Self::Sent(address),
        }
    }

    /// Starts to measure for the whole process.
    pub(super) fn start(
        &self,
        resource: Resource,
    ) -> Result<Option<SdkMeterProvider>, super::TelemetryError> {
        if *self == Self::Disabled {
            return Ok(None);
        }
        let registry = Registry::new();
        // The scope is the same for all: it would be three labels more on every line.
        let shown = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()?;
        let mut provider = SdkMeterProvider::builder().with_resource(resource).with_reader(shown);
        if let Self::Sent(endpoint) = self {
            provider = provider.with_reader(
                PeriodicReader::builder(Counted { inner: exporter(endpoint)?, tally: &dropped::PUSHES })
                    .build(),
            );
        }
        let provider = provider.build();
        opentelemetry::global::set_meter_provider(provider.clone());
        let _ = SHOWN.set(registry);
        // Their gauges are there from the start.
        metrics();
        Ok(Some(provider))
    }
}

fn exporter(endpoint: &str) -> Result<MetricExporter, ExporterBuildError> {
    MetricExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_tls_config(ClientTlsConfig::new().with_enabled_roots())
        .build()
}
