//! Contexts in and out, and a collector that does not answer.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::telemetry::Telemetry;

type Outcome = Result<(), Box<dyn Error>>;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn headers() -> Result<http::HeaderMap, Box<dyn Error>> {
    let caller = format!("00-{TRACE}-00f067aa0ba902b7-01").parse()?;
    Ok(http::HeaderMap::from_iter([(http::HeaderName::from_static(TRACE_PARENT), caller)]))
}

/// Runs `act` where spans have contexts as `traces` asks for.
fn within<T>(traces: &Traces, act: impl FnOnce() -> T) -> Result<T, ExporterBuildError> {
    let provider = traces.provider(Resource::builder_empty().build())?;
    let subscriber = tracing_subscriber::registry().with(provider.as_ref().map(layer));
    Ok(tracing::subscriber::with_default(subscriber, act))
}

#[test]
fn the_variables_say_where_traces_go() {
    let asked = |given: &[(&str, &str)]| {
        let find =
            |name: &str| given.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Traces::from_variables(find)
    };
    let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:4317");
    assert_eq!(asked(&[]), Traces::Kept);
    assert_eq!(asked(&[all]), Traces::Sent("http://all:4317".to_owned()));
    assert_eq!(asked(&[all, own]), Traces::Sent("http://own:4317".to_owned()));
    assert_eq!(asked(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Traces::Kept);
    assert_eq!(asked(&[all, ("OTEL_SDK_DISABLED", "TRUE")]), Traces::Disabled);
    assert_eq!(asked(&[all, ("OTEL_SDK_DISABLED", "false"), ("OTEL_TRACES_EXPORTER", "none")]), Traces::Kept);
}

#[test]
fn a_callers_trace_goes_on_in_a_span_and_out_of_it() -> Outcome {
    let headers = headers()?;
    let parent = within(&Traces::Kept, || {
        let span = tracing::info_span!("call");
        continue_from(&span, &headers);
        span.in_scope(trace_parent_of_current_span)
    })?;
    let parent = parent.ok_or("the span has no context")?;
    assert!(parent.starts_with(&format!("00-{TRACE}-")), "{parent}");
    assert!(!parent.contains("00f067aa0ba902b7"), "a span of its own: {parent}");
    Ok(())
}

#[test]
fn a_link_does_not_join_the_trace() -> Outcome {
    let caller = format!("00-{TRACE}-00f067aa0ba902b7-01");
    for linked in [caller.as_str(), "nonsense", ""] {
        let parent = within(&Traces::Kept, || {
            let span = tracing::info_span!("attempt");
            link_to(&span, linked);
            span.in_scope(trace_parent_of_current_span)
        })?;
        assert!(parent.is_some_and(|parent| !parent.contains(TRACE)), "{linked}");
    }
    Ok(())
}

#[test]
fn without_traces_there_is_no_context() -> Outcome {
    let headers = headers()?;
    let parent = within(&Traces::Disabled, || {
        let span = tracing::info_span!("call");
        continue_from(&span, &headers);
        link_to(&span, "nonsense");
        span.in_scope(trace_parent_of_current_span)
    })?;
    assert_eq!(parent, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_does_not_answer_holds_up_nothing() -> Outcome {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let traces = Traces::Sent(format!("http://{}", silent.local_addr()?));
    let provider = traces.provider(Resource::builder_empty().build())?.ok_or("nothing is sent")?;
    let began = Instant::now();
    let subscriber = tracing_subscriber::registry().with(layer(&provider));
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..10_000 {
            tracing::info_span!("call").in_scope(|| {});
        }
    });
    Telemetry { provider: Some(provider), meters: None }.shutdown(Duration::from_millis(200)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_collector_over_https_needs_nothing_more() -> Outcome {
    // The process's provider, as main installs it; another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    assert!(
        Traces::Sent("https://collector.example.com:4317".to_owned())
            .provider(Resource::builder_empty().build())?
            .is_some()
    );
    Ok(())
}
