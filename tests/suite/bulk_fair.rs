//! Batches starve nobody, share what there is, and go when they are old.

use std::collections::HashSet;

use pingone_unblock::{
    engine::Limits,
    job::JobId,
    proto::v1::{BatchHeader, BatchTarget, batch::State, job},
};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        bulk::{Bulk, header, rows},
        load::device_in,
        service::{Service, Variant, World, eventually, request, request_without_wait, wire},
    },
    retention::{KEEP, TABLES, earlier},
    unblock::reason,
};

async fn world(rate: f64) -> Result<World> {
    let limits = Limits { rate, max_in_flight: 32 };
    World::with(Variant { limits, ..Variant::default() }, Default::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_served_with_the_next_token_whatever_a_batch_has_left() -> Result<()> {
    let world = world(20.0).await?;
    let bulk = Bulk::at(&world.service, header())?;
    bulk.upload(&rows(5000)).await?;
    world.simulator().arrived(5).await;
    let environment = bulk.header.environment_id.parse::<Uuid>()?.into();
    for _ in 0..10 {
        let device = device_in(environment)?;
        world.service.unblock(request_without_wait(wire(&device))).await?;
        // It is recorded: what arrives from here on and before it went first.
        let recorded = world.simulator().counts().posts;
        world.simulator().arrived_for(device.device, 1).await;
        let posts = world.simulator().posts();
        let place = posts.iter().position(|post| post.device == Some(device.device.as_uuid()));
        let ahead = u64::try_from(place.ok_or("it was not sent")?)?.saturating_sub(recorded);
        assert!(ahead <= 1, "{ahead} of the batch went first");
    }
    let job = world.service.unblock(request(wire(&device_in(environment)?))).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), job::State::Succeeded);
    assert_eq!(bulk.get().await?.state(), State::Running);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_batches_of_one_environment_share_its_rate() -> Result<()> {
    let world = world(100.0).await?;
    let one = Bulk::at(&world.service, header())?;
    let other = BatchHeader { batch_id: "other".to_owned(), ..one.header.clone() };
    let other = Bulk::at(&world.service, other)?;
    let (long, short) = (rows(1500), rows(300));
    one.upload(&long).await?;
    world.simulator().arrived(50).await;
    other.upload(&short).await?;
    let devices: HashSet<Uuid> =
        short.iter().map(|row: &BatchTarget| row.device_id.parse()).collect::<Result<_, _>>()?;
    other.ended(State::Done).await?;
    let posts = world.simulator().posts();
    let of_other =
        |post: &pingone_unblock::simulator::Record| post.device.is_some_and(|id| devices.contains(&id));
    let first = posts.iter().position(of_other).ok_or("nothing was sent")?;
    let last = posts.iter().rposition(of_other).ok_or("nothing was sent")?;
    let both = last + 1 - first;
    // What was claimed before the other came is sent before it.
    assert!((500..=720).contains(&both), "300 of the later were sent among {both}");
    assert_eq!(one.get().await?.state(), State::Running);
    Ok(())
}

/// Makes all of a batch two hours older, its end and its jobs too.
async fn age(pool: &PgPool, batch_id: &str) -> Result<Vec<Uuid>> {
    let by = 2 * KEEP;
    let number: i64 = sqlx::query_scalar("select number from batch where batch_id = $1")
        .bind(batch_id)
        .fetch_one(pool)
        .await?;
    let jobs: Vec<Uuid> = sqlx::query_scalar("select job_id from job where flow - flow % 2 = $1")
        .bind(number)
        .fetch_all(pool)
        .await?;
    let mut older = Vec::new();
    for id in jobs {
        let new = earlier(JobId::from(id), by)?.as_uuid();
        for table in TABLES.into_iter().chain(["batch_target"]) {
            let change = format!("update {table} set job_id = $1 where job_id = $2");
            sqlx::query(AssertSqlSafe(change)).bind(new).bind(id).execute(pool).await?;
        }
        older.push(new);
    }
    let fewer = i64::try_from(by.as_micros())? * 2;
    for (table, column) in [
        ("job", "flow"),
        ("ready", "flow"),
        ("batch", "number"),
        ("batch_target", "number"),
        ("batch_delta", "number"),
    ] {
        let change =
            format!("update {table} set {column} = {column} - $1 where {column} - {column} % 2 = $2");
        sqlx::query(AssertSqlSafe(change)).bind(fewer).bind(number).execute(pool).await?;
    }
    for (table, column) in [("outcome", "completed_at"), ("batch", "completed_at"), ("batch", "created_at")] {
        let change = format!("update {table} set {column} = {column} - interval '2 h' where lane >= 0");
        sqlx::query(AssertSqlSafe(change)).execute(pool).await?;
    }
    Ok(older)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_ended_long_ago_goes_with_its_rows_and_jobs_and_a_running_one_stays() -> Result<()> {
    let world = World::start().await?;
    let old = Bulk::at(&world.service, header())?;
    old.upload(&rows(1200)).await?;
    old.ended(State::Done).await?;
    // All of its jobs have ended, but it has not.
    let open = Bulk::at(&world.service, header())?;
    open.append(0, &rows(20), None).await?;
    open.when("all are sent", |batch| batch.succeeded_count == 20).await?;
    world.service.stop().await?;
    let pool = world.database.pool().await?;
    let gone = age(&pool, &old.header.batch_id).await?;
    let stay = age(&pool, &open.header.batch_id).await?;

    let variant = Variant { retention: KEEP, ..Variant::default() };
    let service = Service::start(world.database.url(), &world.pingone, variant).await?;
    let count = async |table: &str, ids: &[Uuid]| -> Result<i64> {
        let asked = format!("select count(*) from {table} where job_id = any($1)");
        Ok(sqlx::query_scalar(AssertSqlSafe(asked)).bind(ids).fetch_one(&pool).await?)
    };
    for table in ["batch_target", "job", "outcome"] {
        eventually(table, async || Ok(count(table, &gone).await? == 0)).await?;
        assert_eq!(count(table, &stay).await?, 20);
    }
    let (old, open) = (Bulk::at(&service, old.header)?, Bulk::at(&service, open.header)?);
    let missing = old.get().await.expect_err("it is forgotten");
    assert_eq!(reason(&missing), "BATCH_NOT_FOUND");
    let (batch, results) = open.exact().await?;
    assert_eq!((batch.state(), results.len()), (State::Running, 20));
    open.append(20, &rows(5), Some(25)).await?;
    open.ended(State::Done).await?;
    // Its name is free again.
    old.upload(&rows(2)).await?;
    let (batch, _) = old.ended(State::Done).await?;
    assert_eq!(batch.target_count, 2);

    service.stop().await
}
