//! deploy/postgres/roles.sql: the service works with a role that owns nothing, and that role can change no table.

use std::fs;

use pingone_unblock::{
    proto::v1::{self, job::State},
    simulator,
};
use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::harness::{
    Result,
    cluster::OwnCluster,
    process::{Process, command},
    service::{PingOne, example_device, request},
};

const PASSWORD: &str = "not-the-owners";

/// The address of the service's database for one of its roles.
fn url(cluster: &OwnCluster, role: &str) -> Result<String> {
    let port = cluster.running().ok_or("not running")?.port();
    Ok(format!("postgres://{role}:{PASSWORD}@127.0.0.1:{port}/unblock"))
}

async fn run_the_file(admin: &mut PgConnection) -> Result<()> {
    let file = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postgres/roles.sql"))?;
    sqlx::raw_sql(AssertSqlSafe(file)).execute(admin).await?;
    Ok(())
}

#[tokio::test]
async fn the_service_works_with_a_role_that_owns_nothing() -> Result<()> {
    let cluster = OwnCluster::start().await?;
    let running = cluster.running().ok_or("not running")?;
    let mut server = PgConnection::connect(&running.url("postgres")).await?;
    sqlx::raw_sql("create database unblock").execute(&mut server).await?;
    let mut admin = PgConnection::connect(&running.url("unblock")).await?;
    run_the_file(&mut admin).await?;
    let passwords =
        format!("alter role unblock_owner password '{PASSWORD}'; alter role unblock password '{PASSWORD}'");
    sqlx::raw_sql(AssertSqlSafe(passwords)).execute(&mut admin).await?;

    let (owner, lesser) = (url(&cluster, "unblock_owner")?, url(&cluster, "unblock")?);
    let migrated = command(&["migrate"]).env("UNBLOCK_DATABASE_URL", owner).output()?;
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    run_the_file(&mut admin).await?;

    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let service = Process::serve_with(&lesser, &pingone, &[("UNBLOCK_MIGRATE", "false")]).await?;
    let answer = service.devices()?.unblock(request(example_device())).await?.into_inner();
    let job = answer.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded, "{:?}", job.error);

    let mut role = PgConnection::connect(&lesser).await?;
    for forbidden in [
        "create table mine (n int)",
        "alter table job add column n int",
        "drop table job",
        "truncate job",
        "update audit set caller = 'another'",
        "delete from audit",
        "truncate audit",
        "update audit_seal set number = 2",
        "delete from audit_seal",
        "create function f() returns int language sql as 'select 1'",
        "update _sqlx_migrations set success = false",
        "create role other",
        "alter role unblock createdb",
    ] {
        let refused = sqlx::raw_sql(forbidden).execute(&mut role).await.err().ok_or(forbidden)?;
        let code = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}: {refused}");
    }
    let erase = |url: &str| {
        let v1::DeviceRef { environment_id, user_id, .. } = example_device();
        let mut erase = command(&["erase", "--environment", &environment_id, "--user", &user_id]);
        erase.args(["--by", "privacy", "--reason", "request 17", "--yes"]).env("UNBLOCK_DATABASE_URL", url);
        erase.output()
    };
    let refused = erase(&lesser)?;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{why}");
    assert!(why.contains("the role that owns the tables"), "{why}");
    let erased = erase(&url(&cluster, "unblock_owner")?)?;
    assert!(erased.status.success(), "{}", String::from_utf8_lossy(&erased.stderr));
    service.signal(Signal::TERM)?;
    assert!(service.end().await?.success());
    Ok(())
}
