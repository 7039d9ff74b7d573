//! What a receiver of telemetry got, as OTLP has it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Result;

/// A span as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) links: Vec<String>,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) failed: bool,
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

pub(crate) fn attributes(of: &Value) -> BTreeMap<String, String> {
    let written = |value: &Value| match value.as_object().and_then(|value| value.values().next()) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    list(of, "attributes").map(|pair| (text(&pair["key"]), written(&pair["value"]))).collect()
}

/// Every request of a signal, as OTLP has it: resource, then scope.
pub(crate) fn scopes<'a>(
    received: &'a Value,
    signal: &str,
    resources: &str,
    scopes: &str,
) -> Vec<(&'a Value, &'a Value)> {
    let requests = list(received, signal).map(|request| &request["pbreq"]);
    let resources = requests.flat_map(|request| list(request, resources));
    resources.flat_map(|resource| list(resource, scopes).map(move |scope| (resource, scope))).collect()
}

pub(crate) fn spans(received: &Value) -> Vec<Span> {
    let scopes = scopes(received, "trace_requests", "resourceSpans", "scopeSpans");
    let spans = scopes.into_iter().flat_map(|(_, scope)| list(scope, "spans"));
    let read = |span: &Value| Span {
        name: text(&span["name"]),
        kind: text(&span["kind"]).replace("SPAN_KIND_", ""),
        trace: text(&span["traceId"]),
        id: text(&span["spanId"]),
        parent: text(&span["parentSpanId"]),
        links: list(span, "links").map(|link| text(&link["spanId"])).collect(),
        attributes: attributes(span),
        failed: span["status"]["code"] == "STATUS_CODE_ERROR",
    };
    spans.map(read).collect()
}

/// The one of that name in the trace of `of`.
pub(crate) fn one<'a>(spans: &'a [Span], name: &str, parent: &Span) -> Result<&'a Span> {
    let mut found = spans.iter().filter(|span| span.name == name && span.parent == parent.id);
    let span = found.next().ok_or_else(|| format!("no {name} under {}: {spans:#?}", parent.name))?;
    assert!(found.next().is_none(), "two of {name} under {}", parent.name);
    assert_eq!(span.trace, parent.trace);
    Ok(span)
}

/// The points of an instrument, whatever its kind.
pub(crate) fn points(metric: &Value) -> impl Iterator<Item = &Value> {
    ["gauge", "sum", "histogram"].into_iter().flat_map(|kind| list(&metric[kind], "dataPoints"))
}
