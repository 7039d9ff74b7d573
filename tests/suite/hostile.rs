//! A PingOne that means harm costs bounded time and memory, and learns nothing that it did not know.

mod cases;
mod server;

use std::{fs::File, time::Duration};

use futures_util::future::join_all;
use pingone_unblock::{
    device::{DeviceId, DeviceRef, EnvironmentId, UserId},
    job::{Failure, JobId},
    pingone::{ApiPath, AuthPath, Client, ClientAuth, Credential, Origin, Settings},
    proto::v1::{self, job::State},
};
use uuid::Uuid;

use self::{
    cases::{Case, EMPTY, all, ok},
    server::{OFFERED, Says, Server},
};
use crate::harness::{
    Result,
    database::Database,
    process::Process,
    service::{eventually, request_without_wait, wire},
};

const TOKEN: &str = "a.token.that-nobody-else-sees";
const SECRET: &str = "a-secret-that-nobody-else-sees";
/// The end of what has none.
const SHORT: Duration = Duration::from_secs(2);
/// All else ends by itself.
const LONG: Duration = Duration::from_secs(120);
/// What may be under way on a connection when its reader goes away, and what was read before.
const PER_FLOOD: u64 = 8 * 1024 * 1024;

/// A server that only takes note of who comes.
fn trap() -> Result<Server> {
    Server::start(|_| Says::Bytes(ok("", EMPTY)))
}

fn device() -> DeviceRef {
    DeviceRef {
        environment: EnvironmentId::from(Uuid::new_v4()),
        user: UserId::from(Uuid::new_v4()),
        device: DeviceId::from(Uuid::new_v4()),
    }
}

fn client(server: &Server, credential: Credential, deadline: Duration) -> Result<Client> {
    let settings = Settings::new(ApiPath::parse(&server.base())?, credential);
    Ok(Client::new(Settings { attempt_deadline: deadline, connect_timeout: deadline, ..settings })?)
}

fn deadline(case: &Case) -> Duration {
    if case.is_endless() { SHORT } else { LONG }
}

fn worker(server: &Server) -> Result<Credential> {
    Ok(Credential::ClientSecret {
        auth: AuthPath::parse(&server.base())?,
        environment: EnvironmentId::from(Uuid::new_v4()),
        client_id: "client".to_owned(),
        client_secret: SECRET.into(),
        method: ClientAuth::Post,
    })
}

fn told(failure: Option<&Failure>) -> Option<&'static str> {
    let failure = failure?;
    let all = failure.message.as_str();
    assert!(!all.contains(TOKEN) && !all.contains(SECRET), "{all}");
    Some(failure.reason.name())
}

/// Whether only a server that had no end went on until somebody left, and nothing was taken beyond what one reads.
fn assert_bounded(server: &Server, case: &Case) {
    let floods = server.connections() as u64;
    if !case.is_endless() {
        assert!(
            server.flooded() <= floods * PER_FLOOD,
            "{}: {} bytes were taken",
            case.name,
            server.flooded()
        );
    }
}

/// One request each. Where nothing but the deadline ends them, one that had not come when it passed never comes.
fn assert_requests(server: &Server, case: &Case, asked: usize) {
    let heard = server.heads().len();
    assert!(heard <= asked && (heard == asked || case.is_endless()), "{}: {heard} requests", case.name);
}

/// Each request of the API meets the case.
async fn every_call(case: &Case) -> Result<()> {
    let says = case.says.clone();
    let server = Server::start(move |_| says.clone())?;
    let client = client(&server, Credential::AccessToken(TOKEN.into()), deadline(case))?;
    let (device, job, origin) = (device(), JobId::new(device().environment.lane()), Origin::default());
    let unblocked = client.unblock(&device, job, &origin);
    let read = client.read(&device, job, &origin);
    let listed = client.list_devices(device.environment, device.user, job, &origin);
    let answers = tokio::join!(unblocked, read, listed);
    for (call, answer) in [("unblock", &answers.0), ("read", &answers.1), ("list", &answers.2)] {
        let reason = told(answer.outcome.as_ref().err());
        if reason != case.asked {
            return Err(format!("{}: {call}: {answer:?}", case.name).into());
        }
    }
    assert_requests(&server, case, 3);
    assert!(server.heads().iter().all(|head| !head.contains("accept-encoding")));
    assert_bounded(&server, case);
    Ok(())
}

/// The request for a token meets the case.
async fn every_grant(case: &Case) -> Result<()> {
    let says = case.says.clone();
    let server = Server::start(move |_| says.clone())?;
    let client = client(&server, worker(&server)?, deadline(case))?;
    let answer = client.unblock(&device(), JobId::new(device().environment.lane()), &Origin::default()).await;
    if told(answer.outcome.as_ref().err()) != Some(case.granted) {
        return Err(format!("{}: {answer:?}", case.name).into());
    }
    assert_requests(&server, case, 1);
    assert_bounded(&server, case);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_costs_more_than_its_deadline_or_leads_elsewhere() -> Result<()> {
    let trap = trap()?;
    let cases = all(&trap.base());
    let asked = join_all(cases.iter().map(every_call));
    let granted = join_all(cases.iter().map(every_grant));
    let (asked, granted) = tokio::join!(asked, granted);
    let wrong: Vec<_> = asked.into_iter().chain(granted).filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(trap.connections(), 0, "nobody was led elsewhere");
    Ok(())
}

#[tokio::test]
async fn a_page_of_a_list_on_another_host_is_not_asked_for() -> Result<()> {
    let trap = trap()?;
    let list = format!(
        r#"{{"_embedded":{{"devices":[]}},"_links":{{"self":{{"href":"{0}"}},"next":{{"href":"{0}/v1"}}}}}}"#,
        trap.base()
    );
    let server = Server::start(move |_| Says::Bytes(ok("", &list)))?;
    let client = client(&server, Credential::AccessToken(TOKEN.into()), LONG)?;
    let (device, job) = (device(), JobId::new(device().environment.lane()));
    let answer = client.list_devices(device.environment, device.user, job, &Origin::default()).await;
    assert_eq!(told(answer.outcome.as_ref().err()), Some("UPSTREAM_PROTOCOL"));
    assert_eq!((server.heads().len(), trap.connections()), (1, 0));
    Ok(())
}

/// What is left over of one answer, or comes before a request, must not answer the next: it could be another device's.
#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_taken_by_nobody() -> Result<()> {
    let other = ok("", r#"{"id":"00000000-0000-4000-8000-000000000000"}"#);
    let says = Says::Bytes([ok("", "{}"), other].concat());
    let server = Server::start(move |_| says.clone())?;
    let client = client(&server, Credential::AccessToken(TOKEN.into()), LONG)?;
    for asked in 1..=4 {
        let answer =
            client.unblock(&device(), JobId::new(device().environment.lane()), &Origin::default()).await;
        assert!(answer.outcome.is_ok(), "{answer:?}");
        assert_eq!(server.connections(), asked, "the connection is given up");
    }
    assert!(server.heads().iter().all(|head| !head.contains("cookie")));
    Ok(())
}

/// All that is told of each job, once its end is there.
async fn end_of(process: &Process, job: &str) -> Result<v1::Job> {
    let mut ended = None;
    eventually("the job ends", async || {
        let job = process.job(job).await?;
        let is_final = matches!(job.state(), State::Succeeded | State::Failed);
        ended = is_final.then_some(job);
        Ok(is_final)
    })
    .await?;
    ended.ok_or_else(|| "no job".into())
}

/// The most memory that the process ever had, in KiB.
fn peak(process: &Process) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no peak")?;
    Ok(peak.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stays_small_and_tells_why_each_job_failed() -> Result<()> {
    let (trap, database) = (trap()?, Database::create().await?);
    let cases = all(&trap.base());
    let of: std::collections::HashMap<String, Says> =
        cases.iter().map(|case| (Uuid::new_v4().to_string(), case.says.clone())).collect();
    let environments: Vec<(String, &Case)> = {
        let find =
            |case: &Case| of.iter().find(|(_, says)| format!("{says:?}") == format!("{:?}", case.says));
        cases.iter().filter_map(|case| Some((find(case)?.0.clone(), case))).collect()
    };
    assert_eq!(environments.len(), cases.len());
    let server = Server::start(move |head| {
        let environment = head.split('/').skip_while(|part| *part != "environments").nth(1);
        let says = environment.and_then(|id| of.get(id)).cloned();
        let token = format!(r#"{{"access_token":"{TOKEN}","expires_in":3600}}"#);
        says.unwrap_or_else(|| Says::Bytes(ok("", token)))
    })?;
    let log = tempfile::NamedTempFile::new()?;
    let (base, elsewhere) = (server.base(), trap.base());
    let settings = [
        ("UNBLOCK_DATABASE_URL", database.url()),
        ("PINGONE_API_PATH", &base),
        ("PINGONE_AUTH_PATH", &base),
        ("PINGONE_CLIENT_SECRET", SECRET),
        ("PINGONE_ATTEMPT_DEADLINE", "10s"),
        ("UNBLOCK_MAX_ATTEMPTS", "1"),
        // Of no effect: the way to PingOne is settled by the service's own settings.
        ("HTTP_PROXY", &elsewhere),
        ("http_proxy", &elsewhere),
        ("HTTPS_PROXY", &elsewhere),
        ("ALL_PROXY", &elsewhere),
        ("all_proxy", &elsewhere),
    ];
    let process = Process::serve_into(&settings, File::create(log.path())?).await?;
    // The first of its kind pays for what is kept.
    let first = process.devices()?.unblock(request_without_wait(wire(&device()))).await?.into_inner();
    end_of(&process, &first.job.ok_or("no job")?.job_id).await?;
    let before = peak(&process)?;

    let mut jobs = Vec::new();
    for (environment, case) in &environments {
        let device = DeviceRef { environment: EnvironmentId::parse(environment)?, ..device() };
        let reply = process.devices()?.unblock(request_without_wait(wire(&device))).await?.into_inner();
        jobs.push((*case, reply.job.ok_or("no job")?.job_id));
    }
    let mut wrong = Vec::new();
    for (case, job) in &jobs {
        let reason = end_of(&process, job).await?.error.map(|error| error.reason);
        if reason.as_deref() != case.asked {
            wrong.push((case.name, reason));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let grown = peak(&process)? - before;
    assert!(server.flooded() < OFFERED * 3, "{} bytes were taken", server.flooded());
    assert!(grown < 64 * 1024, "{grown} KiB more than before");
    assert_eq!(trap.connections(), 0, "nobody was led elsewhere");
    let log = std::fs::read_to_string(log.path())?;
    assert!(!log.contains(TOKEN) && !log.contains(SECRET), "{log}");
    Ok(())
}
