//! Telemetry never hurts, and what is logged can be changed.

use std::fs::{self, File};

use pingone_unblock::{proto::v1::job::State, simulator};
use rustix::process::Signal;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::harness::{
    Result,
    database::Database,
    process::Process,
    service::{PingOne, eventually, request, some_device, wire},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A service whose log is in a file.
struct Logged {
    process: Process,
    pingone: PingOne,
    log: tempfile::NamedTempFile,
    _database: Database,
}

impl Logged {
    async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let database = Database::create().await?;
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let log = tempfile::NamedTempFile::new()?;
        let file = File::options().append(true).open(log.path())?;
        let process = Process::serve_writing(database.url(), &pingone, settings, file).await?;
        Ok(Self { process, pingone, log, _database: database })
    }

    async fn unblocks(&self, devices: usize) -> Result<()> {
        for _ in 0..devices {
            let reply = self.process.devices()?.unblock(request(wire(&some_device()?))).await?.into_inner();
            assert_eq!(reply.job.ok_or("no job")?.state(), State::Succeeded);
        }
        Ok(())
    }

    /// Ends it as SIGTERM does; its log.
    async fn end(self) -> Result<String> {
        self.process.signal(Signal::TERM)?;
        assert!(self.process.end().await?.success());
        Ok(fs::read_to_string(self.log.path())?)
    }
}

/// Sends often, gives up soon.
fn to(collector: &str) -> Vec<(&str, &str)> {
    vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "10"),
        ("UNBLOCK_LOG", "info"),
        ("UNBLOCK_LOG_FORMAT", "json"),
    ]
}

async fn nothing_is_felt_of(collector: &str) -> Result<()> {
    let service = Logged::start(&to(collector)).await?;
    let losses = "were not sent to the collector";
    eventually("it is told that something is lost", async || {
        service.unblocks(1).await?;
        Ok(fs::read_to_string(service.log.path())?.contains(losses))
    })
    .await?;
    service.unblocks(20).await?;
    let log = service.end().await?;
    for what in ["spans", "log records"] {
        let told = log.lines().filter(|line| line.contains(&format!("{what} {losses}"))).count();
        assert!(told <= 1, "{told} times of {what}: {log}");
    }
    assert!(!log.contains("\"target\":\"opentelemetry"), "not of every batch: {log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_felt_of_a_collector_that_is_not_there() -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", nobody.local_addr()?);
    drop(nobody);
    nothing_is_felt_of(&address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_felt_of_a_collector_that_swallows_everything() -> Result<()> {
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    nothing_is_felt_of(&format!("http://{}", silent.local_addr()?)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_felt_of_a_collector_that_answers_errors() -> Result<()> {
    // A server of gRPC that knows no collector's methods: PingOne's simulator would speak HTTP/1 only.
    let another = Logged::start(&[]).await?;
    nothing_is_felt_of(&format!("http://{}", another.process.address())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_log_stops_nothing() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let full = File::options().write(true).open("/dev/full")?;
    let settings = [("UNBLOCK_LOG", "debug")];
    let process = Process::serve_writing(database.url(), &pingone, &settings, full).await?;
    for _ in 0..3 {
        let reply = process.devices()?.unblock(request(wire(&some_device()?))).await?.into_inner();
        assert_eq!(reply.job.ok_or("no job")?.state(), State::Succeeded);
    }
    process.signal(Signal::TERM)?;
    assert!(process.end().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_passes_through_where_nothing_is_sent_and_log_lines_name_it() -> Result<()> {
    for format in ["json", "text"] {
        let settings = [("UNBLOCK_LOG", "info"), ("UNBLOCK_LOG_FORMAT", format)];
        let service = Logged::start(&settings).await?;
        let mut asked = tonic::Request::new(request(wire(&some_device()?)));
        asked.metadata_mut().insert("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01").parse()?);
        service.process.devices()?.unblock(asked).await?;
        service.unblocks(1).await?;
        let parents: Vec<Option<String>> = service
            .pingone
            .simulator
            .posts()
            .iter()
            .map(|post| post.header("traceparent").map(ToOwned::to_owned))
            .collect();
        let [Some(parent), None] = parents.as_slice() else { return Err(format!("{parents:?}").into()) };
        assert!(parent.starts_with(&format!("00-{TRACE}-")), "{parent}");
        let log = service.end().await?;
        let unblocked: Vec<&str> = log.lines().filter(|line| line.contains("unblocked")).collect();
        let [within, without] = unblocked.as_slice() else { return Err(log.into()) };
        let named = match format {
            "json" => serde_json::from_str::<Value>(within)?["trace_id"] == TRACE,
            _ => within.contains(&format!(" trace_id={TRACE} span_id=")),
        };
        assert!(named, "{within}");
        assert!(!without.contains("trace_id"), "without a trace there is none: {without}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_changes_without_a_restart_and_goes_back_by_itself() -> Result<()> {
    let service = Logged::start(&[("UNBLOCK_LOG_FORMAT", "json")]).await?;
    let address = service.process.admin_url("log");
    let client = reqwest::Client::new();
    let put = async |query: &str, filter: &str| -> Result<(u16, String)> {
        let answer = client.put(format!("{address}{query}")).body(filter.to_owned()).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    };
    let now = async || -> Result<String> { Ok(client.get(&address).send().await?.text().await?) };
    let log = || -> Result<String> { Ok(fs::read_to_string(service.log.path())?) };

    assert_eq!(now().await?, "warn\n");
    service.unblocks(1).await?;
    assert!(!log()?.contains("\"unblocked\""));
    let (status, why) = put("", "a=b=c").await?;
    assert!(status == 400 && why.starts_with("not a filter"), "{status} {why}");
    assert_eq!(put("?for=soon", "debug").await?.0, 400);
    assert_eq!(now().await?, "warn\n", "what is wrong changes nothing");

    assert_eq!(put("", "info").await?, (200, "info\n".to_owned()));
    service.unblocks(1).await?;
    let told = log()?;
    assert!(told.contains("\"unblocked\"") && told.contains("what is logged is changed"), "{told}");
    assert!(told.contains("\"log.filter\":\"info\"") && told.contains("127.0.0.1"), "what and who: {told}");

    assert_eq!(put("?for=500ms", "error").await?.0, 200);
    assert_eq!(now().await?, "error\n");
    eventually("it goes back", async || Ok(now().await? == "info\n")).await?;
    service.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_is_not_spoken_is_told_at_the_start() -> Result<()> {
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    let service = Logged::start(&settings).await?;
    service.unblocks(1).await?;
    let log = service.end().await?;
    for signal in ["traces", "logs"] {
        assert!(log.contains(&format!("{signal} are not sent")), "{log}");
    }
    assert!(log.contains("OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf: only grpc is spoken"), "{log}");
    Ok(())
}
