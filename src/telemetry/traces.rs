//! Traces over OTLP, and W3C trace contexts in and out. Spans have contexts whether or not they are sent anywhere, so that a
//! caller's trace reaches PingOne through a server that sends none itself; where nothing came and nothing is sent, there is no span.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

const TRACE_PARENT: &str = "traceparent";
/// Spans of this crate only: those of the exporter's own connection would make more spans without end.
const OWN_TARGET: &str = "pingone_unblock";

/// Where traces go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Traces {
    /// Spans have no contexts at all.
    Disabled,
    /// Spans have contexts, which are passed on; none is sent.
    #[default]
    Kept,
    /// Spans are sent to the collector at this address, over gRPC.
    Sent(String),
}

impl Traces {
    /// What the `OTEL_*` variables ask for. An exporter's headers, timeout and the like it reads itself.
    #[must_use]
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        match super::endpoint(variable, "TRACES") {
            super::Endpoint::Disabled => Self::Disabled,
            super::Endpoint::Nowhere => Self::Kept,
            super::Endpoint::At(address) => Self::Sent(address),
        }
    }

    pub(super) fn provider(
        &self,
        resource: Resource,
    ) -> Result<Option<SdkTracerProvider>, ExporterBuildError> {
        let provider = SdkTracerProvider::builder().with_resource(resource);
        Ok(match self {
            Self::Disabled => None,
            Self::Kept => Some(provider.build()),
            Self::Sent(endpoint) => {
                let exporter = SpanExporter::builder()
                    .with_tonic()
                    .with_endpoint(endpoint)
                    .with_tls_config(ClientTlsConfig::new().with_enabled_roots())
                    .build()?;
                Some(provider.with_batch_exporter(exporter).build())
            }
        })
    }
}

pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let own = filter_fn(|about| about.target().starts_with(OWN_TARGET) && *about.level() <= Level::INFO);
    tracing_opentelemetry::layer().with_tracer(provider.tracer(super::SERVICE)).with_filter(own)
}

/// The current span's W3C `traceparent`, to keep with a job or send along; nothing where no span has a context.
#[must_use]
pub fn trace_parent_of_current_span() -> Option<String> {
    if Span::current().is_none() {
        return None;
    }
    let mut headers = std::collections::HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    headers.remove(TRACE_PARENT)
}

/// Whether spans are sent anywhere.
static SENT: AtomicBool = AtomicBool::new(true);

pub(super) fn sent(sent: bool) {
    SENT.store(sent, Ordering::Relaxed);
}

/// Whether a span is worth its cost: it is sent, or it carries on a context that came with `trace_parent`.
#[must_use]
pub fn wants_span(trace_parent: bool) -> bool {
    trace_parent || SENT.load(Ordering::Relaxed)
}

/// Whether these headers carry a context.
#[must_use]
pub fn has_context(headers: &http::HeaderMap) -> bool {
    headers.contains_key(TRACE_PARENT)
}

/// Makes `span`, which must not have been entered yet, a child of the caller's span that `headers` name. Without one it stays a
/// root.
pub fn continue_from(span: &Span, headers: &http::HeaderMap) {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    if context.span().span_context().is_valid() {
        // Fails only where no layer gives spans contexts: then there is nothing to continue.
        let _ = span.set_parent(context);
    }
}

/// Links `span` to the span that `trace_parent` names: its cause, not its parent. Does nothing where that is no `traceparent`.
pub fn link_to(span: &Span, trace_parent: &str) {
    let carrier = std::collections::HashMap::from([(TRACE_PARENT.to_owned(), trace_parent.to_owned())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    span.add_link(context.span().span_context().clone());
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests;
