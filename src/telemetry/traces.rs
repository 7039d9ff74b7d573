//! Traces over OTLP, and W3C trace contexts in and out. Spans have contexts whether or not they are sent anywhere, so that a
//! caller's trace reaches PingOne through a server that sends none itself; where nothing came and nothing is sent, there is no span.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::{
    ExporterBuildError, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchSpanProcessor, SdkTracerProvider},
};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    registry::LookupSpan,
};

use super::{
    SPANS,
    dropped::{self, Bounded, Counted, queue_size},
    otlp::{self, Destination, Signal},
};

const TRACE_PARENT: &str = "traceparent";

/// Where traces go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Traces {
    /// Spans have no contexts at all.
    Disabled,
    /// Spans have contexts, which are passed on; none is sent.
    #[default]
    Kept,
    /// As [`Self::Kept`], though they were to be sent: this is why.
    Unusable(String),
    /// Spans are sent to the collector at this address, over gRPC.
    Sent(String),
}

impl Traces {
    /// What the `OTEL_*` variables ask for. An exporter's headers, timeout and the like it reads itself.
    #[must_use]
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        match Destination::of(Signal::Traces, variable) {
            Destination::Disabled => Self::Disabled,
            Destination::Nowhere => Self::Kept,
            Destination::Unusable(why) => Self::Unusable(why),
            Destination::Collector(endpoint) => Self::Sent(endpoint),
        }
    }

    pub(super) fn provider(
        &self,
        resource: &Resource,
    ) -> Result<Option<SdkTracerProvider>, ExporterBuildError> {
        let provider = SdkTracerProvider::builder().with_resource(resource.clone());
        Ok(match self {
            Self::Disabled => None,
            Self::Kept | Self::Unusable(_) => Some(provider.build()),
            Self::Sent(endpoint) => {
                let exporter = SpanExporter::builder()
                    .with_tonic()
                    .with_endpoint(endpoint)
                    .with_tls_config(ClientTlsConfig::new().with_enabled_roots())
                    .build()?;
                let inner =
                    BatchSpanProcessor::builder(Counted { inner: exporter, tally: &dropped::SPANS }).build();
                let at_most = queue_size("OTEL_BSP_MAX_QUEUE_SIZE");
                let processor = Bounded { inner, tally: &dropped::SPANS, at_most };
                Some(provider.with_span_processor(processor).build())
            }
        })
    }
}

pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // Spans made for it and nothing else: events are log records, and the exporter's own spans would make more without end.
    // By target and level alone: that is settled once for each place in the code, not each time it is come by.
    let own = Targets::new().with_target(SPANS, LevelFilter::INFO);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(otlp::scope()))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_filter(own)
}

/// The place of a span in its trace, to be named as a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracePoint(Box<SpanContext>);

impl TracePoint {
    /// Of that span; nothing where it has no context.
    #[must_use]
    pub fn of(span: &Span) -> Option<Self> {
        if span.is_none() {
            return None;
        }
        let context = span.context().span().span_context().clone();
        context.is_valid().then(|| Self(Box::new(context)))
    }

    /// That a W3C `traceparent` names.
    #[must_use]
    pub fn parse(trace_parent: &str) -> Option<Self> {
        let carrier = HashMap::from([(TRACE_PARENT.to_owned(), trace_parent.to_owned())]);
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        let context = context.span().span_context().clone();
        context.is_valid().then(|| Self(Box::new(context)))
    }

    /// As a W3C `traceparent`.
    #[must_use]
    pub fn trace_parent(&self) -> String {
        let context = &self.0;
        format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8() & 1)
    }

    /// Names it as a cause of `span`, not as its parent.
    pub(super) fn link(&self, span: &Span) {
        span.add_link((*self.0).clone());
    }

    /// Makes `span`, which must not have been entered yet, its child.
    pub(super) fn adopt(&self, span: &Span) {
        // Fails only where no layer gives spans contexts: then there is nothing to continue.
        let _ = span.set_parent(Context::new().with_remote_span_context((*self.0).clone()));
    }
}

/// The current trace, for people to name it by; nothing where no span has a context.
#[must_use]
pub fn trace_id() -> Option<String> {
    Context::map_current(|context| {
        let context = context.span().span_context().clone();
        context.is_valid().then(|| context.trace_id().to_string())
    })
}

/// The current span's W3C `traceparent`, to keep with a job or send along; nothing where no span has a context.
#[must_use]
pub fn trace_parent_of_current_span() -> Option<String> {
    TracePoint::of(&Span::current()).map(|place| place.trace_parent())
}

/// Whether spans are sent anywhere.
static SENT: AtomicBool = AtomicBool::new(false);

pub(super) fn sent(sent: bool) {
    SENT.store(sent, Ordering::Relaxed);
}

/// Whether spans are sent anywhere. Those that no context has to pass through are made only then.
#[must_use]
pub fn sends_spans() -> bool {
    SENT.load(Ordering::Relaxed)
}

/// Whether a span is worth its cost: it is sent, or it carries on a context that came with `trace_parent`.
#[must_use]
pub(super) fn wants_span(trace_parent: bool) -> bool {
    trace_parent || sends_spans()
}

/// Whether these headers carry a context.
pub(super) fn has_context(headers: &http::HeaderMap) -> bool {
    headers.contains_key(TRACE_PARENT)
}

/// Makes `span`, which must not have been entered yet, a child of the caller's span that `headers` name. Without one it stays a
/// root.
pub(super) fn continue_from(span: &Span, headers: &http::HeaderMap) {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    if context.span().span_context().is_valid() {
        // Fails only where no layer gives spans contexts: then there is nothing to continue.
        let _ = span.set_parent(context);
    }
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
