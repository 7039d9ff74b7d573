//! Whoever may write every table changes the trail: `audit verify` finds it, each kind as what it is.

use std::{collections::BTreeSet, time::Duration};

use pingone_unblock::{
    audit::{Head, Kind, Seal, hash},
    device::Lane,
    engine::Sealer,
};
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::{
    Result,
    database::Database,
    trail::{LANE, id_before, keep_heads, verify, write, write_erasure, write_some},
};

const SEALS: usize = 6;
const EACH: usize = 4;

/// A chain of some seals, its heads kept elsewhere, and all of it kept to be put back.
struct Scene {
    database: Database,
    pool: PgPool,
    /// By seal.
    events: Vec<Vec<Uuid>>,
    folder: TempDir,
}

impl Scene {
    async fn set() -> Result<Self> {
        let database = Database::create().await?;
        let pool = database.pool().await?;
        let mut sealer = Sealer::new(database.store()?);
        let mut events = Vec::new();
        for _ in 0..SEALS {
            events.push(write_some(&pool, LANE, EACH).await?);
            assert_eq!(sealer.seal_new(&[Lane::from_stored(LANE)]).await?.events, EACH as u64);
        }
        let folder = tempfile::tempdir()?;
        keep_heads(database.url(), &folder.path().join("heads")).await?;
        sqlx::raw_sql("create table kept as table audit; create table kept_seal as table audit_seal")
            .execute(&pool)
            .await?;
        Ok(Self { database, pool, events, folder })
    }

    async fn restore(&self) -> Result<()> {
        let all = "truncate audit, audit_seal; insert into audit table kept; insert into audit_seal table kept_seal";
        sqlx::raw_sql(all).execute(&self.pool).await?;
        Ok(())
    }

    async fn run(&self, statement: &str) -> Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&self.pool).await?;
        Ok(())
    }

    /// What is found wrong, without and with the kept heads.
    async fn found(&self) -> Result<[BTreeSet<String>; 2]> {
        let heads = self.folder.path().join("heads");
        let alone = verify(self.database.url(), &[]).await?;
        let with = verify(self.database.url(), &["--head", &heads.to_string_lossy()]).await?;
        for said in [&alone, &with] {
            assert_eq!(said.code, Some(i32::from(!said.kinds.is_empty())), "{}", said.stderr);
        }
        Ok([alone.kinds, with.kinds])
    }
}

fn kinds(kinds: &[Kind]) -> BTreeSet<String> {
    kinds.iter().map(|kind| kind.name().to_owned()).collect()
}

/// One value of a column changed, as little as can be.
fn changed(column: &str, kind: &str) -> String {
    match kind {
        "smallint" | "integer" | "bigint" => format!("{column} + 1"),
        "uuid" => format!(
            "encode(set_byte(uuid_send({column}), 9, get_byte(uuid_send({column}), 9) # 1), 'hex')::uuid"
        ),
        "timestamp with time zone" => format!("{column} + interval '1 microsecond'"),
        "text" => format!("overlay({column} placing chr(ascii({column}) # 1) from 1)"),
        "bytea" => format!("set_byte({column}, 20, get_byte({column}, 20) # 1)"),
        "ARRAY" => format!("array_append({column}, gen_random_uuid())"),
        other => panic!("no way to change a {other}: teach this test"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_any_column_is_found() -> Result<()> {
    let scene = Scene::set().await?;
    assert_eq!(scene.found().await?, [kinds(&[]), kinds(&[])]);
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "select table_name::text, column_name::text, data_type::text from information_schema.columns
         where table_schema = current_schema() and table_name in ('audit', 'audit_seal') order by 1, ordinal_position",
    )
    .fetch_all(&scene.pool)
    .await?;
    assert!(columns.len() > 25, "{columns:?}");
    for (table, column, kind) in columns {
        let new = changed(&column, &kind);
        let which = match table.as_str() {
            "audit" => format!("event_id = '{}'", scene.events[2][1]),
            _ => "number = 3".to_owned(),
        };
        let expected = match (table.as_str(), column.as_str()) {
            ("audit", "lane" | "event_id") => &[Kind::EventMissing][..],
            ("audit", "personal") => &[Kind::PersonalChanged],
            ("audit", "personal_digest") => &[Kind::Changed, Kind::PersonalChanged],
            // It is the first of the next lane now, where what it names is not.
            ("audit_seal", "lane") => &[Kind::SealMissing, Kind::EventMissing],
            // There is one of that number already.
            ("audit_seal", "number") => &[Kind::SealMissing, Kind::SealMoved, Kind::Forked],
            ("audit_seal", "events") => &[Kind::EventMissing],
            _ => &[Kind::Changed],
        };
        if column == "number" {
            scene.run("alter table audit_seal drop constraint audit_seal_pkey").await?;
        }
        scene.run(&format!("update {table} set {column} = {new} where lane = {LANE} and {which}")).await?;
        let [found, _] = scene.found().await?;
        assert_eq!(found, kinds(expected), "{table}.{column}");
        scene.restore().await?;
        if column == "number" {
            scene.run("alter table audit_seal add primary key (lane, number)").await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_or_put_in_between_is_found() -> Result<()> {
    let scene = Scene::set().await?;
    let event = scene.events[2][1];
    let swap =
        "update audit_seal set number = case number when 2 then -4 when 4 then -2 end where number in (2, 4);
                update audit_seal set number = -number where number < 0";
    let without_checks = "alter table audit_seal drop constraint audit_seal_number_check";
    let tamperings = [
        (format!("delete from audit where event_id = '{event}'"), &[Kind::EventMissing][..], &[Kind::EventMissing][..]),
        ("delete from audit_seal where number = 3".to_owned(), &[Kind::SealMissing], &[Kind::SealMissing]),
        (format!("{without_checks}; {swap}"), &[Kind::SealMoved], &[Kind::SealMoved]),
        ("delete from audit_seal where number > 4".to_owned(), &[], &[Kind::TailCut]),
        ("delete from audit_seal".to_owned(), &[], &[Kind::TailCut]),
        (
            format!("update audit set personal = null where event_id = '{event}'"),
            &[Kind::PersonalMissing],
            &[Kind::PersonalMissing],
        ),
        (
            "alter table audit_seal drop constraint audit_seal_pkey;
             insert into audit_seal select lane, number, sealed_at, previous, sha256(hash), events from audit_seal where number = 3"
                .to_owned(),
            &[Kind::Changed, Kind::Forked],
            &[Kind::Changed, Kind::Forked],
        ),
    ];
    for (statement, alone, with_heads) in tamperings {
        scene.run(&statement).await?;
        assert_eq!(scene.found().await?, [kinds(alone), kinds(with_heads)], "{statement}");
        scene.restore().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_put_into_the_past_is_found() -> Result<()> {
    let scene = Scene::set().await?;
    for age in [2 * 3600, 400 * 24 * 3600] {
        write(&scene.pool, LANE, id_before(LANE, Duration::from_secs(age))).await?;
        // Nor does anybody seal it.
        let mut sealer = Sealer::new(scene.database.store()?);
        let lane = Lane::from_stored(LANE);
        assert_eq!(sealer.seal_new(&[lane]).await?.events + sealer.sweep(lane).await?.events, 0);
        assert_eq!(scene.found().await?[0], kinds(&[Kind::EventUnsealed]));
        scene.restore().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_missing_only_where_no_erasure_is_sealed() -> Result<()> {
    let scene = Scene::set().await?;
    let erased = &scene.events[2][..2];
    sqlx::query("update audit set personal = null where event_id = any($1)")
        .bind(erased)
        .execute(&scene.pool)
        .await?;
    write_erasure(&scene.pool, LANE, erased).await?;
    assert_eq!(scene.found().await?[0], kinds(&[Kind::PersonalMissing]), "it is not sealed yet");
    Sealer::new(scene.database.store()?).seal_new(&[Lane::from_stored(LANE)]).await?;
    assert_eq!(scene.found().await?[0], kinds(&[]));
    sqlx::query("update audit set personal = null where event_id = $1")
        .bind(scene.events[3][0])
        .execute(&scene.pool)
        .await?;
    assert_eq!(scene.found().await?[0], kinds(&[Kind::PersonalMissing]), "another one was not erased");
    Ok(())
}

/// Seals from `first` on made anew over what is there, to `last`.
async fn seal_anew(scene: &Scene, first: i64, last: i64) -> Result<()> {
    let store = scene.database.store()?;
    let lane = Lane::from_stored(LANE);
    let seals = store.find_seals_after(lane, first - 1, &[0xFF; 33], 100).await?;
    let mut head: Option<Head> = None;
    for seal in seals.into_iter().filter(|seal| seal.number <= last) {
        let events = store.find_events(lane, &seal.events).await?;
        let previous = head.map_or(seal.previous.clone(), |head| head.hash.to_vec());
        let mut seal = Seal { previous, ..seal };
        seal.hash = hash(&seal, &events).to_vec();
        head = seal.head();
        sqlx::query("update audit_seal set previous = $2, hash = $3 where lane = $1 and number = $4")
            .bind(LANE)
            .bind(&seal.previous)
            .bind(&seal.hash)
            .bind(seal.number)
            .execute(&scene.pool)
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_made_anew_is_found_at_its_seam_or_by_its_kept_head() -> Result<()> {
    let scene = Scene::set().await?;
    let forge =
        format!("update audit set caller = 'somebody else' where event_id = '{}'", scene.events[2][1]);
    scene.run(&forge).await?;
    seal_anew(&scene, 3, 3).await?;
    assert_eq!(scene.found().await?, [kinds(&[Kind::Unlinked]), kinds(&[Kind::Unlinked])]);
    scene.restore().await?;
    scene.run(&forge).await?;
    seal_anew(&scene, 3, i64::MAX).await?;
    assert_eq!(scene.found().await?, [kinds(&[]), kinds(&[Kind::HeadChanged])]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_sealed_twice_is_found() -> Result<()> {
    let scene = Scene::set().await?;
    let again = scene.events[1][0];
    sqlx::query("update audit_seal set events = array_append(events, $2) where lane = $1 and number = $3")
        .bind(LANE)
        .bind(again)
        .bind(i64::try_from(SEALS)?)
        .execute(&scene.pool)
        .await?;
    assert_eq!(scene.found().await?[0], kinds(&[Kind::Changed, Kind::EventRepeated]));
    let since = verify(scene.database.url(), &["--since", "2100-01-01T00:00:00Z"]).await?;
    assert_eq!(since.summary["seals"].as_i64(), Some(1), "the newest seal is looked at whenever it was made");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_told_and_where_it_waits_for_long_with_a_warning() -> Result<()> {
    let scene = Scene::set().await?;
    write_some(&scene.pool, LANE, 2).await?;
    let said = verify(scene.database.url(), &[]).await?;
    assert_eq!((said.code, said.summary["unsealed"].as_i64()), (Some(0), Some(2)));
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    // Nothing was ever sealed in this lane.
    write(&scene.pool, 9, id_before(9, Duration::from_secs(600))).await?;
    let said = verify(scene.database.url(), &[]).await?;
    assert_eq!((said.code, said.summary["unsealed"].as_i64()), (Some(0), Some(3)));
    assert!(
        said.stderr.contains("warning: 3 events are in no seal yet, the oldest for 10m"),
        "{}",
        said.stderr
    );
    Ok(())
}
