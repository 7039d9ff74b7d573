//! One person is erased: nothing of them is left in any table, everybody else's is, and the trail stays provable all along.

use std::{
    collections::BTreeSet,
    process::{Output, Stdio},
};

use pingone_unblock::{
    audit::{Action, Personal, event_id, first_id, millis_at},
    device::{DeviceRef, EnvironmentId, UserId},
    engine::Sealer,
    proto::v1::{self, BatchTarget, UnblockRequest, batch, job::State, target_result::Outcome},
    simulator::Fault,
    store::Erasure,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use time::OffsetDateTime;
use tokio::sync::watch;
use tonic::Code;
use uuid::Uuid;

use crate::harness::{
    Result,
    bulk::{Bulk, having, header, row, row_of},
    database::Database,
    process::command,
    service::{ENVIRONMENT, World, eventually, request, request_without_wait, some_device, wire},
    trail::{sealed, verify},
};

const REASON: &str = "request 17";

/// What the command is told.
fn arguments<'a>(environment: &'a str, user: &'a str) -> Vec<&'a str> {
    vec!["erase", "--environment", environment, "--user", user, "--by", "privacy", "--reason", REASON]
}

async fn erase(url: &str, environment: &str, user: Uuid, more: &[&str]) -> Result<Output> {
    let user = user.to_string();
    let mut erase = command(&[&arguments(environment, &user), more].concat());
    erase.env("UNBLOCK_DATABASE_URL", url);
    Ok(tokio::task::spawn_blocking(move || erase.output()).await??)
}

/// What it prints for programs.
async fn erased(url: &str, environment: &str, user: Uuid, more: &[&str]) -> Result<Value> {
    let output = erase(url, environment, user, &[&["--output", "json"], more].concat()).await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn counts(said: &Value) -> [Option<u64>; 3] {
    ["auditEntries", "jobs", "batchRows"].map(|name| said[name].as_u64())
}

/// All that tables hold, as text; bytes in hexadecimal.
async fn dump(pool: &PgPool) -> Result<String> {
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public' order by 1")
            .fetch_all(pool)
            .await?;
    assert!(tables.len() > 15, "{tables:?}");
    let mut dump = String::new();
    for table in tables {
        let rows = format!("select t::text from \"{table}\" t order by 1");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(pool).await?;
        dump.extend(rows);
    }
    Ok(dump)
}

/// How often that stands there, plain or as bytes.
fn times(dump: &str, word: &str) -> usize {
    let bytes = match Uuid::try_parse(word) {
        Ok(id) => id.simple().to_string(),
        Err(_) => word.bytes().map(|byte| format!("{byte:02x}")).collect(),
    };
    dump.matches(word).count() + dump.matches(&bytes).count()
}

async fn is_provable(database: &Database) -> Result<()> {
    let said = verify(database.url(), &[]).await?;
    assert_eq!((said.code, said.kinds), (Some(0), BTreeSet::new()), "{}", said.stderr);
    Ok(())
}

async fn all_is_sealed(database: &Database, pool: &PgPool) -> Result<()> {
    eventually("all is sealed", async || {
        let (events, distinct, named) = sealed(pool).await?;
        Ok(events == distinct && distinct == named)
    })
    .await?;
    is_provable(database).await
}

/// Has a device of that user unblocked, every text naming the person.
async fn unblock(world: &World, device: &DeviceRef, person: &str) -> Result<v1::Job> {
    let asked = UnblockRequest {
        reason: format!("{person} lost it"),
        ticket: format!("case of {person}"),
        on_behalf_of: person.to_owned(),
        request_id: format!("{person}-{}", device.device),
        ..request(wire(device))
    };
    Ok(world.service.unblock(asked).await?.job.ok_or("no job")?)
}

/// A job that failed, was tried again and failed; one that was cancelled; one that succeeded; all naming the person.
async fn a_history(world: &World, person: &str) -> Result<DeviceRef> {
    let device = some_device()?;
    world.simulator().fault(device.device, [Fault::status(404), Fault::status(404)]);
    let failed = unblock(world, &device, person).await?;
    assert_eq!(failed.state(), State::Failed);
    let again = v1::RetryJobRequest {
        job_id: failed.job_id.clone(),
        reason: format!("{person} called again"),
        ..v1::RetryJobRequest::default()
    };
    world.service.jobs.clone().retry_job(again).await?;
    eventually("it failed again", async || {
        let job = world.service.job(&failed.job_id).await?;
        Ok(job.run == 2 && job.state() == State::Failed)
    })
    .await?;

    let waits = DeviceRef { device: Uuid::new_v4().into(), ..device };
    world.simulator().fault(waits.device, [Fault::Hold { then: Box::new(Fault::status(503)) }]);
    let asked = UnblockRequest { on_behalf_of: person.to_owned(), ..request_without_wait(wire(&waits)) };
    let waiting = world.service.unblock(asked).await?.job.ok_or("no job")?;
    eventually("it is at PingOne", async || Ok(!world.simulator().requests_for(waits.device).is_empty()))
        .await?;
    let cancel =
        v1::CancelJobRequest { job_id: waiting.job_id.clone(), reason: format!("{person} found it") };
    world.service.jobs.clone().cancel_job(cancel).await?;
    world.simulator().release_device(waits.device);
    world.service.job_in(&waiting.job_id, &[State::Cancelled]).await?;

    let fine = DeviceRef { device: Uuid::new_v4().into(), ..device };
    assert_eq!(unblock(world, &fine, person).await?.state(), State::Succeeded);
    Ok(device)
}

/// Rows that name the user, one way or another, and one of somebody else.
fn rows_of(user: Uuid, person: &str) -> [BatchTarget; 4] {
    let referred = BatchTarget { client_reference: person.to_owned(), ..row_of(user, Some(Uuid::new_v4())) };
    let wrong = BatchTarget { device_id: "none".to_owned(), ..referred.clone() };
    [referred.clone(), row(), referred, wrong]
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_erased_person_is_left_and_all_of_the_others() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let (quokka, wombat) = (a_history(&world, "quokka").await?, a_history(&world, "wombat").await?);
    let bulk =
        Bulk::at(&world.service, v1::BatchHeader { environment_id: ENVIRONMENT.to_owned(), ..header() })?;
    bulk.upload(&rows_of(quokka.user.as_uuid(), "quokka")).await?;
    let (_, before) = bulk.ended(batch::State::Done).await?;
    all_is_sealed(&world.database, &pool).await?;

    let whole = dump(&pool).await?;
    let user = quokka.user.to_string();
    assert!(times(&whole, &user) > 10 && times(&whole, "quokka") > 10);
    let counted = erased(world.database.url(), ENVIRONMENT, quokka.user.as_uuid(), &["--dry-run"]).await?;
    assert_eq!(counted["dryRun"], true);
    let said = erased(world.database.url(), ENVIRONMENT, quokka.user.as_uuid(), &["--yes"]).await?;
    // Whoever looks at once finds a sealed erasure.
    is_provable(&world.database).await?;
    assert_eq!(counts(&said), counts(&counted));
    // Three requests, a redrive, a cancel and a row of a batch; a job for each of the requests and of the row.
    assert_eq!(counts(&said), [Some(6), Some(4), Some(3)]);
    assert_eq!((said["dryRun"].as_bool(), said["eventIds"].as_array().map(Vec::len)), (Some(false), Some(1)));

    let left = dump(&pool).await?;
    for gone in [user.as_str(), &quokka.device.to_string(), "quokka"] {
        assert_eq!(times(&left, gone), 0, "{gone}");
    }
    for stays in [&wombat.user.to_string(), "wombat"] {
        assert_eq!(times(&left, stays), times(&whole, stays), "{stays}");
    }
    let results = bulk.results().await?;
    assert_eq!(results.len(), before.len(), "each row keeps its place");
    let emptied = having(&results, Outcome::Rejected);
    assert_eq!(emptied.iter().map(|row| row.offset).collect::<Vec<_>>(), [0, 2, 3]);
    assert!(emptied.iter().all(|row| row.error.as_ref().is_some_and(|error| error.reason == "ERASED")));
    assert_eq!(results[1], before[1]);

    all_is_sealed(&world.database, &pool).await?;
    let told: (String, i64, String) =
        sqlx::query_as("select caller, count, detail from audit where action = $1")
            .bind(Action::Erased.number())
            .fetch_one(&pool)
            .await?;
    assert_eq!(told, ("privacy".to_owned(), 6, "pingone-unblock erase".to_owned()));
    assert_eq!(times(&dump(&pool).await?, REASON), 1, "why stands in the entry");

    let again = erased(world.database.url(), ENVIRONMENT, quokka.user.as_uuid(), &["--yes"]).await?;
    assert_eq!((counts(&again), &again["eventIds"]), ([Some(0); 3], &Value::Array(Vec::new())));
    let words = erase(world.database.url(), ENVIRONMENT, quokka.user.as_uuid(), &["--yes"]).await?;
    assert_eq!(String::from_utf8(words.stdout)?, "nothing is kept of this user\n");

    sqlx::query("update audit set personal = null where personal is not null and action = 5")
        .execute(&pool)
        .await?;
    let found = verify(world.database.url(), &[]).await?;
    let missing = BTreeSet::from(["personal_missing".to_owned()]);
    assert_eq!((found.code, found.kinds), (Some(1), missing), "another one was not erased");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_jobs_have_not_ended_is_not_erased() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let device = some_device()?;
    world.simulator().fault(device.device, [Fault::Hold { then: Box::new(Fault::Normal) }]);
    let job = world.service.unblock(request_without_wait(wire(&device))).await?.job.ok_or("no job")?;
    let refused = erase(world.database.url(), ENVIRONMENT, device.user.as_uuid(), &["--yes"]).await?;
    let why = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("1 job of this user has not ended: wait, or cancel"), "{why}");
    assert!(why.contains(&format!("job list --environment {ENVIRONMENT} --user {}", device.user)), "{why}");
    eventually("it is at PingOne", async || Ok(!world.simulator().requests_for(device.device).is_empty()))
        .await?;
    world.simulator().release_device(device.device);
    world.service.job_in(&job.job_id, &[State::Succeeded]).await?;

    // A batch that goes on may send its rows again.
    let bulk =
        Bulk::at(&world.service, v1::BatchHeader { environment_id: ENVIRONMENT.to_owned(), ..header() })?;
    let upload = bulk.fill(&[row_of(device.user.as_uuid(), Some(Uuid::new_v4()))]).await?;
    bulk.when("its row was sent", |batch| batch.succeeded_count == 1).await?;
    let refused = erase(world.database.url(), ENVIRONMENT, device.user.as_uuid(), &["--yes"]).await?;
    let why = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains(&bulk.header.batch_id) && why.contains("have not ended"), "{why}");
    let kept: i64 = sqlx::query_scalar("select count(*) from job where user_id = $1")
        .bind(device.user.as_uuid())
        .fetch_one(&pool)
        .await?;
    assert_eq!(kept, 2);
    drop(upload);
    bulk.cancel().await?;
    bulk.when_in(batch::State::Cancelled).await?;
    let said = erased(world.database.url(), ENVIRONMENT, device.user.as_uuid(), &["--yes"]).await?;
    assert_eq!(counts(&said), [Some(2), Some(2), Some(1)]);
    all_is_sealed(&world.database, &pool).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_not_tried_again() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let device = some_device()?;
    let targets = [row_of(device.user.as_uuid(), Some(device.device.as_uuid())), row()];
    for target in &targets {
        let device = DeviceRef { device: Uuid::try_parse(&target.device_id)?.into(), ..device };
        world.simulator().fault(device.device, [Fault::status(404)]);
    }
    let bulk =
        Bulk::at(&world.service, v1::BatchHeader { environment_id: ENVIRONMENT.to_owned(), ..header() })?;
    bulk.upload(&targets).await?;
    let (_, before) = bulk.ended(batch::State::Done).await?;
    erased(world.database.url(), ENVIRONMENT, device.user.as_uuid(), &["--yes"]).await?;
    let again = v1::RetryJobRequest { job_id: before[0].job_id.clone(), ..v1::RetryJobRequest::default() };
    let refused = world.service.jobs.clone().retry_job(again).await.expect_err("it is gone");
    assert_eq!(refused.code(), Code::NotFound);
    bulk.retry().await?;
    bulk.when("the other row is done", |batch| batch.succeeded_count == 1).await?;
    bulk.when_in(batch::State::Done).await?;
    assert_eq!(world.simulator().requests_for(device.device).len(), 1, "none after the erasure");
    let lost: i64 = sqlx::query_scalar(
        "select count(*) from ready r where lane >= 0 and not exists (select from job j where j.job_id = r.job_id)",
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(lost, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_is_killed_has_changed_nothing() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let device = a_history(&world, "quokka").await?;
    all_is_sealed(&world.database, &pool).await?;
    let before = times(&dump(&pool).await?, "quokka");
    // It waits at its last step, all else done.
    let mut held = pool.begin().await?;
    sqlx::query("lock table audit_seal in exclusive mode").execute(&mut *held).await?;
    let user = device.user.to_string();
    let mut erasing = command(&[&arguments(ENVIRONMENT, &user)[..], &["--yes"]].concat());
    erasing.env("UNBLOCK_DATABASE_URL", world.database.url()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut erasing = erasing.spawn()?;
    eventually("it waits", async || {
        let waits = "select exists (select from pg_stat_activity where datname = current_database()
                     and wait_event_type = 'Lock' and query like '%insert into audit_seal%')";
        Ok(sqlx::query_scalar(waits).fetch_one(&pool).await?)
    })
    .await?;
    erasing.kill()?;
    assert!(!erasing.wait()?.success());
    held.rollback().await?;
    assert_eq!(times(&dump(&pool).await?, "quokka"), before);
    let erasures: i64 = sqlx::query_scalar("select count(*) from audit where action = $1")
        .bind(Action::Erased.number())
        .fetch_one(&pool)
        .await?;
    assert_eq!(erasures, 0);
    let said = erased(world.database.url(), ENVIRONMENT, device.user.as_uuid(), &["--yes"]).await?;
    assert_eq!(counts(&said)[1], Some(3));
    is_provable(&world.database).await
}

/// So many entries about `user`, among others of the environment's lane.
async fn write_many(pool: &PgPool, environment: EnvironmentId, user: UserId, count: i32) -> Result<()> {
    let lane = environment.lane();
    let packed = Personal { user: Some(user), ..Personal::because("she asked", "") }.pack();
    let other = Personal::because("nobody's", "").pack();
    let then = first_id(millis_at(OffsetDateTime::now_utc()) - 1000).as_u128();
    let first = Uuid::from_u128(then | event_id(lane).as_u128() & ((1 << 80) - 1));
    sqlx::query(
        "insert into audit (lane, event_id, environment_id, action, caller, personal_digest, personal)
         select $1, (left($2, 22) || lpad(to_hex(n), 8, '0') || right($2, 2))::uuid, $3, 1, 'help-desk',
                case when n % 3 = 0 then $6 else $4 end, case when n % 3 = 0 then $7 else $5 end
         from generate_series(1, $8) n",
    )
    .bind(lane.number())
    .bind(first.simple().to_string())
    .bind(environment.as_uuid())
    .bind(packed.digest.to_vec())
    .bind(packed.bytes)
    .bind(other.digest.to_vec())
    .bind(other.bytes)
    .bind(count)
    .execute(pool)
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fits_one_step_is_erased_while_owners_seal() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    let environment = EnvironmentId::parse(ENVIRONMENT)?;
    let lanes = [environment.lane()];
    let (stop, told) = watch::channel(false);
    let sealing = |told: watch::Receiver<bool>| {
        let store = database.store();
        tokio::spawn(async move {
            let store = store.map_err(|error| error.to_string())?;
            let mut sealer = Sealer::new(store);
            while !*told.borrow() {
                sealer.seal_new(&lanes).await.map_err(|error| error.to_string())?;
                sealer.look_back(&lanes).await.map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        })
    };
    let owners = [sealing(told.clone()), sealing(told)];
    let store = database.store()?;
    for _ in 0..5 {
        let user = UserId::from(Uuid::new_v4());
        write_many(&pool, environment, user, 21_000).await?;
        let wish = Erasure { environment, user, by: "privacy", reason: REASON };
        let erased = store.erase(&wish, true).await?.map_err(|not| format!("{not:?}"))?;
        assert_eq!((erased.entries, erased.told.len()), (14_000, 3));
        is_provable(&database).await?;
    }
    stop.send(true)?;
    for owner in owners {
        owner.await??;
    }
    let mut sealer = Sealer::new(database.store()?);
    eventually("all is sealed", async || {
        sealer.seal_new(&lanes).await?;
        sealer.look_back(&lanes).await?;
        let (events, distinct, named) = sealed(&pool).await?;
        assert_eq!(distinct, named, "none twice");
        Ok(events == distinct)
    })
    .await?;
    is_provable(&database).await
}
