//! Spans of what is not one job alone: groups, batches, calls that nobody serves.

use std::{collections::HashSet, process::Stdio, time::Duration};

use pingone_unblock::simulator;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    Result,
    bulk::{Bulk, header, rows},
    database::Database,
    otlp::{scopes, spans, text},
    process::Process,
    receiver::Receiver,
    service::{PingOne, eventually, request, some_device, wire},
};

/// More links than that say nothing more.
const LINKS_AT_MOST: usize = 32;

struct World {
    receiver: Receiver,
    process: Process,
    _pingone: PingOne,
    _database: Database,
}

impl World {
    async fn start() -> Result<Option<Self>> {
        let Some(receiver) = Receiver::start().await? else { return Ok(None) };
        let database = Database::create().await?;
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let collector = format!("http://{}", receiver.address);
        let settings = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BLRP_SCHEDULE_DELAY", "50"),
            // With what the exporters' own connections say.
            ("UNBLOCK_LOG", "trace"),
        ];
        let process = Process::serve_writing(database.url(), &pingone, &settings, Stdio::null()).await?;
        Ok(Some(Self { receiver, process, _pingone: pingone, _database: database }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_has_no_name_of_its_own_and_is_an_error() -> Result<()> {
    let Some(mut world) = World::start().await? else { return Ok(()) };
    let mut client = tonic::client::Grpc::new(world.process.channel()?);
    tokio::time::timeout(Duration::from_secs(20), client.ready()).await??;
    let path = http::uri::PathAndQuery::from_static("/pingone.device.v1.DeviceService/Nonsense");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let refused = client.unary(tonic::Request::new(()), path, codec).await.err().ok_or("it is known")?;
    assert_eq!(refused.code(), Code::Unimplemented);
    let mut seen = Vec::new();
    eventually("the call is told", async || {
        seen = spans(&world.receiver.received()?);
        Ok(!seen.is_empty())
    })
    .await?;
    let [call] = seen.as_slice() else { return Err(format!("{seen:?}").into()) };
    assert_eq!((call.name.as_str(), call.failed), ("_OTHER", true));
    assert_eq!(call.attributes["error.type"], "UNIMPLEMENTED");
    let named = refused.get_error_details().request_info().map(|info| info.request_id.clone());
    assert_eq!(named, Some(call.trace.clone()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_for_several_jobs_is_linked_to_each_and_the_child_of_none() -> Result<()> {
    let Some(mut world) = World::start().await? else { return Ok(()) };
    let mut groups = Vec::new();
    eventually("calls are recorded together", async || {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (mut devices, asked) = (world.process.devices()?, request(wire(&some_device()?)));
            calls.spawn(async move { devices.unblock(asked).await });
        }
        while let Some(answered) = calls.join_next().await {
            answered??;
        }
        let all = spans(&world.receiver.received()?);
        groups = all
            .iter()
            .filter(|span| span.attributes.contains_key("db.operation.batch.size"))
            .cloned()
            .collect();
        Ok(groups.iter().any(|span| span.name == "submit"))
    })
    .await?;
    for group in &groups {
        let size: usize = group.attributes["db.operation.batch.size"].parse()?;
        assert!(size > 1 && group.parent.is_empty(), "{group:?}");
        assert_eq!(group.links.len(), size.min(LINKS_AT_MOST), "{group:?}");
    }
    let received = world.receiver.received()?;
    let scopes = scopes(&received, "log_requests", "resourceLogs", "scopeLogs");
    let speakers: HashSet<String> = scopes.iter().map(|(_, scope)| text(&scope["scope"]["name"])).collect();
    assert!(!speakers.is_empty());
    let foreign: Vec<_> = speakers.iter().filter(|name| !name.starts_with("pingone_unblock")).collect();
    assert!(foreign.is_empty(), "of what the exporters say nothing is sent: {foreign:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_batch_are_linked_to_its_upload_and_have_no_spans_of_their_own_in_it() -> Result<()> {
    const ROWS: usize = 5;
    let Some(mut world) = World::start().await? else { return Ok(()) };
    let bulk = Bulk::over(&world.process.channel()?, header());
    let (mut upload, _) = bulk.open().await?;
    upload.targets(0, &rows(ROWS)).await?;
    upload.seal(ROWS).await?;
    drop(upload);
    let mut all = Vec::new();
    eventually("all is told", async || {
        all = spans(&world.receiver.received()?);
        let ended = all.iter().filter(|span| span.kind == "CONSUMER").count();
        Ok(ended == ROWS && all.iter().any(|span| span.name.ends_with("/BulkUnblock")))
    })
    .await?;
    let call = all.iter().find(|span| span.name.ends_with("/BulkUnblock")).ok_or("no call")?;
    assert_eq!((call.kind.as_str(), call.failed), ("SERVER", false));
    assert!(all.iter().all(|span| span.kind != "PRODUCER"), "{all:#?}");
    assert!(all.iter().filter(|span| span.trace == call.trace).count() < ROWS, "{all:#?}");
    for attempt in all.iter().filter(|span| span.kind == "CONSUMER") {
        assert_eq!(attempt.links, std::slice::from_ref(&call.id));
    }
    Ok(())
}
