//! Contacts, tokens, secrets and passcodes are put in wherever something comes in, and looked for wherever something goes out.

mod peers;
mod places;

use std::{fs::File, path::Path};

use pingone_unblock::proto::v1::{
    self, batch_service_client::BatchServiceClient, environment_service_client::EnvironmentServiceClient,
    job::State, job_service_client::JobServiceClient,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;
use tonic::{Code, Request, Status, metadata::MetadataValue};
use uuid::Uuid;

use self::{
    peers::{Collector, PingOne},
    places::{OF_CALLERS, Places, SECRETS, contacts, everything},
};
use crate::harness::{
    Result,
    bulk::{Bulk, row_of},
    database::Database,
    process::{Process, command},
    service::{ENVIRONMENT, eventually},
};

/// All that the most curious operator could ask for.
const CURIOUS: &str = "trace,pingone_unblock=trace,hyper=trace,hyper_util=trace,h2=trace,reqwest=trace,rustls=trace,\
                       tonic=trace,tower=trace,axum=trace,sqlx=trace,sqlx_postgres=trace,sqlx_postgres::options=trace,\
                       opentelemetry=trace,opentelemetry_sdk=trace,opentelemetry-otlp=trace,log=trace";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_in_text() -> Result<()> {
    nothing_is_told("text").await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_in_json() -> Result<()> {
    nothing_is_told("json").await
}

async fn nothing_is_told(format: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let log = folder.path().join("log");
    let (pingone, collector, database) =
        (PingOne::start().await?, Collector::start().await?, Database::create().await?);
    let (role, url) = with_password(&database).await?;
    let settings = [
        ("UNBLOCK_LOG", CURIOUS),
        ("UNBLOCK_LOG_FORMAT", format),
        ("UNBLOCK_DATABASE_URL", &url),
        ("PINGONE_API_PATH", &pingone.base),
        ("PINGONE_AUTH_PATH", &pingone.base),
        ("PINGONE_CLIENT_SECRET", places::CLIENT_SECRET),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.base),
        ("OTEL_EXPORTER_OTLP_HEADERS", places::COLLECTOR_HEADER),
    ];
    let started = Process::serve_into(&settings, File::create(&log)?).await;
    let process = started.map_err(|error| format!("{error}; {:?}", std::fs::read_to_string(&log)))?;
    let mut told = Places::default();

    let jobs = every_answer(&process, &mut told).await?;
    odd_calls(&process, &mut told).await?;
    batch(&process, &mut told).await?;
    commands(&process, folder.path(), &settings, &jobs, &mut told).await?;
    for path in ["livez", "readyz", "metrics"] {
        let answer = reqwest::get(process.admin_url(path)).await?.text().await?;
        told.add(format!("/{path}"), answer);
    }
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", process.id()));
    told.add("command line", String::from_utf8_lossy(&cmdline.unwrap_or_default()));
    process.signal(Signal::TERM)?;
    assert!(process.end().await?.success());
    let drop = format!("drop role {role}");
    sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&database.pool().await?).await?;

    let log = std::fs::read_to_string(log)?;
    assert!(log.lines().count() > 20, "{log}");
    // That the log tells what it may.
    assert!(jobs.iter().any(|job| log.contains(job)) && log.contains("credential"), "{log}");
    told.add("log", log);
    let sent = collector.sent();
    assert!(
        sent.contains("pingone.device.v1.DeviceService/Unblock") && sent.contains("_OTHER"),
        "spans are sent"
    );
    told.add("telemetry", sent);
    told.hold_none_of(&everything());

    in_the_database(&database).await
}

/// A role whose password is a canary, and the address it connects by.
async fn with_password(database: &Database) -> Result<(String, String)> {
    let (role, password) = (format!("canary_{}", Uuid::new_v4().simple()), places::DATABASE_PASSWORD);
    let create = format!("create role {role} login superuser password '{password}'");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&database.pool().await?).await?;
    let mut url = reqwest::Url::parse(database.url())?;
    let set = url.set_username(&role).and_then(|()| url.set_password(Some(password)));
    set.map_err(|()| "the URL takes no password")?;
    // Misspelled: sqlx would quote it.
    url.query_pairs_mut().append_pair("pasword", password);
    Ok((role, url.into()))
}

/// A request with all that a caller can say besides.
fn request<T>(message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", format!("Bearer {}", places::CALLERS_TOKEN).parse()?);
    metadata.insert("x-note", places::NOTE.parse()?);
    metadata.insert_bin("x-note-bin", MetadataValue::from_bytes(places::NOTE.as_bytes()));
    metadata.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse()?);
    metadata.insert("baggage", format!("note={}", places::CALLERS_TOKEN).parse()?);
    Ok(request)
}

fn unblock(user: Uuid) -> v1::UnblockRequest {
    v1::UnblockRequest {
        device_ref: Some(v1::DeviceRef {
            environment_id: ENVIRONMENT.to_owned(),
            user_id: user.to_string(),
            device_id: Uuid::new_v4().to_string(),
        }),
        request_id: format!("{}-{user}", places::CALLERS_TOKEN),
        reason: format!("asked by {} {}", places::NOTE, places::CALLERS_TOKEN),
        ticket: places::CALLERS_TOKEN.to_owned(),
        on_behalf_of: places::NOTE.to_owned(),
        time_to_live: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..v1::UnblockRequest::default()
    }
}

/// One job for each way that PingOne answers; their ids.
async fn every_answer(process: &Process, told: &mut Places) -> Result<Vec<String>> {
    let mut devices = process.devices()?;
    let mut ids = Vec::new();
    for (user, state) in peers::USERS {
        let asked = v1::UnblockRequest { wait: Some(prost_types::Duration::default()), ..unblock(user) };
        let job = devices.unblock(request(asked)?).await?.into_inner().job.ok_or("no job")?;
        eventually("the job was tried", async || {
            let now = process.job(&job.job_id).await?;
            Ok(now.state() == state && (now.state() != State::Pending || now.error.is_some()))
        })
        .await?;
        let mut job = process.job(&job.job_id).await?;
        if job.state() == State::Succeeded {
            let device = job.device.take().ok_or("no device")?;
            // The legitimate place: the caller's own answer.
            let shown = format!("{device:?}");
            assert!(contacts().iter().all(|contact| shown.contains(contact)), "{shown}");
            assert!(!SECRETS.iter().any(|secret| shown.contains(secret)), "{shown}");
        } else {
            told.add("job error", format!("{:?} {:?} {:?}", job.error, job.attempts, job.waiting_for));
        }
        ids.push(job.job_id);
    }
    Ok(ids)
}

/// Calls that are refused. What a caller gave may come back to that caller, but nothing else.
async fn odd_calls(process: &Process, told: &mut Places) -> Result<()> {
    let (mut devices, mut jobs) = (process.devices()?, JobServiceClient::new(process.channel()?));
    let (refusing, _) = peers::USERS[1];
    let list = |user: Uuid| v1::ListUserDevicesRequest {
        environment_id: ENVIRONMENT.into(),
        user_id: user.to_string(),
    };
    let refused = devices.list_user_devices(request(list(refusing))?).await.err().ok_or("not refused")?;
    told.add("the status of a list", status(&refused));
    let (succeeding, _) = peers::USERS[0];
    let list =
        devices.list_user_devices(request(list(succeeding))?).await.err().ok_or("a device is no list")?;
    told.add("the status of a list that is none", status(&list));

    let mut wrong = unblock(succeeding);
    wrong.device_ref.as_mut().ok_or("no device")?.user_id = places::NOTE.to_owned();
    assert_eq!(
        devices.unblock(request(wrong)?).await.err().map(|refused| refused.code()),
        Some(Code::InvalidArgument)
    );
    let reused = v1::UnblockRequest { ticket: "another".to_owned(), ..unblock(succeeding) };
    let reused = devices.unblock(request(reused)?).await.err().ok_or("reused")?;
    told.add("the status of a request id used twice", status(&reused));
    let unknown = jobs.get_job(request(v1::GetJobRequest { job_id: Uuid::now_v7().to_string() })?).await;
    told.add("the status of an unknown job", status(&unknown.err().ok_or("found")?));

    let mut made_up = tonic::client::Grpc::new(process.channel()?);
    made_up.ready().await?;
    let path =
        http::uri::PathAndQuery::try_from(format!("/{}/{}", places::CALLERS_TOKEN, places::PHONE_DIGITS))?;
    let codec = tonic_prost::ProstCodec::<v1::GetJobRequest, v1::GetJobResponse>::default();
    let answer = made_up.unary(request(v1::GetJobRequest::default())?, path, codec).await;
    told.add("the status of an unknown method", status(&answer.err().ok_or("answered")?));

    let mut environments = EnvironmentServiceClient::new(process.channel()?);
    let other = Uuid::new_v4().to_string();
    let pause =
        v1::PauseEnvironmentRequest { environment_id: other.clone(), reason: places::NOTE.to_owned() };
    environments.pause_environment(request(pause)?).await?;
    environments
        .resume_environment(request(v1::ResumeEnvironmentRequest {
            environment_id: other,
            reason: places::NOTE.to_owned(),
        })?)
        .await?;
    Ok(())
}

fn status(refused: &Status) -> String {
    format!("{} {}", refused.message(), String::from_utf8_lossy(refused.details()))
}

/// A batch with a row for each answer and one that is refused by itself.
async fn batch(process: &Process, told: &mut Places) -> Result<()> {
    let header = v1::BatchHeader {
        batch_id: format!("b-{}", Uuid::new_v4().simple()),
        environment_id: ENVIRONMENT.to_owned(),
        reason: places::NOTE.to_owned(),
        ticket: places::CALLERS_TOKEN.to_owned(),
        on_behalf_of: places::NOTE.to_owned(),
        ..v1::BatchHeader::default()
    };
    let bulk = Bulk::over(&process.channel()?, header);
    let mut rows: Vec<_> = peers::USERS
        .iter()
        .filter(|(_, state)| state.as_str_name() != State::Pending.as_str_name())
        .map(|(user, _)| row_of(*user, Some(Uuid::new_v4())))
        .collect();
    rows.push(v1::BatchTarget { user_id: places::NOTE.to_owned(), ..v1::BatchTarget::default() });
    rows.iter_mut().for_each(|row| row.client_reference = places::CALLERS_TOKEN.to_owned());
    let (mut upload, _) = bulk.open().await?;
    upload.targets(0, &rows).await?;
    upload.seal(rows.len()).await?;
    let mut batches = BatchServiceClient::new(process.channel()?);
    let which =
        || v1::GetBatchRequest { environment_id: ENVIRONMENT.into(), batch_id: bulk.header.batch_id.clone() };
    eventually("the batch is done", async || {
        let batch = batches.get_batch(which()).await?.into_inner().batch.ok_or("no batch")?;
        Ok(batch.state() == v1::batch::State::Done)
    })
    .await?;
    told.add(
        "batch",
        batches
            .get_batch(which())
            .await?
            .into_inner()
            .batch
            .map(|batch| batch.state_reason)
            .unwrap_or_default(),
    );
    Ok(())
}

/// The commands: those of operators with all that can be wrong, those of callers with what PingOne said.
async fn commands(
    process: &Process,
    folder: &Path,
    settings: &[(&str, &str)],
    jobs: &[String],
    told: &mut Places,
) -> Result<()> {
    let server = process.url();
    for job in jobs {
        let (said, diagnosis) = run(&["job", "get", job], &[("UNBLOCK_SERVER", &server)]).await?;
        assert!(!SECRETS.iter().any(|secret| said.contains(secret)), "{said}");
        told.add("stderr of job get", diagnosis);
    }
    let (_, refusing) = (0, peers::USERS[1].0.to_string());
    let device = Uuid::new_v4().to_string();
    let (said, diagnosis) =
        run(&["unblock", ENVIRONMENT, &refusing, &device], &[("UNBLOCK_SERVER", &server)]).await?;
    assert!((said.clone() + &diagnosis).contains("UPSTREAM_REJECTED"), "{said}{diagnosis}");
    told.add("unblock", said + &diagnosis);
    let (file, results) = (folder.join("rows.csv"), folder.join("results.csv"));
    std::fs::write(&file, format!("user_id,device_id\n{refusing},{}\n", Uuid::new_v4()))?;
    let (file, out) = (file.display().to_string(), results.display().to_string());
    let bulk = ["bulk", &file, "--environment", ENVIRONMENT, "--yes", "--out", &out];
    let (said, diagnosis) = run(&bulk, &[("UNBLOCK_SERVER", &server)]).await?;
    told.add("bulk", said + &diagnosis);
    told.add("results of bulk", std::fs::read_to_string(results)?);

    let (said, diagnosis) =
        run(&["check"], &[settings, &[("PINGONE_CLIENT_ID", peers::REFUSED_CLIENT)]].concat()).await?;
    assert!(
        said.contains("WRONG   PingOne credential") && said.contains("ok      Postgres"),
        "{said}{diagnosis}"
    );
    told.add("check", said + &diagnosis);

    let secret = places::CLIENT_SECRET;
    let toml = folder.join("unblock.toml");
    std::fs::write(&toml, format!("pingone_client_secret = '{secret}'\n"))?;
    let not_toml = folder.join("not.toml");
    std::fs::write(&not_toml, format!("pingone_client_secret = {secret}\n"))?;
    let (toml, not_toml) = (toml.display().to_string(), not_toml.display().to_string());
    let in_url = format!("https://u:{secret}@127.0.0.1");
    let wrong_urls = [
        format!("mysql://u:{}@h/d", places::DATABASE_PASSWORD),
        format!("postgres://u:{}@[h/d", places::DATABASE_PASSWORD),
        format!("postgres://u:{0}@127.0.0.1:1/d?pasword={0}", places::DATABASE_PASSWORD),
        format!("postgres://u:p@127.0.0.1:1/d?sslmode={}", places::DATABASE_PASSWORD),
    ];
    let mut mistakes = vec![
        ("PINGONE_API_PATH", in_url.as_str()),
        ("PINGONE_AUTH_PATH", &in_url),
        ("PINGONE_CLIENT_SECRET_FILE", secret),
        ("PINGONE_ACCESS_TOKEN", "canary token of hunter2"),
        ("PINGONE_ACCESS_TOKEN_FILE", places::TOKEN),
        ("UNBLOCK_CONFIG", &toml),
        ("UNBLOCK_CONFIG", &not_toml),
    ];
    mistakes.extend(wrong_urls.iter().map(|url| ("UNBLOCK_DATABASE_URL", url.as_str())));
    for mistake in mistakes {
        // Where a secret is given in two ways, that is the mistake, and neither is read.
        let others: &[&str] = match mistake.0 {
            "PINGONE_CLIENT_SECRET_FILE" => &["PINGONE_CLIENT_SECRET"],
            "PINGONE_ACCESS_TOKEN" | "PINGONE_ACCESS_TOKEN_FILE" => {
                &["PINGONE_CLIENT_SECRET", "PINGONE_CLIENT_ID", "PINGONE_AUTH_ENVIRONMENT_ID"]
            }
            _ => &[],
        };
        let others: Vec<(&str, &str)> = others.iter().map(|other| (*other, "")).collect();
        let (said, diagnosis) = run(&["check"], &[settings, &[mistake], &others].concat()).await?;
        let said = said + &diagnosis;
        assert!(!said.is_empty() && !said.contains("canary token"), "{said}");
        assert!(!mistake.0.ends_with("_FILE") || said.contains("cannot be read"), "{said}");
        told.add(format!("check with {}", mistake.0), said);
    }
    let flag = format!("--pingone-client-secret={secret}");
    let (said, diagnosis) = run(&["check", "--database-url", &wrong_urls[2]], settings).await?;
    told.add("check with a password in a flag", said + &diagnosis);
    let (said, _) = run(&["serve", &flag], &[]).await?;
    told.add("serve with a secret in a flag", said);
    Ok(())
}

/// What a command says, on stdout and on stderr.
async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Result<(String, String)> {
    let mut command = Command::from(command(arguments));
    command.env("PINGONE_AUTH_ENVIRONMENT_ID", ENVIRONMENT).env("PINGONE_CLIENT_ID", "client");
    command.envs(variables.iter().copied()).kill_on_drop(true);
    let output = command.output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((text(output.stdout), text(output.stderr)))
}

/// Every row of every table, less the columns that keep what a caller wrote and the packed snapshot.
async fn in_the_database(database: &Database) -> Result<()> {
    let pool = database.pool().await?;
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
            .fetch_all(&pool)
            .await?;
    let mut told = Places::default();
    let mut written = String::new();
    for table in tables {
        let query = format!("select to_jsonb(t)::text from \"{table}\" t");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&pool).await?;
        written.extend(rows);
        let query = format!("select (to_jsonb(t) - $1::text[])::text from \"{table}\" t");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .bind(places::CALLERS_COLUMNS)
            .fetch_all(&pool)
            .await?;
        told.add(format!("table {table}"), rows.join("\n"));
    }
    assert!(OF_CALLERS.iter().all(|given| written.contains(given)), "what callers wrote is kept for them");
    assert!(written.contains("credential"), "{written}");
    told.hold_none_of(&everything());
    Ok(())
}
