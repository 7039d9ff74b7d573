//! What a log line looks like: `tracing-subscriber`'s own formats, and at the end which trace and span it was written in.
//!
//! Not a crate for JSON alone: lines for people are to say it too.

use std::fmt;

use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, Writer},
    },
    registry::LookupSpan,
};

/// A format whose lines say at their end which trace and span they were written in.
pub(super) struct Traced<F> {
    format: Format<F>,
    say: fn(&str, &SpanContext) -> Option<String>,
}

/// For people: the ids follow the fields. Whether it has colours, the format itself has to know.
pub(super) const fn text(format: Format<Full>) -> Traced<Full> {
    let say = |line: &str, span: &SpanContext| {
        Some(format!("{line} trace_id={} span_id={}", span.trace_id(), span.span_id()))
    };
    Traced { format, say }
}

/// For programs: the ids are two fields more.
pub(super) const fn object(format: Format<Json>) -> Traced<Json> {
    let say = |line: &str, span: &SpanContext| {
        let (fields, trace, span) = (line.strip_suffix('}')?, span.trace_id(), span.span_id());
        Some(format!(r#"{fields},"trace_id":"{trace}","span_id":"{span}"}}"#))
    };
    Traced { format, say }
}

impl<F, S, N> FormatEvent<S, N> for Traced<F>
where
    Format<F>: FormatEvent<S, N>,
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(span) = current() else { return self.format.format_event(context, writer, event) };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        writeln!(writer, "{}", (self.say)(line, &span).as_deref().unwrap_or(line))
    }
}

/// The span that is entered, where it has a context. Spans of callers are never entered here.
fn current() -> Option<SpanContext> {
    opentelemetry::Context::map_current(|context| {
        context.has_active_span().then(|| context.span().span_context().clone())
    })
    .filter(SpanContext::is_valid)
}
