//! The commands that are not calls to a server: what they do, what they say, how they end.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use pingone_unblock::simulator;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{
    Result,
    cluster::folder,
    database::Database,
    issuer::Issuer,
    process::{command, configuration},
    service::{PingOne, Variant, World},
};

async fn output(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_of_a_configuration_are_told_at_once() -> Result<()> {
    let mut serve = command(&["serve", "--listen", "0.0.0.0:50051"]);
    serve.env("PINGONE_REGION", "mars").env("PINGONE_RATE_LIMIT", "0");
    let output = output(serve).await?;
    assert_eq!(output.status.code(), Some(78));
    let said = said(&output);
    for named in
        ["--listen", "PINGONE_REGION", "PINGONE_RATE_LIMIT", "UNBLOCK_DATABASE_URL", "PINGONE_CLIENT_ID"]
    {
        assert!(said.contains(named), "{named} is not named: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_wrong_and_what_is_not() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let run = |secret: &str, url: &str| {
        let mut check = command(&["check"]);
        check.envs(configuration(url, &pingone)).env("PINGONE_CLIENT_SECRET", secret);
        output(check)
    };
    let right = run(simulator::CLIENT_SECRET, database.url()).await?;
    assert!(right.status.success(), "{}", said(&right));

    let wrong_secret = run("not-the-secret", database.url()).await?;
    assert_eq!(wrong_secret.status.code(), Some(1));
    let told = said(&wrong_secret);
    assert!(told.contains("WRONG   PingOne credential") && told.contains("invalid_client"), "{told}");
    assert!(told.contains("ok      Postgres") && !told.contains("not-the-secret"), "{told}");

    let issuer = Issuer::start().await?;
    let trusting = |url: &str| {
        let mut check = command(&["check", "--oidc-issuer", url, "--oidc-audience", "pingone-unblock"]);
        check.envs(configuration(database.url(), &pingone));
        output(check)
    };
    let reached = trusting(&issuer.url).await?;
    assert!(reached.status.success() && said(&reached).contains(&format!("ok      keys of {}", issuer.url)));
    let wrong_issuer = trusting(&format!("{}x", issuer.url)).await?;
    assert_eq!(wrong_issuer.status.code(), Some(1));
    let told = said(&wrong_issuer);
    assert!(told.contains("WRONG   keys of ") && told.contains("answers with status 404"), "{told}");

    let no_database = run(simulator::CLIENT_SECRET, "postgres://nobody@127.0.0.1:1/none").await?;
    assert_eq!(no_database.status.code(), Some(1));
    assert!(said(&no_database).contains("Connection refused"), "{}", said(&no_database));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_says_what_it_did_and_refuses_a_newer_database() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    let migrate = || {
        let mut migrate = command(&["migrate"]);
        migrate.env("UNBLOCK_DATABASE_URL", database.url());
        output(migrate)
    };
    let nothing = migrate().await?;
    assert!(
        nothing.status.success() && said(&nothing).contains("the database is at version"),
        "{}",
        said(&nothing)
    );
    assert!(!said(&nothing).contains("applied"), "{}", said(&nothing));

    sqlx::query("insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'newer', true, '', 0)")
        .execute(&pool)
        .await?;
    let newer = migrate().await?;
    assert_eq!(newer.status.code(), Some(1));
    assert!(said(&newer).contains("9999") && said(&newer).contains("newer version"), "{}", said(&newer));
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let mut serve = command(&["serve"]);
    serve.envs(configuration(database.url(), &pingone));
    serve.env("UNBLOCK_LISTEN", "127.0.0.1:0").env("UNBLOCK_ADMIN_LISTEN", "127.0.0.1:0");
    let refused = output(serve).await?;
    assert_eq!(refused.status.code(), Some(78), "{}", said(&refused));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_whether_a_server_is_ready() -> Result<()> {
    let world = World::start().await?;
    let url = format!("http://{}/readyz", world.service.admin);
    let ready = output(command(&["health", "--url", &url])).await?;
    assert!(ready.status.success() && said(&ready).contains("ready"), "{}", said(&ready));
    world.service.stop().await?;
    let gone = output(command(&["health", "--url", &url])).await?;
    assert_eq!(gone.status.code(), Some(3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_needs_a_credential_and_an_api_replica_does_not() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let api = crate::harness::service::Service::start(
        database.url(),
        &pingone,
        Variant { role: pingone_unblock::store::Role::Api, ..Variant::default() },
    )
    .await?;
    api.stop().await?;
    for (role, code) in [("worker", 78), ("api", 0)] {
        let mut check = command(&["check", "--role", role]);
        check.env("UNBLOCK_DATABASE_URL", database.url());
        let output = output(check).await?;
        assert_eq!(output.status.code(), Some(code), "{role}: {}", said(&output));
    }
    Ok(())
}

/// A demo in a folder of its own.
fn demo(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut demo = command(&["demo", "--listen", "127.0.0.1:0"]);
    demo.args(arguments).arg("--data").arg(folder.path().join("demo"));
    demo.stdout(Stdio::piped()).stderr(Stdio::piped());
    demo
}

/// Waits until a demo has said that it serves.
fn until_it_serves(demo: &mut Child) -> Result<()> {
    let stderr = demo.stderr.take().ok_or("no stderr")?;
    let mut lines = BufReader::new(stderr).lines();
    let serves = lines.by_ref().map_while(Result::ok).any(|line| line.contains("until Ctrl-C"));
    assert!(serves, "it ended before it served");
    // It must not block on a full pipe.
    thread::spawn(move || lines.for_each(drop));
    Ok(())
}

fn postgres_of(folder: &TempDir) -> Result<Option<Pid>> {
    let pid_file = folder.path().join("demo/data/postmaster.pid");
    let Ok(text) = std::fs::read_to_string(pid_file) else { return Ok(None) };
    Ok(Pid::from_raw(text.lines().next().unwrap_or_default().parse()?))
}

fn lives(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_ok()
}

fn signal(demo: &Child, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_raw(i32::try_from(demo.id())?).ok_or("no pid")?, signal)?)
}

#[test]
fn a_demo_unblocks_the_documented_device_again_and_again() -> Result<()> {
    let folder = folder()?;
    for _ in 0..2 {
        let output = demo(&folder, &["--once"]).output()?;
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("SUCCEEDED") && said.contains("6697f628-7712-4e71-b52b-920ba0635020"),
            "{said}"
        );
        assert!(
            String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "block        UNBLOCKED"),
            "{said}"
        );
    }
    assert_eq!(postgres_of(&folder)?, None, "no lock is left");
    Ok(())
}

#[test]
fn a_demo_ends_with_all_it_started_and_survives_being_killed() -> Result<()> {
    let folder = folder()?;
    for (sent, orderly) in [(Signal::KILL, false), (Signal::INT, true)] {
        let mut child = demo(&folder, &[]).spawn()?;
        until_it_serves(&mut child)?;
        let postgres = postgres_of(&folder)?.ok_or("Postgres runs")?;
        assert!(lives(postgres));
        signal(&child, sent)?;
        assert_eq!(child.wait()?.success(), orderly);
        let since = Instant::now();
        while lives(postgres) {
            assert!(since.elapsed() < Duration::from_secs(20), "Postgres outlives its demo");
            thread::sleep(Duration::from_millis(20));
        }
    }
    let output = demo(&folder, &["--once"]).output()?;
    assert!(output.status.success(), "{}", said(&output));
    Ok(())
}
