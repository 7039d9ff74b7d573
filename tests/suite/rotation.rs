//! Secrets that change while the service runs: it goes on, by the new ones, and tells none.

use std::{fs, path::PathBuf};

use pingone_unblock::{
    proto::v1::job::State,
    simulator::{self, CLIENT_ID, CLIENT_SECRET},
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::{
    Result,
    database::Database,
    process::Process,
    service::{ENVIRONMENT, PingOne, eventually, request, request_without_wait, some_device, wire},
};

struct World {
    database: Database,
    pingone: PingOne,
    folder: TempDir,
}

impl World {
    async fn start() -> Result<Self> {
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        Ok(Self { database: Database::create().await?, pingone, folder: tempfile::tempdir()? })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, secret: &str) -> Result<()> {
        fs::write(self.file("next"), secret)?;
        Ok(fs::rename(self.file("next"), self.file(name))?)
    }

    /// A replica that has its secrets from files, and its log in another.
    async fn serve(&self, settings: &[(&str, &str)]) -> Result<Process> {
        let base = format!("http://{}", self.pingone.address);
        let secrets = self.folder.path().to_str().ok_or("not UTF-8")?;
        let (secret, url) = (format!("{secrets}/secret"), format!("{secrets}/url"));
        let common = [
            ("PINGONE_API_PATH", base.as_str()),
            ("PINGONE_AUTH_PATH", &base),
            ("PINGONE_CLIENT_SECRET_FILE", &secret),
            ("UNBLOCK_DATABASE_URL_FILE", &url),
            ("PINGONE_RATE_LIMIT", "1000"),
        ];
        let log = fs::File::create(self.file("log"))?;
        let started = Process::serve_into(&[&common[..], settings].concat(), log).await;
        started.map_err(|error| format!("{error}: {}", self.log()).into())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    async fn logged(&self, words: &str) -> Result<()> {
        eventually("it is logged", async || Ok(self.log().contains(words)))
            .await
            .map_err(|error| format!("{error}: {words}: {}", self.log()).into())
    }
}

async fn unblock(process: &Process) -> Result<()> {
    let asked = request(wire(&some_device()?));
    let job = process.devices()?.unblock(asked).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded, "{:?} {}", job.error, job.waiting_for);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_client_secret_fails_no_job() -> Result<()> {
    let world = World::start().await?;
    world.write("secret", CLIENT_SECRET)?;
    world.write("url", world.database.url())?;
    let process = world.serve(&[]).await?;
    unblock(&process).await?;
    let granted = world.pingone.simulator.counts().token_requests;

    // PingOne knows the new one alone; the running token serves on, while jobs come and go.
    let new = format!("rotated-{}", Uuid::new_v4().simple());
    world.pingone.simulator.set_secret(CLIENT_ID, &new);
    let working = async {
        loop {
            unblock(&process).await?;
            if world.pingone.simulator.counts().token_requests > granted {
                return Result::<()>::Ok(());
            }
        }
    };
    world.write("secret", "")?;
    world.logged("the last good one stays").await?;
    world.write("secret", &format!("{new}\n"))?;
    tokio::time::timeout(std::time::Duration::from_secs(60), working).await??;
    world.logged("the changed credential is used from now on").await?;

    // Only by the new secret is there another token.
    world.pingone.simulator.revoke_tokens();
    unblock(&process).await?;
    let log = world.log();
    assert!(!log.contains(&new) && !log.contains(CLIENT_SECRET), "{log}");
    let cmdline = fs::read(format!("/proc/{}/cmdline", process.id()))?;
    let cmdline = String::from_utf8_lossy(&cmdline).into_owned();
    assert!(
        cmdline.contains("serve")
            && !cmdline.contains(CLIENT_SECRET)
            && !cmdline.contains(world.database.url())
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_tried_as_soon_as_its_file_changes() -> Result<()> {
    let world = World::start().await?;
    world.write("secret", "not the secret")?;
    world.write("url", world.database.url())?;
    let process = world.serve(&[]).await?;
    let asked = request_without_wait(wire(&some_device()?));
    let job = process.devices()?.unblock(asked).await?.into_inner().job.ok_or("no job")?.job_id;
    eventually("the credential is refused", async || {
        Ok(process
            .job(&job)
            .await?
            .waiting_for
            .contains(&format!("refuses the credential of environment {ENVIRONMENT}")))
    })
    .await?;
    world.write("secret", CLIENT_SECRET)?;
    eventually("the job ends", async || Ok(process.job(&job).await?.state() == State::Succeeded)).await?;
    let job = process.job(&job).await?;
    assert_eq!(job.attempt_count, 1, "the refusals cost nothing");
    world.logged("the changed credential is used from now on").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_of_the_database_is_used_by_new_connections() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let run = async |statement: String| sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await;
    let role = format!("rotated_{}", Uuid::new_v4().simple());
    let url = |password: &str| -> Result<String> {
        let mut url = reqwest::Url::parse(world.database.url())?;
        let set = url.set_username(&role).and_then(|()| url.set_password(Some(password)));
        set.map_err(|()| "the URL takes no password")?;
        Ok(url.into())
    };
    run(format!("create role {role} login superuser password 'the-first'")).await?;
    world.write("secret", CLIENT_SECRET)?;
    world.write("url", &url("the-first")?)?;
    let process = world.serve(&[]).await?;
    unblock(&process).await?;

    run(format!("alter role {role} password 'the-second'")).await?;
    world.write("url", "postgres://nonsense:port/")?;
    world.logged("the last good one stays").await?;
    unblock(&process).await?;
    world.write("url", &url("the-second")?)?;
    world.logged("new connections to the database use the changed address").await?;
    let ended: Vec<bool> =
        sqlx::query_scalar("select pg_terminate_backend(pid) from pg_stat_activity where usename = $1")
            .bind(&role)
            .fetch_all(&pool)
            .await?;
    assert!(!ended.is_empty(), "it was connected by that role");
    eventually("it works by the new password", async || Ok(unblock(&process).await.is_ok())).await?;
    let log = world.log();
    assert!(!log.contains("the-first") && !log.contains("the-second"), "{log}");
    drop(process);
    eventually("nobody is connected", async || Ok(run(format!("drop role {role}")).await.is_ok())).await
}
