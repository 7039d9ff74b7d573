//! The audit trail is sealed: every entry once, in one chain for each lane, whoever dies and whatever commits late.

use std::{process::Command, time::Duration};

use pingone_unblock::{
    device::Lane,
    engine::Sealer,
    simulator,
    store::{Access, Store},
};
use rustix::process::Signal;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, PgPool, postgres::PgConnectOptions};
use tokio::sync::watch;
use uuid::Uuid;

use crate::harness::{
    Result,
    database::Database,
    process::Process,
    service::{PingOne, eventually},
    trail::{LANE, id_before, sealed, verify, write, write_some},
};

const LANES: [i16; 4] = [0, LANE, 100, 255];

fn lanes() -> Vec<Lane> {
    LANES.into_iter().map(Lane::from_stored).collect()
}

/// Writes to all lanes until told to stop; how many entries.
async fn write_on(pool: PgPool, stop: watch::Receiver<bool>) -> Result<i64> {
    let mut written = 0;
    while !*stop.borrow() {
        for lane in LANES {
            write_some(&pool, lane, 2).await?;
            written += 2;
        }
    }
    Ok(written)
}

async fn all_sealed_once(database: &Database, pool: &PgPool) -> Result<()> {
    let (events, distinct, named) = sealed(pool).await?;
    assert_eq!((distinct, named), (events, events));
    let said = verify(database.url(), &[]).await?;
    assert_eq!((said.code, said.summary["events"].as_i64()), (Some(0), Some(events)), "{}", said.stderr);
    assert_eq!(said.summary["unsealed"].as_i64(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_at_once_seal_every_entry_once() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    let (stop, told) = watch::channel(false);
    let writing = tokio::spawn(write_on(pool.clone(), told.clone()));
    let sealing = |store: Store, told: watch::Receiver<bool>| {
        tokio::spawn(async move {
            let (mut sealer, mut events) = (Sealer::new(store), 0);
            while !*told.borrow() {
                events += sealer.seal_new(&lanes()).await?.events;
                events += sealer.look_back(&lanes()).await?.events;
            }
            Ok::<_, pingone_unblock::store::StoreError>(events)
        })
    };
    let owners = [sealing(database.store()?, told.clone()), sealing(database.store()?, told)];
    eventually("both have much to do", async || {
        let seals: i64 = sqlx::query_scalar(
            "select min(seals) from (select count(*) as seals from audit_seal group by lane) s",
        )
        .fetch_optional(&pool)
        .await?
        .flatten()
        .unwrap_or_default();
        Ok(seals > 30)
    })
    .await?;
    stop.send(true)?;
    let written = writing.await??;
    let mut by_owner = Vec::new();
    for owner in owners {
        by_owner.push(owner.await??);
    }
    assert!(by_owner.iter().all(|events| *events > 0), "one had nothing to do: {by_owner:?}");

    let mut third = Sealer::new(database.store()?);
    let rest = third.seal_new(&lanes()).await?.events + third.look_back(&lanes()).await?.events;
    assert_eq!(i64::try_from(by_owner.iter().sum::<u64>() + rest)?, written);
    all_sealed_once(&database, &pool).await
}

#[tokio::test]
async fn what_commits_late_is_sealed_all_the_same() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    let mut sealer = Sealer::new(database.store()?);
    let lane = Lane::from_stored(LANE);
    // A little late, later than the tail is long, and at the far end of a sweep.
    let ages = [10, 300, 3_400].map(Duration::from_secs);
    let mut open = Vec::new();
    for age in ages {
        let mut transaction = pool.begin().await?;
        write(&mut *transaction, LANE, id_before(LANE, age)).await?;
        open.push(transaction);
    }
    write_some(&pool, LANE, 3).await?;
    assert_eq!(sealer.seal_new(&[lane]).await?.events, 3);
    for transaction in open {
        transaction.commit().await?;
    }
    assert_eq!(sealer.seal_new(&[lane]).await?.events, 0, "they lie behind");
    assert_eq!(sealer.look_back(&[lane]).await?.events, 1, "one lies in the tail");
    assert_eq!(sealer.sweep(lane).await?.events, 2);
    // Neither the same owner nor a new one seals them again.
    let mut other = Sealer::new(database.store()?);
    for sealer in [&mut sealer, &mut other] {
        assert_eq!(sealer.seal_new(&[lane]).await?.events, 0);
        assert_eq!(sealer.look_back(&[lane]).await?.events, 0);
        assert_eq!(sealer.sweep(lane).await?.events, 0);
    }
    let said = verify(database.url(), &[]).await?;
    assert_eq!(said.summary["late"].as_i64(), Some(2), "{}", said.stderr);
    all_sealed_once(&database, &pool).await
}

/// The newest seal may name only what is old.
#[tokio::test]
async fn a_new_owner_knows_what_was_sealed_before_a_late_entry() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    let lane = Lane::from_stored(LANE);
    let mut first = Sealer::new(database.store()?);
    write_some(&pool, LANE, 20).await?;
    first.seal_new(&[lane]).await?;
    write(&pool, LANE, id_before(LANE, Duration::from_secs(1_800))).await?;
    assert_eq!(first.sweep(lane).await?.events, 1);
    let mut second = Sealer::new(database.store()?);
    assert_eq!(second.seal_new(&[lane]).await?.events, 0);
    assert_eq!(second.sweep(lane).await?.events, 0);
    all_sealed_once(&database, &pool).await
}

#[tokio::test]
async fn what_is_ahead_of_the_clock_of_postgres_waits_for_its_time() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    let lane = Lane::from_stored(LANE);
    let mut sealer = Sealer::new(database.store()?);
    let hour = first_in(Duration::from_secs(3_000));
    write(&pool, LANE, hour).await?;
    write_some(&pool, LANE, 2).await?;
    assert_eq!(sealer.seal_new(&[lane]).await?.events, 2);
    let said = verify(database.url(), &[]).await?;
    assert_eq!((said.code, said.summary["unsealed"].as_i64()), (Some(0), Some(1)));
    Ok(())
}

fn first_in(time: Duration) -> Uuid {
    use pingone_unblock::audit::{first_id, millis_at};
    let then = first_id(millis_at(time::OffsetDateTime::now_utc() + time));
    Uuid::from_u128(then.as_u128() | 0x7 << 76 | u128::from(LANE.unsigned_abs()))
}

#[tokio::test]
async fn a_backlog_is_caught_up_with() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    let lane = Lane::from_stored(LANE);
    for part in 0..4_u32 {
        sqlx::query(
            "insert into audit (lane, event_id, action, caller)
             select $1, ($2::text || lpad(to_hex($3 * 4000 + n), 16, '0'))::uuid, 1, 'backlog' from generate_series(1, 4000) n",
        )
        .bind(LANE)
        .bind(&id_before(LANE, Duration::from_secs(500)).simple().to_string()[..16])
        .bind(i32::try_from(part)?)
        .execute(&pool)
        .await?;
    }
    let mut sealer = Sealer::new(database.store()?);
    assert_eq!(sealer.seal_new(&[lane]).await?.events, 16_000);
    // In the middle of it another one takes over.
    sqlx::query("delete from audit_seal where number > 5").execute(&pool).await?;
    let mut other = Sealer::new(database.store()?);
    assert_eq!(other.seal_new(&[lane]).await?.events, 11_000);
    all_sealed_once(&database, &pool).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_while_it_seals_leaves_one_chain() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let killed = Process::serve(database.url(), &pingone).await?;
    let _other = Process::serve(database.url(), &pingone).await?;
    eventually("two share", async || {
        let owners: i64 =
            sqlx::query_scalar("select count(distinct owner) from lane where owner is not null")
                .fetch_one(&pool)
                .await?;
        Ok(owners == 2)
    })
    .await?;
    let (stop, told) = watch::channel(false);
    let writing = tokio::spawn(write_on(pool.clone(), told));
    eventually("every lane has seals", async || {
        let seals: Vec<i64> =
            sqlx::query_scalar("select count(*) from audit_seal where lane = any($1) group by lane")
                .bind(LANES)
                .fetch_all(&pool)
                .await?;
        Ok(seals.len() == LANES.len() && seals.iter().all(|seals| *seals >= 2))
    })
    .await?;
    killed.signal(Signal::KILL)?;
    eventually("one owns all", async || {
        let owners: i64 =
            sqlx::query_scalar("select count(distinct owner) from lane").fetch_one(&pool).await?;
        Ok(owners == 1)
    })
    .await?;
    stop.send(true)?;
    writing.await??;
    eventually("everything is sealed", async || {
        let (events, distinct, _) = sealed(&pool).await?;
        Ok(events == distinct)
    })
    .await?;
    all_sealed_once(&database, &pool).await
}

/// A role of its own, which may do only what is said.
async fn role(database: &Database, pool: &PgPool, may: &str) -> Result<String> {
    use sqlx::ConnectOptions as _;
    let options: PgConnectOptions = database.url().parse()?;
    let name = format!("role_{}", Uuid::new_v4().simple());
    for statement in [
        format!("create role {name} login password 'let me in'"),
        format!("grant {may} on audit, audit_seal to {name}"),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await?;
    }
    Ok(options.username(&name).password("let me in").to_url_lossy().into())
}

#[tokio::test]
async fn who_seals_needs_only_to_read_and_insert_and_who_verifies_only_to_read() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    write_some(&pool, LANE, 3).await?;
    let url = SecretString::from(role(&database, &pool, "select, insert").await?);
    let store = Store::new(&Access { direct_url: url.clone(), url, pooled: false, connections: 2 })?;
    let mut sealer = Sealer::new(store);
    let lane = Lane::from_stored(LANE);
    assert_eq!(sealer.seal_new(&[lane]).await?.events, 3);
    sealer.look_back(&[lane]).await?;
    sealer.sweep(lane).await?;

    let reader = role(&database, &pool, "select").await?;
    let said = verify(&reader, &[]).await?;
    assert_eq!((said.code, said.summary["events"].as_i64()), (Some(0), Some(3)), "{}", said.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_dumped_and_restored_is_as_it_was_sealed() -> Result<()> {
    let database = Database::create().await?;
    let pool = database.pool().await?;
    for lane in LANES {
        write_some(&pool, lane, 5).await?;
    }
    Sealer::new(database.store()?).seal_new(&lanes()).await?;
    let restored = format!("restored_{}", Uuid::new_v4().simple());
    sqlx::raw_sql(AssertSqlSafe(format!("create database {restored} template template0")))
        .execute(&pool)
        .await?;
    use sqlx::ConnectOptions as _;
    let options: PgConnectOptions = database.url().parse()?;
    let url: String = options.database(&restored).to_url_lossy().into();
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "set -e; pg_dump --no-owner \"$FROM\" >\"$FILE\"; psql -X -q -v ON_ERROR_STOP=1 -f \"$FILE\" \"$TO\"",
    ]);
    let folder = tempfile::tempdir()?;
    // What follows is for sqlx alone.
    let plain = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
    shell.env("FROM", plain(database.url())).env("TO", plain(&url)).env("FILE", folder.path().join("dump"));
    let output = tokio::task::spawn_blocking(move || shell.output()).await??;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = verify(&url, &[]).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("drop database {restored} with (force)"))).execute(&pool).await?;
    assert_eq!((said.code, said.summary["events"].as_i64()), (Some(0), Some(20)), "{}", said.stderr);
    Ok(())
}
