//! What a real process shows to Prometheus.

use std::collections::BTreeMap;

use pingone_unblock::{
    proto::v1::{UnblockRequest, job::State},
    simulator::{self, Fault},
};

use crate::harness::{
    Result,
    database::Database,
    process::Process,
    service::{ENVIRONMENT, PingOne, eventually, request_without_wait, some_device, wire},
};

/// One line of what is shown: name and labels as written, and the value.
type Shown = BTreeMap<String, f64>;

async fn scrape(process: &Process) -> Result<Shown> {
    let text = reqwest::get(process.admin_url("metrics")).await?.error_for_status()?.text().await?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').ok_or("a line without a value")?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

/// The sum of all lines of `name` whose labels hold all of `labels`.
fn sum(shown: &Shown, name: &str, labels: &[&str]) -> f64 {
    let of =
        |line: &str| line.split('{').next() == Some(name) && labels.iter().all(|label| line.contains(label));
    shown.iter().filter(|(line, _)| of(line)).map(|(_, value)| value).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_retry_is_counted_once_in_each_place() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let process = Process::serve_with(database.url(), &pingone, &[("UNBLOCK_RETRY_FIRST", "10ms")]).await?;
    let device = some_device()?;
    pingone.simulator.fault(device.device, [Fault::status(503)]);
    let request = UnblockRequest { request_id: "once".to_owned(), ..request_without_wait(wire(&device)) };
    let job = process.devices()?.unblock(request.clone()).await?.into_inner().job.ok_or("no job")?;
    eventually("it succeeds", async || Ok(process.job(&job.job_id).await?.state() == State::Succeeded))
        .await?;
    process.devices()?.unblock(request).await?;
    let refused = process.devices()?.unblock(UnblockRequest::default()).await;
    assert!(refused.is_err());

    eventually("all is counted", async || {
        let shown = scrape(&process).await?;
        Ok(sum(&shown, "unblock_jobs_finished_total", &["succeeded", "interactive"]) >= 1.0
            && sum(&shown, "unblock_upstream_blocked", &[ENVIRONMENT]) == 0.0
            // Read every second, the owner's last look may be older than the end of the job.
            && sum(&shown, "unblock_queue_jobs", &[ENVIRONMENT]) == 0.0
            && shown.keys().any(|line| line.starts_with("unblock_upstream_blocked")))
    })
    .await?;
    let shown = scrape(&process).await?;
    let unblock = "rpc_method=\"pingone.device.v1.DeviceService/Unblock\"";
    for (name, labels, expected) in [
        ("unblock_jobs_accepted_total", &["created", "interactive"][..], 1.0),
        ("unblock_jobs_accepted_total", &["repeated", "interactive"], 1.0),
        ("unblock_jobs_finished_total", &[], 1.0),
        ("unblock_job_duration_seconds_count", &["succeeded"], 1.0),
        ("unblock_job_time_to_send_seconds_count", &[], 2.0),
        ("unblock_attempts_total", &[ENVIRONMENT, "\"ok\"", "\"unblock\""], 1.0),
        ("unblock_attempts_total", &[ENVIRONMENT, "\"ok\"", "\"read\""], 1.0),
        ("unblock_attempts_total", &[ENVIRONMENT, "UPSTREAM_UNAVAILABLE"], 1.0),
        ("http_client_request_duration_seconds_count", &["\"503\"", "POST", "/devices/{deviceId}"], 1.0),
        ("http_client_request_duration_seconds_count", &["\"200\"", "/as/token"], 1.0),
        ("rpc_server_call_duration_seconds_count", &[unblock, "\"OK\""], 2.0),
        ("rpc_server_call_duration_seconds_count", &[unblock, "\"INVALID_ARGUMENT\""], 1.0),
        ("unblock_rpc_refused_total", &[unblock, "FIELD_INVALID"], 1.0),
        ("unblock_rpc_in_progress", &[], 0.0),
        ("unblock_queue_jobs", &[ENVIRONMENT], 0.0),
        ("unblock_lanes_owned", &[], 256.0),
        ("unblock_replicas", &[], 1.0),
        ("unblock_postgres_up", &[], 1.0),
        ("unblock_token_refreshes_total", &["\"ok\""], 1.0),
        ("db_client_connection_max", &["engine"], 12.0),
    ] {
        assert_eq!(sum(&shown, name, labels), expected, "{name} {labels:?} of {shown:#?}");
    }
    for (name, labels) in [
        ("db_client_operation_duration_seconds_count", &["\"submit\""][..]),
        ("unblock_commit_size_count", &["\"complete\""]),
        ("unblock_token_expires_in_seconds", &[]),
        ("process_memory_usage_bytes", &[]),
        ("process_cpu_time_seconds_total", &[]),
        ("tokio_runtime_busy_seconds_total", &[]),
        ("target_info", &["service_name=\"pingone-unblock\"", "service_instance_id"]),
    ] {
        assert!(sum(&shown, name, labels) > 0.0, "{name} {labels:?} of {shown:#?}");
    }
    for secret in [device.user.to_string(), device.device.to_string()] {
        assert!(!shown.keys().any(|line| line.contains(&secret)), "who it is about is nobody's label");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_caller_made_up_is_no_label() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let process = Process::serve(database.url(), &pingone).await?;
    let mut client = tonic::client::Grpc::new(process.channel()?);
    for number in 0..3 {
        client.ready().await?;
        let path = http::uri::PathAndQuery::try_from(format!("/made.Up/Number{number}"))?;
        let codec = tonic_prost::ProstCodec::<UnblockRequest, UnblockRequest>::default();
        let answer = client.unary(tonic::Request::new(UnblockRequest::default()), path, codec).await;
        assert_eq!(answer.err().map(|status| status.code()), Some(tonic::Code::Unimplemented));
    }
    let shown = scrape(&process).await?;
    let other = &["rpc_method=\"_OTHER\"", "error_type=\"UNIMPLEMENTED\""];
    assert_eq!(sum(&shown, "rpc_server_call_duration_seconds_count", other), 3.0);
    assert!(!shown.keys().any(|line| line.contains("made.Up")), "{shown:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shown_where_telemetry_is_disabled() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let process = Process::serve_with(database.url(), &pingone, &[("OTEL_SDK_DISABLED", "true")]).await?;
    let answer = reqwest::get(process.admin_url("metrics")).await?;
    assert_eq!(answer.status(), reqwest::StatusCode::NOT_FOUND);
    assert!(answer.text().await?.contains("OTEL_SDK_DISABLED"), "it says what to do");
    Ok(())
}
