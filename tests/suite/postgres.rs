//! The private cluster, with real servers and real deaths.

use std::{
    env,
    fs::Permissions,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
};

use pingone_unblock::postgres::{Cluster, Options, PostgresError};
use sqlx::{Connection as _, PgConnection};

use crate::harness::{Result, cluster, cluster::OwnCluster, database::Database, rerun};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_alive(pid: u32) -> bool {
    rustix::process::Pid::from_raw(pid.cast_signed())
        .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

async fn connect(cluster: &Cluster) -> Result<PgConnection> {
    Ok(PgConnection::connect(&cluster.url("postgres")).await?)
}

async fn show(connection: &mut PgConnection, setting: &str) -> Result<String> {
    Ok(sqlx::query_scalar("select current_setting($1)").bind(setting).fetch_one(connection).await?)
}

#[tokio::test]
async fn a_restart_keeps_the_data_and_leaves_no_process_behind() -> Result<()> {
    let mut own = OwnCluster::start().await?;
    let first = own.running().ok_or("not running")?;
    let (pid, url) = (first.pid(), first.url("postgres"));
    let mut connection = PgConnection::connect(&url).await?;
    sqlx::raw_sql("create table kept (n int); insert into kept values (42)").execute(&mut connection).await?;

    own.stop().await?;
    assert!(!is_alive(pid), "the server outlived its stop");
    assert!(sqlx::query("select 1").execute(&mut connection).await.is_err());

    own.restart().await?;
    assert_eq!(own.running().ok_or("not running")?.url("postgres"), url);
    let mut connection = PgConnection::connect(&url).await?;
    let kept: i32 = sqlx::query_scalar("select n from kept").fetch_one(&mut connection).await?;
    assert_eq!(kept, 42);
    Ok(())
}

#[tokio::test]
async fn a_durable_cluster_forgets_nothing_and_lets_nobody_in_without_the_password() -> Result<()> {
    let own = OwnCluster::start().await?;
    let running = own.running().ok_or("not running")?;
    let mut connection = connect(running).await?;
    for setting in ["fsync", "synchronous_commit", "full_page_writes", "data_checksums"] {
        assert_eq!(show(&mut connection, setting).await?, "on", "{setting}");
    }
    assert_eq!(show(&mut connection, "listen_addresses").await?, "127.0.0.1");
    let without = format!("postgres://postgres:guess@127.0.0.1:{}/postgres", running.port());
    let refused = PgConnection::connect(&without).await.err().ok_or("let in")?;
    let code = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    assert_eq!(code.as_deref(), Some("28P01"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_cluster_is_gone() -> Result<()> {
    let folder = cluster::folder()?;
    let dropped = Cluster::start(Options { durable: false, ..Options::new(folder.path()) }).await?;
    let pid = dropped.pid();
    assert!(is_alive(pid));
    drop(dropped);
    assert!(!is_alive(pid));
    Ok(())
}

#[tokio::test]
async fn a_folder_in_use_is_refused_by_the_name_of_its_user() -> Result<()> {
    let own = OwnCluster::start().await?;
    let folder = own.running().ok_or("not running")?.folder().to_owned();
    let second = Cluster::start(Options::new(&folder)).await;
    let refused = second.err().ok_or("a second server started")?;
    assert!(matches!(refused, PostgresError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    // The first is none the worse for it.
    connect(own.running().ok_or("not running")?).await?.ping().await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_server_is_followed_by_one_that_recovers() -> Result<()> {
    let mut own = OwnCluster::start().await?;
    let running = own.running().ok_or("not running")?;
    let mut connection = connect(running).await?;
    sqlx::raw_sql("create table kept (n int); insert into kept values (42)").execute(&mut connection).await?;
    let pid = rustix::process::Pid::from_raw(running.pid().cast_signed()).ok_or("no pid")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    own.restart().await?;
    let mut connection = connect(own.running().ok_or("not running")?).await?;
    let kept: i32 = sqlx::query_scalar("select n from kept").fetch_one(&mut connection).await?;
    assert_eq!(kept, 42);
    Ok(())
}

/// The other process of the test below: commits rows and says so, until it is killed.
async fn commit_until_killed(folder: &str) -> Result<()> {
    let cluster = Cluster::start(Options::new(folder)).await?;
    let mut connection = connect(&cluster).await?;
    sqlx::raw_sql("create table kept (n bigint)").execute(&mut connection).await?;
    rerun::say(&cluster.url("postgres"))?;
    for n in 1_i64.. {
        sqlx::query("insert into kept values ($1)").bind(n).execute(&mut connection).await?;
        rerun::say(&n.to_string())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_killed_owner_takes_its_server_along_and_the_next_start_has_every_row() -> Result<()> {
    if let Some(folder) = rerun::role() {
        return commit_until_killed(&folder).await;
    }
    let folder = cluster::folder()?;
    let name = "postgres::a_killed_owner_takes_its_server_along_and_the_next_start_has_every_row";
    let role = folder.path().to_str().ok_or("not UTF-8")?;
    let (mut owner, mut said) = rerun::start(rerun::command(name, role)?)?;
    let url = said.next().ok_or("the owner said nothing")?;
    let mut watching = PgConnection::connect(&url).await?;
    let seen = said.by_ref().take(200).last().ok_or("no row")?;
    owner.kill()?;
    let last: i64 = said.last().unwrap_or(seen).parse()?;
    owner.wait()?;
    if cfg!(target_os = "linux") {
        // Nobody but the kernel told the server; it cuts its sessions off when it ends.
        let cut = sqlx::query("select pg_sleep(60)").execute(&mut watching).await;
        assert!(cut.is_err(), "the server outlived its owner");
    }

    let next = Cluster::start(Options::new(folder.path())).await?;
    let rows: i64 =
        sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connect(&next).await?).await?;
    assert!(rows >= last, "{last} rows were acknowledged, {rows} are there");
    assert!(rows <= last + 1, "{rows} rows where {last} were acknowledged");
    Ok(next.stop().await?)
}

#[tokio::test]
async fn without_the_programs_one_message_names_the_ways_out() -> Result<()> {
    let folder = cluster::folder()?;
    let programs = Some(folder.path().to_owned());
    let refused = Cluster::start(Options { programs, ..Options::new(folder.path().join("cluster")) }).await;
    let message = refused.err().ok_or("started without programs")?.to_string();
    assert!(message.contains("apt-get install postgresql"), "{message}");
    assert!(message.contains("UNBLOCK_DATABASE_URL"), "{message}");
    Ok(())
}

/// Root drops to another user by itself; that an ordinary user's start works as well is only seen by being one.
#[tokio::test]
async fn an_ordinary_user_needs_no_root() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    // `nobody` may not reach the folder this binary is in.
    let folder = cluster::folder()?;
    let binary = folder.path().join("suite");
    let this = env::current_exe()?;
    std::fs::hard_link(&this, &binary).or_else(|_| std::fs::copy(&this, &binary).map(drop))?;
    let home = folder.path().join("home");
    std::fs::create_dir(&home)?;
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY))?;
    let test = "postgres::a_restart_keeps_the_data_and_leaves_no_process_behind";
    let mut ordinary = std::process::Command::new(&binary);
    ordinary.args(["--exact", test]).env("TMPDIR", &home).current_dir(&home).uid(NOBODY).gid(NOBODY);
    let output = ordinary.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

const NOBODY: u32 = 65534;

/// The home of root is closed to everybody else.
#[tokio::test]
async fn roots_cluster_moves_where_the_servers_user_can_reach_it_and_is_found_there_again() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let closed = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()?;
    let options = Options { durable: false, ..Options::new(closed.path().join("cluster")) };
    let cluster = Cluster::start(options.clone()).await?;
    let folder = cluster.folder().to_owned();
    assert!(!folder.starts_with(closed.path()), "{}", folder.display());
    sqlx::raw_sql("create table kept (n int)").execute(&mut connect(&cluster).await?).await?;
    cluster.stop().await?;
    let again = Cluster::start(options).await?;
    assert_eq!(again.folder(), folder);
    sqlx::query("select n from kept").execute(&mut connect(&again).await?).await?;
    again.stop().await?;
    Ok(std::fs::remove_dir_all(&folder)?)
}

#[tokio::test]
async fn every_test_owns_its_database() -> Result<()> {
    let (one, other) = (Database::create().await?, Database::create().await?);
    assert_ne!(one.url(), other.url());
    sqlx::raw_sql("create table only_here (n int)").execute(&one.pool().await?).await?;
    let elsewhere = sqlx::query("select n from only_here").execute(&other.pool().await?).await;
    assert!(elsewhere.is_err());
    Ok(())
}

#[tokio::test]
async fn a_database_goes_with_its_test() -> Result<()> {
    let gone = Database::create().await?;
    let url = gone.url().to_owned();
    let _still_connected = gone.pool().await?;
    drop(gone);
    assert!(PgConnection::connect(&url).await.is_err());
    Ok(())
}

#[test]
fn the_password_is_for_its_owner_alone() -> Result<()> {
    let folder = cluster::folder()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let options = Options { durable: false, ..Options::new(folder.path()) };
    let cluster = runtime.block_on(Cluster::start(options))?;
    let mode = |name: &str| -> Result<u32> {
        Ok(std::fs::metadata(Path::join(cluster.folder(), name))?.permissions().mode() & 0o777)
    };
    assert_eq!((mode("password")?, mode("data")?, mode("sockets")?), (0o600, 0o700, 0o700));
    Ok(())
}
