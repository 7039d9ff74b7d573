//! Contexts in and out.

use std::error::Error;

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

type Outcome = Result<(), Box<dyn Error>>;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn headers() -> Result<http::HeaderMap, Box<dyn Error>> {
    let caller = format!("00-{TRACE}-00f067aa0ba902b7-01").parse()?;
    Ok(http::HeaderMap::from_iter([(http::HeaderName::from_static(TRACE_PARENT), caller)]))
}

/// Runs `act` where spans have contexts as `traces` asks for.
fn within<T>(traces: &Traces, act: impl FnOnce() -> T) -> Result<T, ExporterBuildError> {
    let provider = traces.provider(&otlp::resource())?;
    let subscriber = tracing_subscriber::registry().with(provider.as_ref().map(layer));
    Ok(tracing::subscriber::with_default(subscriber, act))
}

#[test]
fn a_callers_trace_goes_on_in_a_span_and_out_of_it() -> Outcome {
    let headers = headers()?;
    let parent = within(&Traces::Kept, || {
        let span = tracing::info_span!(target: SPANS, "call");
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
    let parent = within(&Traces::Kept, || {
        let span = tracing::info_span!(target: SPANS, "attempt");
        TracePoint::parse(&caller).expect("it is a traceparent").link(&span);
        span.in_scope(trace_parent_of_current_span)
    })?;
    assert!(parent.is_some_and(|parent| !parent.contains(TRACE)));
    Ok(())
}

#[test]
fn a_traceparent_is_written_as_it_is_read_and_nothing_else_is_one() {
    for sampled in ["00", "01"] {
        let text = format!("00-{TRACE}-00f067aa0ba902b7-{sampled}");
        assert_eq!(TracePoint::parse(&text).map(|point| point.trace_parent()), Some(text));
    }
    for wrong in ["nonsense", "", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"] {
        assert_eq!(TracePoint::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn without_traces_there_is_no_context() -> Outcome {
    let headers = headers()?;
    let parent = within(&Traces::Disabled, || {
        let span = tracing::info_span!(target: SPANS, "call");
        continue_from(&span, &headers);
        span.in_scope(trace_parent_of_current_span)
    })?;
    assert_eq!(parent, None);
    Ok(())
}

#[tokio::test]
async fn a_collector_over_https_needs_nothing_more() -> Outcome {
    // The process's provider, as main installs it; another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    assert!(
        Traces::Sent("https://collector.example.com:4317".to_owned()).provider(&otlp::resource())?.is_some()
    );
    Ok(())
}
