//! What reaches a receiver that nobody here wrote, of one job that is tried twice.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
};

use pingone_unblock::{
    device::DeviceId,
    simulator::{self, Fault},
    telemetry::names,
};
use rustix::process::Signal;
use serde_json::Value;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Result,
    database::Database,
    otlp::{Span, attributes, list, one, points, scopes, spans, text},
    process::Process,
    receiver::Receiver,
    service::{DEVICE, ENVIRONMENT, PingOne, USER, eventually, example_device, request},
};

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const METHOD: &str = "pingone.device.v1.DeviceService/Unblock";
const DEVICE_PATH: &str = "/environments/{environmentId}/users/{userId}/devices/{deviceId}";

/// One job whose first POST meets a 503, asked for within a caller's trace; and what was received of it once all ended.
struct Story {
    receiver: Receiver,
    pingone: PingOne,
    job: String,
    refused: tonic::Status,
    log: String,
}

impl Story {
    async fn told() -> Result<Option<Self>> {
        let Some(receiver) = Receiver::start().await? else { return Ok(None) };
        let database = Database::create().await?;
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let collector = format!("http://{}", receiver.address);
        let log = tempfile::NamedTempFile::new()?;
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
            ("UNBLOCK_LOG", "info"),
            ("UNBLOCK_LOG_FORMAT", "json"),
            ("UNBLOCK_RETRY_FIRST", "50ms"),
        ];
        let process =
            Process::serve_writing(database.url(), &pingone, &settings, File::create(log.path())?).await?;
        pingone.simulator.fault(DeviceId::parse(DEVICE)?, [Fault::status(503)]);

        let mut asked = tonic::Request::new(request(example_device()));
        asked.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse()?);
        let job = process.devices()?.unblock(asked).await?.into_inner().job.ok_or("no job")?.job_id;
        let refused = process.devices()?.unblock(request(Default::default())).await;
        let refused = refused.err().ok_or("a device without ids was taken")?;
        process.signal(Signal::TERM)?;
        assert!(process.end().await?.success());
        let log = std::fs::read_to_string(log.path())?;
        let mut story = Self { receiver, pingone, job, refused, log };
        story.arrived().await?;
        Ok(Some(story))
    }

    /// The collector hands on in its own time: what was flushed at the end is there when the last line is.
    async fn arrived(&mut self) -> Result<()> {
        eventually("all has arrived", async || {
            let received = self.receiver.received()?;
            let ended = spans(&received).iter().any(|span| span.name == "complete_succeeded");
            let counted = received["metric_requests"].to_string().contains("unblock.jobs.finished");
            Ok(ended && counted && received["log_requests"].to_string().contains("\"drained\""))
        })
        .await
    }
}

/// Whether the span has just these attributes.
fn has(span: &Span, kind: &str, expected: &[(&str, &str)]) {
    assert_eq!(span.kind, kind, "{}", span.name);
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(span.attributes, expected, "{}", span.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_tried_twice_is_told_to_a_receiver_nobody_here_wrote() -> Result<()> {
    let Some(mut story) = Story::told().await? else { return Ok(()) };
    let received = story.receiver.received()?;
    let all = spans(&received);
    a_call_and_what_it_records(&all, &story)?;
    attempts_are_traces_of_their_own(&all, &story)?;
    nothing_unknown_is_said(&received, &all);
    log_records_name_their_spans(&received, &all, &story)?;
    an_error_names_its_trace(&all, &story)?;
    metrics_tell_of_it_too(&received)?;
    Ok(())
}

fn a_call_and_what_it_records(all: &[Span], story: &Story) -> Result<()> {
    let call = all.iter().find(|span| span.trace == TRACE && span.parent == CALLER);
    let call = call.ok_or_else(|| format!("no call: {all:#?}"))?;
    assert_eq!((call.name.as_str(), call.failed), (METHOD, false));
    let port = call.attributes["server.port"].clone();
    has(
        call,
        "SERVER",
        &[
            ("rpc.system.name", "grpc"),
            ("rpc.method", METHOD),
            ("rpc.response.status_code", "OK"),
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
        ],
    );
    let submitted = one(all, "submit unblock_jobs", call)?;
    has(
        submitted,
        "PRODUCER",
        &[
            ("messaging.system", "pingone_unblock"),
            ("messaging.destination.name", "unblock_jobs"),
            ("messaging.operation.name", "submit"),
            ("messaging.operation.type", "send"),
            ("messaging.message.id", &story.job),
            ("unblock.environment.id", ENVIRONMENT),
        ],
    );
    let submit = one(all, "submit", submitted)?;
    has(submit, "CLIENT", &[("db.system.name", "postgresql"), ("db.operation.name", "submit")]);
    // How often the call looks at its job depends on when it is told to; a first attempt may be claimed with the job.
    let mut others: Vec<&Span> = all.iter().filter(|span| span.trace == TRACE).collect();
    others.retain(|span| ![&call.id, &submitted.id, &submit.id].contains(&&span.id));
    for span in others {
        match span.name.as_str() {
            "find_job" => assert_eq!(span.parent, call.id),
            "claim" => assert_eq!(span.parent, submitted.id),
            other => panic!("what is {other}?"),
        }
    }
    assert!(all.iter().any(|span| span.name == "claim"), "the second attempt was claimed");
    Ok(())
}

fn attempts_are_traces_of_their_own(all: &[Span], story: &Story) -> Result<()> {
    let submitted = all.iter().find(|span| span.kind == "PRODUCER").ok_or("no producer")?;
    let attempt = |number: &str| {
        let found =
            all.iter().find(|span| span.attributes.get("unblock.attempt").is_some_and(|at| at == number));
        found.ok_or_else(|| format!("no attempt {number}: {all:#?}"))
    };
    let (first, second) = (attempt("1")?, attempt("2")?);
    let common = |number, outcome| {
        vec![
            ("messaging.system", "pingone_unblock"),
            ("messaging.destination.name", "unblock_jobs"),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.message.id", story.job.as_str()),
            ("unblock.environment.id", ENVIRONMENT),
            ("unblock.attempt", number),
            ("unblock.outcome", outcome),
        ]
    };
    let failed = ("error.type", "UPSTREAM_UNAVAILABLE");
    has(first, "CONSUMER", &[common("1", "UPSTREAM_UNAVAILABLE"), vec![failed]].concat());
    has(second, "CONSUMER", &common("2", "ok"));
    assert_eq!((first.failed, second.failed), (true, false));
    assert!(first.parent.is_empty() && second.parent.is_empty());
    assert!(first.trace != TRACE && second.trace != TRACE && first.trace != second.trace);
    assert_eq!(first.links, std::slice::from_ref(&submitted.id));
    assert_eq!(second.links, [submitted.id.clone(), first.id.clone()]);

    let port = story.pingone.address.port().to_string();
    let address = [("server.address", "127.0.0.1"), ("server.port", port.as_str())];
    let request = |method, template, more: &[(&'static str, &'static str)]| {
        [&[("http.request.method", method), ("url.template", template)][..], &address[..], more].concat()
    };
    let refused = [("http.response.status_code", "503"), ("error.type", "503")];
    let well = ("http.response.status_code", "200");
    let token = "POST /{environmentId}/as/token";
    has(one(all, token, first)?, "CLIENT", &request("POST", "/{environmentId}/as/token", &[well]));
    let post = format!("POST {DEVICE_PATH}");
    let (lost, sent) = (one(all, &post, first)?, one(all, &post, second)?);
    has(lost, "CLIENT", &request("POST", DEVICE_PATH, &refused));
    assert!(lost.failed);
    has(sent, "CLIENT", &request("POST", DEVICE_PATH, &[well, ("http.request.resend_count", "1")]));
    has(one(all, &format!("GET {DEVICE_PATH}"), second)?, "CLIENT", &request("GET", DEVICE_PATH, &[well]));
    let statements = [
        (first, "complete_failed"),
        (second, "renew_claim"),
        (second, "record_reads"),
        (second, "complete_succeeded"),
    ];
    for (attempt, statement) in statements {
        has(
            one(all, statement, attempt)?,
            "CLIENT",
            &[("db.system.name", "postgresql"), ("db.operation.name", statement)],
        );
    }
    let count = |of: &Span| all.iter().filter(|span| span.trace == of.trace).count();
    assert_eq!((count(first), count(second)), (4, 6), "nothing else is in them: {all:#?}");

    let parents: Vec<String> = story
        .pingone
        .simulator
        .posts()
        .iter()
        .map(|post| post.header("traceparent").unwrap_or_default().to_owned())
        .collect();
    let of = |span: &Span| format!("00-{}-{}-01", span.trace, span.id);
    assert_eq!(parents, [of(lost), of(sent)], "PingOne is told the request's own span");
    Ok(())
}

/// Names, whose they are, and nothing of users or devices.
fn nothing_unknown_is_said(received: &Value, all: &[Span]) {
    let known: HashSet<&str> = names::ATTRIBUTES.iter().chain(names::CONVENTIONS).copied().collect();
    for span in all {
        let unknown: Vec<&String> =
            span.attributes.keys().filter(|key| !known.contains(key.as_str())).collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", span.name);
    }
    let whole = received.to_string();
    assert!(!whole.contains(USER) && !whole.contains(DEVICE), "who it was about is nobody's");
    let signals = [
        ("trace_requests", "resourceSpans", "scopeSpans"),
        ("log_requests", "resourceLogs", "scopeLogs"),
        ("metric_requests", "resourceMetrics", "scopeMetrics"),
    ];
    let mut instances = HashSet::new();
    for (signal, resources, inner) in signals {
        let scopes = scopes(received, signal, resources, inner);
        assert!(!scopes.is_empty(), "{signal}");
        for (resource, scope) in scopes {
            let of = attributes(&resource["resource"]);
            assert_eq!(of["service.name"], "pingone-unblock");
            assert_eq!(of["service.version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(of["deployment.environment.name"], "test");
            instances.insert(of["service.instance.id"].clone());
            // Of a record it is the part of the program that speaks.
            let name = text(&scope["scope"]["name"]).replace('_', "-");
            // What the SDK says of itself.
            if name == "otel.sdk" {
                continue;
            }
            assert!(name.starts_with("pingone-unblock"), "{name}");
            assert_eq!(
                (text(&scope["schemaUrl"]), text(&resource["schemaUrl"])),
                (SCHEMA.into(), SCHEMA.into())
            );
        }
    }
    assert_eq!(instances.len(), 1, "one instance, whatever it sends");
}

fn metrics_tell_of_it_too(received: &Value) -> Result<()> {
    let known: HashSet<&str> = names::ATTRIBUTES.iter().chain(names::CONVENTIONS).copied().collect();
    let scopes = scopes(received, "metric_requests", "resourceMetrics", "scopeMetrics");
    let metrics: Vec<&Value> = scopes.into_iter().flat_map(|(_, scope)| list(scope, "metrics")).collect();
    for metric in &metrics {
        let name = text(&metric["name"]);
        assert!(names::INSTRUMENTS.contains(&name.as_str()), "{name} is unknown");
        for point in points(metric) {
            let unknown: Vec<String> =
                attributes(point).into_keys().filter(|key| !known.contains(key.as_str())).collect();
            assert!(unknown.is_empty(), "{name}: {unknown:?}");
        }
    }
    for (name, unit, about, count) in [
        ("unblock.jobs.finished", "{job}", &["succeeded", "interactive"][..], 1),
        ("unblock.attempts", "{attempt}", &["UPSTREAM_UNAVAILABLE"], 1),
        ("http.client.request.duration", "s", &["503", "POST", DEVICE_PATH], 1),
        ("http.client.request.duration", "s", &["200", "GET", DEVICE_PATH], 1),
        ("rpc.server.call.duration", "s", &[METHOD, "OK"], 1),
        ("rpc.server.call.duration", "s", &[METHOD, "INVALID_ARGUMENT"], 1),
    ] {
        // The last push has them all.
        let metric = metrics.iter().rfind(|metric| metric["name"] == name);
        let metric = metric.ok_or_else(|| format!("no {name}"))?;
        assert_eq!(metric["unit"], unit, "{name}");
        let of = |point: &&Value| {
            let values: Vec<String> = attributes(point).into_values().collect();
            about.iter().all(|value| values.iter().any(|other| other == value))
        };
        let counted = |point: &Value| {
            let count = if point["count"].is_null() { &point["asInt"] } else { &point["count"] };
            text(count).parse::<u64>().unwrap_or_default()
        };
        assert_eq!(points(metric).filter(of).map(counted).sum::<u64>(), count, "{name} {about:?}: {metric}");
    }
    Ok(())
}

fn log_records_name_their_spans(received: &Value, all: &[Span], story: &Story) -> Result<()> {
    let scopes = scopes(received, "log_requests", "resourceLogs", "scopeLogs");
    let records: Vec<&Value> = scopes.into_iter().flat_map(|(_, scope)| list(scope, "logRecords")).collect();
    let attempts = all.iter().filter(|span| span.kind == "CONSUMER");
    for (attempt, level) in attempts.zip(["WARN", "INFO"]) {
        let of: Vec<&&Value> =
            records.iter().filter(|record| record["spanId"] == attempt.id.as_str()).collect();
        let [record] = of.as_slice() else { return Err(format!("not one record: {of:?}").into()) };
        assert_eq!(
            (text(&record["traceId"]), text(&record["severityText"])),
            (attempt.trace.clone(), level.into())
        );
        assert_eq!(attributes(record)["job.id"], story.job);
        assert!(record["eventName"].as_str().is_none_or(str::is_empty), "{record}");
        let lines: Vec<Value> =
            story.log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let line = lines.iter().find(|line| line["span_id"] == attempt.id.as_str()).ok_or("no line")?;
        assert_eq!((text(&line["trace_id"]), text(&line["level"])), (attempt.trace.clone(), level.into()));
        assert_eq!(line["message"], record["body"]["stringValue"]);
    }
    let foreign: Vec<_> =
        records.iter().filter(|record| !attributes(record).contains_key("job.id")).collect();
    assert!(!foreign.is_empty(), "records outside of spans are sent as well");
    Ok(())
}

fn an_error_names_its_trace(all: &[Span], story: &Story) -> Result<()> {
    let refused = &story.refused;
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    let trace = details.request_info().ok_or("no request info")?.request_id.clone();
    let call = all.iter().find(|span| span.trace == trace).ok_or("no such trace")?;
    assert_eq!(call.attributes["rpc.response.status_code"], "INVALID_ARGUMENT");
    assert!(
        !call.failed && !call.attributes.contains_key("error.type"),
        "the caller's mistake is no error of ours"
    );
    assert!(refused.details().len() < 4096);
    Ok(())
}
