//! The trail is handed out: all of it, once, the oldest first, and in OCSF as OCSF has it. That it is read is in it too.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    process::{Output, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use pingone_unblock::{
    device::EnvironmentId,
    proto::v1::{self, audit_event::Action, audit_service_client::AuditServiceClient},
};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::{Code, transport::Channel};
use uuid::Uuid;

use crate::{
    clients,
    harness::{
        Result,
        load::some_environment,
        process::command,
        service::{World, request, some_device, wire},
        trail::{id_before, write, write_some},
    },
    unblock::reason,
};

const EACH: i32 = 1_000;
/// It looks every five seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Many entries of an hour ago, in the millisecond that all of the lane share.
async fn write_many(pool: &PgPool, environment: EnvironmentId) -> Result<()> {
    let lane = environment.lane().number();
    let time = id_before(lane, Duration::from_secs(3600)).simple().to_string();
    sqlx::query(
        "insert into audit (lane, event_id, environment_id, action, caller)
         select $1, ($2 || lpad(to_hex(n), 14, '0') || lpad(to_hex($1), 2, '0'))::uuid, $3, 1,
                case when n % 100 = 0 then 'rare' else 'usual' end
         from generate_series(1, $4) n",
    )
    .bind(i32::from(lane))
    .bind(&time[..16])
    .bind(environment.as_uuid())
    .bind(EACH)
    .execute(pool)
    .await?;
    Ok(())
}

async fn client(world: &World) -> Result<AuditServiceClient<Channel>> {
    Ok(AuditServiceClient::connect(format!("http://{}", world.service.address)).await?)
}

/// All pages of a list.
async fn list(world: &World, mut request: v1::ListAuditEventsRequest) -> Result<Vec<v1::AuditEvent>> {
    let mut client = client(world).await?;
    let mut all = Vec::new();
    loop {
        let page = client.list_audit_events(request.clone()).await?.into_inner();
        all.extend(page.events);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

async fn export(world: &World, arguments: &[&str]) -> Result<Output> {
    let server = format!("http://{}", world.service.address);
    let mut export = command(&[&["audit", "export", "--server", &server], arguments].concat());
    let output = tokio::task::spawn_blocking(move || export.output()).await??;
    assert!(output.status.success(), "{output:?}");
    Ok(output)
}

async fn ids(pool: &PgPool) -> Result<HashSet<String>> {
    let ids: Vec<Uuid> = sqlx::query_scalar("select event_id from audit").fetch_all(pool).await?;
    Ok(ids.iter().map(ToString::to_string).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_entries_are_exported_once_each_while_more_are_written() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    for _ in 0..10 {
        write_many(&pool, some_environment()).await?;
    }
    let before = ids(&pool).await?;
    assert!(before.len() >= 10_000);
    let (stop, told) = watch::channel(false);
    let writer = pool.clone();
    let writing = tokio::spawn(async move {
        while !*told.borrow() {
            write_some(&writer, 3, 5).await?;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    });
    let output = export(&world, &[]).await?;
    stop.send(true)?;
    writing.await??;

    let lines: Vec<serde_json::Value> =
        String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let exported: Vec<&str> = lines.iter().filter_map(|line| line["eventId"].as_str()).collect();
    let distinct: HashSet<String> = exported.iter().map(|id| (*id).to_owned()).collect();
    assert_eq!(distinct.len(), exported.len(), "some twice");
    assert!(distinct.is_superset(&before), "{} are missing", before.difference(&distinct).count());
    assert!(exported.is_sorted(), "the oldest comes first");
    let reads: i64 =
        sqlx::query_scalar("select count(*) from audit where action = 17").fetch_one(&pool).await?;
    assert!(reads >= 10, "of ten pages only {reads} were recorded");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_small_pages_lose_nothing() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let environments = [some_environment(), some_environment()];
    for environment in environments {
        write_many(&pool, environment).await?;
    }
    let rare = v1::ListAuditEventsRequest {
        environment_id: environments[0].to_string(),
        caller: "rare".to_owned(),
        actions: vec![Action::Requested.into()],
        page_size: 3,
        ..v1::ListAuditEventsRequest::default()
    };
    let found = list(&world, rare.clone()).await?;
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|event| event.environment_id == environments[0].to_string()
        && event.caller == "rare"
        && event.job_id == event.event_id));
    let job = found[4].job_id.clone();
    let of_job = v1::ListAuditEventsRequest { job_id: job.clone(), ..v1::ListAuditEventsRequest::default() };
    assert_eq!(list(&world, of_job).await?, [found[4].clone()]);
    let late = v1::ListAuditEventsRequest { start_time: Some(SystemTime::now().into()), ..rare.clone() };
    assert_eq!(list(&world, late).await?, []);

    // A token is of its own list.
    let mut client = client(&world).await?;
    let token = client.list_audit_events(rare.clone()).await?.into_inner().next_page_token;
    let other = v1::ListAuditEventsRequest { caller: "usual".to_owned(), page_token: token, ..rare.clone() };
    let refused = client.list_audit_events(other).await.expect_err("it is of another list");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
    let wrong = v1::ListAuditEventsRequest { actions: vec![99], page_size: -1, ..rare };
    let refused = client.list_audit_events(wrong).await.expect_err("two fields are wrong");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_job_names_whose_device_it_was() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    let job = world.service.unblock(request(wire(&device))).await?.job.ok_or("no job")?;
    let lane = device.environment.lane();
    sqlx::query(
        "insert into audit (lane, event_id, environment_id, job_id, run, attempts, action, outcome, caller)
         values ($1, $2, $3, $4, 1, 1, 6, 3, 'pingone-unblock')",
    )
    .bind(lane.number())
    .bind(pingone_unblock::audit::event_id(lane))
    .bind(device.environment.as_uuid())
    .bind(Uuid::parse_str(&job.job_id)?)
    .execute(&world.database.pool().await?)
    .await?;
    let ended = v1::ListAuditEventsRequest {
        job_id: job.job_id,
        actions: vec![Action::Finished.into()],
        ..v1::ListAuditEventsRequest::default()
    };
    // Its id may be of the very millisecond in which the list ends.
    crate::harness::service::eventually("it is listed", async || {
        let found = list(&world, ended.clone()).await?;
        Ok(found.iter().any(|event| {
            event.user_id == device.user.to_string() && event.device_id == device.device.to_string()
        }))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_ocsf_is_as_its_own_schema_has_it() -> Result<()> {
    let python = "target/ocsf/bin/python";
    if !clients::fetched("ocsf", python)? {
        return Ok(());
    }
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    write_some(&pool, 5, 3).await?;
    write_many(&pool, some_environment()).await?;
    export(&world, &[]).await?;
    let folder = tempfile::tempdir()?;
    let exported = folder.path().join("exported.jsonl");
    std::fs::write(&exported, export(&world, &["--format", "ocsf"]).await?.stdout)?;
    for file in ["src/cli/audit/ocsf/golden.jsonl", &exported.to_string_lossy()] {
        let arguments = ["tests/clients/ocsf/check.py", file].map(ToOwned::to_owned).to_vec();
        let said = String::from_utf8(clients::run(python, arguments).await?.stdout)?;
        assert!(said.contains(" lines, 0 mistakes, OCSF 1.8.0"), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_sees_each_entry_once_until_interrupted() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let mut expected = write_some(&pool, 5, 3).await?;
    let server = format!("http://{}", world.service.address);
    let mut following =
        command(&["audit", "export", "--server", &server, "--caller", "help-desk", "--follow"])
            .stdout(Stdio::piped())
            .spawn()?;
    let lines = BufReader::new(following.stdout.take().ok_or("no stdout")?).lines();
    let (said, mut hear) = mpsc::unbounded_channel();
    let reading =
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line).map_err(drop)));
    let mut seen: Vec<Uuid> = Vec::new();
    for round in 0..2 {
        while seen.len() < expected.len() {
            let line = timeout(PATIENCE, hear.recv()).await?.ok_or("it ended")?;
            let line: serde_json::Value = serde_json::from_str(&line)?;
            seen.push(line["eventId"].as_str().ok_or("no id")?.parse()?);
        }
        if round == 0 {
            // One of them is committed some time after its id was made.
            let late = id_before(9, Duration::from_secs(20));
            write(&pool, 9, late).await?;
            expected.push(late);
            expected.extend(write_some(&pool, 6, 2).await?);
        }
    }
    kill_process(Pid::from_raw(i32::try_from(following.id())?).ok_or("no pid")?, Signal::INT)?;
    let ended = tokio::task::spawn_blocking(move || following.wait()).await??;
    assert_eq!(ended.code(), Some(130));
    let _ = reading.join();
    assert_eq!(hear.try_recv().ok(), None, "more than there was");
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    Ok(())
}
