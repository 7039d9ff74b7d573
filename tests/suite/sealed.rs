//! Answers encrypted at rest: nothing of a contact is left in the database, keys rotate, and what was moved or changed is told.

use std::{fs, path::Path, process::Output};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pingone_unblock::{
    device::DeviceRef,
    proto::v1::{self, job::State},
    simulator::{self, Device},
};
use rustix::process::Signal;
use tonic::Code;

use crate::harness::{
    Result,
    database::Database,
    process::{Process, command, configuration},
    service::{PingOne, eventually, request, some_device, wire},
};

const PHONE: &str = "+14155550187";
const EMAIL: &str = "quokka.zebu@example.com";

/// A line of keys.
fn key(name: &str, byte: u8) -> String {
    format!("{name}:{}", BASE64_STANDARD.encode([byte; 32]))
}

struct World {
    database: Database,
    pingone: PingOne,
}

impl World {
    async fn start() -> Result<Self> {
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        Ok(Self { database: Database::create().await?, pingone })
    }

    /// A replica with these keys.
    async fn serve(&self, keys: &str) -> Result<Process> {
        let settings = [("UNBLOCK_SNAPSHOT_KEYS", keys)];
        Process::serve_with(self.database.url(), &self.pingone, &settings[..usize::from(!keys.is_empty())])
            .await
    }

    async fn run(&self, arguments: &[&str], keys: &str) -> Result<Output> {
        let mut command = command(arguments);
        command.envs(configuration(self.database.url(), &self.pingone)).env("UNBLOCK_SNAPSHOT_KEYS", keys);
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    fn device(&self) -> Result<DeviceRef> {
        let device = some_device()?;
        let known = Device::blocked(device).with("phone", PHONE.into()).with("email", EMAIL.into());
        self.pingone.simulator.register(known);
        Ok(device)
    }

    /// Unblocks a device at that replica: its job.
    async fn unblock(&self, process: &Process) -> Result<String> {
        let device = self.device()?;
        let job =
            process.devices()?.unblock(request(wire(&device))).await?.into_inner().job.ok_or("no job")?;
        assert_eq!(job.state(), State::Succeeded, "{:?}", job.error);
        assert_eq!(job.device.map(|device| device.phone).as_deref(), Some(PHONE));
        Ok(job.job_id)
    }

    /// All bytes of all tables, as `pg_dump` would write them.
    async fn dump(&self) -> Result<String> {
        let pool = self.database.pool().await?;
        let tables: Vec<String> =
            sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
                .fetch_all(&pool)
                .await?;
        let mut dump = String::new();
        for table in tables {
            let query = format!("select t::text from \"{table}\" t");
            let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&pool).await?;
            dump.extend(rows);
        }
        Ok(dump)
    }

    async fn wrapped_by(&self) -> Result<Vec<String>> {
        let query = "select distinct wrapped_by from data_key order by 1";
        Ok(sqlx::query_scalar(query).fetch_all(&self.database.pool().await?).await?)
    }
}

async fn stop(process: Process) -> Result<()> {
    process.signal(Signal::TERM)?;
    assert!(process.end().await?.success());
    Ok(())
}

/// What of the phone number and of the address stands in there, plain or as bytes: parts, since compression may cut them.
fn contacts_in(dump: &str) -> [usize; 2] {
    let hex = |part: &str| part.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found = |whole: &str, parts: [&str; 3]| {
        usize::from(dump.contains(whole)) + parts.iter().filter(|part| dump.contains(&hex(part))).count()
    };
    [found("5550187", ["14155", "55018", "50187"]), found("quokka", ["quokka", "kka.z", ".zebu"])]
}

async fn reads(process: &Process, job: &str) -> Result<()> {
    let device = process.job(job).await?.device.ok_or("no device")?;
    assert_eq!((device.phone.as_str(), device.email.as_str()), (PHONE, EMAIL));
    Ok(())
}

/// The code and the words of the refusal to show a job.
async fn refusal(process: &Process, job: &str) -> Result<(Code, String)> {
    let mut jobs = v1::job_service_client::JobServiceClient::new(process.channel()?);
    let refused =
        jobs.get_job(v1::GetJobRequest { job_id: job.to_owned() }).await.err().ok_or("it was shown")?;
    Ok((refused.code(), refused.message().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_contact_is_left_in_the_database() -> Result<()> {
    let world = World::start().await?;
    let plain = world.serve("").await?;
    let old = world.unblock(&plain).await?;
    let [phone, email] = contacts_in(&world.dump().await?);
    assert!(phone > 0 && email > 0, "without a key they are there: {phone}, {email}");
    stop(plain).await?;

    let process = world.serve(&key("a", 1)).await?;
    reads(&process, &old).await?;
    sqlx::query("delete from outcome").execute(&world.database.pool().await?).await?;
    let job = world.unblock(&process).await?;
    let device = world.device()?;
    let list = v1::ListUserDevicesRequest {
        environment_id: device.environment.to_string(),
        user_id: device.user.to_string(),
    };
    let listed = process.devices()?.list_user_devices(list).await?.into_inner().devices;
    assert_eq!(listed.first().map(|device| device.email.as_str()), Some(EMAIL));
    let dump = world.dump().await?;
    assert!(dump.contains(&job), "it is the dump of that database");
    assert_eq!(contacts_in(&dump), [0, 0]);
    reads(&process, &job).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_anothers_place_is_not_shown() -> Result<()> {
    let world = World::start().await?;
    let process = world.serve(&key("a", 1)).await?;
    let (one, two) = (world.unblock(&process).await?, world.unblock(&process).await?);
    let swap = "update outcome o set device = other.device from outcome other
                where o.lane = other.lane and o.job_id <> other.job_id";
    let swapped = sqlx::query(swap).execute(&world.database.pool().await?).await?;
    assert_eq!(swapped.rows_affected(), 2);
    for job in [&one, &two] {
        assert_eq!(refusal(&process, job).await?.0, Code::Internal);
    }
    sqlx::query(swap).execute(&world.database.pool().await?).await?;
    reads(&process, &one).await?;
    reads(&process, &two).await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_without_a_job_lost() -> Result<()> {
    let world = World::start().await?;
    let (a, b) = (key("a", 1), key("b", 2));
    let process = world.serve(&a).await?;
    let first = world.unblock(&process).await?;
    stop(process).await?;

    let process = world.serve(&format!("{b}\n{a}")).await?;
    reads(&process, &first).await?;
    let second = world.unblock(&process).await?;
    assert_eq!(world.wrapped_by().await?, ["a", "b"]);
    stop(process).await?;

    // The old key is taken away too early: what it wraps cannot be shown, what is done goes on.
    let log = tempfile::NamedTempFile::new()?;
    let settings = [("UNBLOCK_SNAPSHOT_KEYS", b.as_str())];
    let file = fs::File::create(log.path())?;
    let early = Process::serve_writing(world.database.url(), &world.pingone, &settings, file).await?;
    assert_eq!(refusal(&early, &first).await?.0, Code::Internal);
    reads(&early, &second).await?;
    world.unblock(&early).await?;
    assert!(fs::read_to_string(log.path())?.contains(r#"snapshot key \"a\" is needed, and not set"#));
    let told = world.run(&["check"], &b).await?;
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(said.contains("WRONG   snapshot key a, which wraps 1 data keys"), "{said}");
    stop(early).await?;

    let rewrapped = world.run(&["keys", "rewrap"], &format!("{b}\n{a}")).await?;
    let said = String::from_utf8_lossy(&rewrapped.stdout).into_owned();
    assert!(rewrapped.status.success(), "{rewrapped:?}");
    assert!(said.contains("wrapped 1 data keys anew") && said.contains("needed from now on: b\n"), "{said}");
    assert_eq!(world.wrapped_by().await?, ["b"]);
    let told = world.run(&["check"], &b).await?;
    assert!(told.status.success(), "{told:?}");
    let process = world.serve(&b).await?;
    reads(&process, &first).await?;
    reads(&process, &second).await?;
    stop(process).await?;

    // Another key of that name opens nothing, and is told from a missing one.
    let told = world.run(&["check"], &key("b", 3)).await?;
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(said.contains("snapshot key \"b\" is not the one that was used"), "{said}");
    Ok(())
}

fn replace(file: &Path, text: &str) -> Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, text)?;
    Ok(fs::rename(next, file)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_of_keys_is_used_without_a_restart() -> Result<()> {
    let world = World::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("keys");
    let (a, b) = (key("a", 1), key("b", 2));
    replace(&file, &a)?;
    let settings = [("UNBLOCK_SNAPSHOT_KEYS_FILE", file.to_str().ok_or("not UTF-8")?)];
    let process = Process::serve_with(world.database.url(), &world.pingone, &settings).await?;
    let job = world.unblock(&process).await?;
    replace(&file, "b:no key\n")?;
    eventually("the broken file is refused", async || {
        let metrics = reqwest::get(process.admin_url("metrics")).await?.text().await?;
        Ok(metrics
            .lines()
            .any(|line| line.contains("snapshot_keys") && line.contains("refused") && line.ends_with(" 1")))
    })
    .await?;
    world.unblock(&process).await?;
    assert_eq!(world.wrapped_by().await?, ["a"], "the last good one stays");
    replace(&file, &format!("{b}\n{a}"))?;
    eventually("the new key is used", async || {
        world.unblock(&process).await?;
        Ok(world.wrapped_by().await? == ["a", "b"])
    })
    .await?;
    reads(&process, &job).await
}
