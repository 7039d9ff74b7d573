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

/// For people: the ids follow the fields. Whether it has colours, the format itself has to know.
pub(super) struct Text(pub(super) Format<Full>);

/// For programs: the ids are two fields more.
pub(super) struct Object(pub(super) Format<Json>);

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(span) = current() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let (trace_id, span_id) = (span.trace_id(), span.span_id());
        writeln!(writer, "{} trace_id={trace_id} span_id={span_id}", line.trim_end_matches('\n'))
    }
}

impl<S, N> FormatEvent<S, N> for Object
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(span) = current() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let (trace_id, span_id) = (span.trace_id(), span.span_id());
        match line.trim_end_matches('\n').strip_suffix('}') {
            Some(fields) => {
                writeln!(writer, r#"{fields},"trace_id":"{trace_id}","span_id":"{span_id}"}}"#)
            }
            None => writer.write_str(&line),
        }
    }
}

/// The span that is entered, where it has a context. Spans of callers are never entered here.
fn current() -> Option<SpanContext> {
    opentelemetry::Context::map_current(|context| {
        context.has_active_span().then(|| context.span().span_context().clone())
    })
    .filter(SpanContext::is_valid)
}
