//! What callers may have done is bounded exactly, however many ask at once and at whichever replica.

mod batches;
mod crash;
mod refused;
mod replica;

use std::{collections::HashSet, time::Duration};

use pingone_unblock::{
    engine::{SubmitError, Submitted},
    job::{Actor, Bound, Caller, DeviceLimit, JobId, Limits, NewJob, OverQuota, Priority},
    store::{Recorded, Redrive, Redriven, Role, Store, Submission},
};
use sqlx::PgPool;
use tokio::{sync::Barrier, task::JoinSet};
use uuid::Uuid;

use crate::harness::{Result, database::Database, service::some_device};
use replica::Replica;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CALLS: usize = 200;

const fn hourly(most: u32) -> Limits {
    Limits { per_hour: Some(most), per_day: None, per_device: None, batch_rows: None }
}

const fn daily(most: u32) -> Limits {
    Limits { per_hour: None, per_day: Some(most), per_device: None, batch_rows: None }
}

const fn device_bound(count: u32) -> Limits {
    let per_device = Some(DeviceLimit { count, within: DAY });
    Limits { per_hour: None, per_day: None, per_device, batch_rows: None }
}

fn actor(name: &str, limits: Limits) -> Actor {
    Actor { caller: Caller::named(name).expect("a name"), limits, ..Actor::anonymous() }
}

/// An unblock of a new device.
fn some_job(actor: &Actor) -> Result<NewJob> {
    let device = some_device()?;
    Ok(NewJob {
        id: JobId::new(device.environment.lane()),
        device,
        actor: actor.clone(),
        request_id: Some(Uuid::new_v4().to_string()),
        reason: String::new(),
        ticket: String::new(),
        on_behalf_of: String::new(),
        priority: Priority::Interactive,
        time_to_live: Duration::from_secs(900),
        trace_parent: None,
    })
}

/// Another call that asks for the same.
fn again(job: &NewJob) -> NewJob {
    NewJob { id: JobId::new(job.id.lane()), ..job.clone() }
}

type Answer = Result<Submitted, SubmitError>;

/// All at once, at the replicas in turn.
async fn storm(replicas: &[Replica], jobs: Vec<NewJob>) -> Result<Vec<(NewJob, Answer)>> {
    let barrier = std::sync::Arc::new(Barrier::new(jobs.len()));
    let mut calls = JoinSet::new();
    for (job, replica) in jobs.into_iter().zip(replicas.iter().cycle()) {
        let (submitter, barrier) = (replica.submitter.clone(), barrier.clone());
        calls.spawn(async move {
            barrier.wait().await;
            let answer = submitter.submit(job.clone()).await;
            (job, answer)
        });
    }
    Ok(calls.join_all().await)
}

/// The jobs that were recorded; all others met that bound.
fn recorded(answers: &[(NewJob, Answer)], bound: Bound) -> HashSet<JobId> {
    let mut recorded = HashSet::new();
    for (_, answer) in answers {
        match answer {
            Ok(submitted) => drop(recorded.insert(submitted.id)),
            Err(SubmitError::OverQuota(over)) => assert_eq!(over.bound(), bound, "{over}"),
            Err(error) => panic!("{error}"),
        }
    }
    recorded
}

async fn count(pool: &PgPool, query: &'static str) -> Result<i64> {
    Ok(sqlx::query_scalar(query).fetch_one(pool).await?)
}

const JOBS: &str = "select count(*) from job";
const IN_HOUR: &str = "select coalesce(sum(in_hour), 0)::bigint from caller_use";
const IN_DAY: &str = "select coalesce(sum(in_day), 0)::bigint from caller_use";
const OF_DEVICES: &str = "select coalesce(sum(cardinality(used_at)), 0)::bigint from device_use";

async fn two(database: &Database) -> Result<[Replica; 2]> {
    Ok([Replica::start(database, Role::Api).await?, Replica::start(database, Role::Api).await?])
}

/// Ends its run as a failed one.
async fn fail(pool: &PgPool, id: JobId) -> Result<()> {
    sqlx::query("delete from ready where job_id = $1").bind(id.as_uuid()).execute(pool).await?;
    sqlx::query(
        "insert into outcome (lane, job_id, run, state, attempt, spared) \
         select lane, job_id, 1 + (select count(*) from outcome o where o.job_id = j.job_id), 4, 1, 0 \
         from job j where job_id = $1",
    )
    .bind(id.as_uuid())
    .execute(pool)
    .await?;
    Ok(())
}

fn redrive(id: JobId, actor: &Actor) -> Redrive {
    Redrive {
        id,
        expected_run: None,
        time_to_live: Duration::from_secs(900),
        actor: actor.clone(),
        reason: String::new(),
        ticket: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_at_two_replicas_never_exceed_an_hours_bound_by_one_nor_do_their_replays()
-> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    for (round, most) in [(1, 1_u32), (2, 77), (3, 150)] {
        let actor = actor(&format!("caller {round}"), hourly(most));
        let before = count(&pool, JOBS).await?;
        let asked = (0..CALLS).map(|_| some_job(&actor)).collect::<Result<Vec<_>>>()?;
        // Each is asked for twice at once: the second is no unblock of its own.
        let twice = asked.iter().cloned().chain(asked.iter().map(again)).collect();
        let answers = storm(&replicas, twice).await?;
        let made = recorded(&answers, Bound::CallerHour);
        assert_eq!(made.len(), most as usize);
        assert_eq!(count(&pool, JOBS).await? - before, i64::from(most));

        let replays: Vec<NewJob> =
            answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(job, _)| again(job)).collect();
        let told = recorded(&storm(&replicas, replays).await?, Bound::CallerHour);
        assert_eq!(told, made, "what is recorded is found, whatever the bound");
        assert!(recorded(&storm(&replicas, vec![some_job(&actor)?]).await?, Bound::CallerHour).is_empty());
    }
    assert_eq!(count(&pool, IN_HOUR).await?, 1 + 77 + 150);
    assert_eq!(count(&pool, OF_DEVICES).await?, 0, "of devices there was no bound");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_days_bound_holds_beside_that_of_an_hour() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let actor = actor("caller", Limits { per_hour: Some(CALLS as u32), ..daily(90) });
    let asked = (0..CALLS).map(|_| some_job(&actor)).collect::<Result<Vec<_>>>()?;
    assert_eq!(recorded(&storm(&replicas, asked).await?, Bound::CallerDay).len(), 90);
    assert_eq!((count(&pool, JOBS).await?, count(&pool, IN_DAY).await?), (90, 90));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_unblocked_as_often_as_it_may_be_whoever_asks() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let mut asked = Vec::new();
    for _ in 0..10 {
        let job = some_job(&Actor::anonymous())?;
        for caller in 0..20 {
            let actor = actor(&format!("caller {caller}"), device_bound(3));
            let request_id = Some(Uuid::new_v4().to_string());
            asked.push(NewJob { actor, request_id, ..again(&job) });
        }
    }
    // So that groups hold several of one device, and devices in all orders.
    let asked = (0..20).flat_map(|first| asked.iter().skip(first).step_by(20).cloned()).collect();
    assert_eq!(recorded(&storm(&replicas, asked).await?, Bound::Device).len(), 30);
    assert_eq!((count(&pool, JOBS).await?, count(&pool, OF_DEVICES).await?), (30, 30));
    let most = "select max(count)::bigint from (select count(*) as count from job group by device_id) c";
    assert_eq!(count(&pool, most).await?, 3);
    assert_eq!(count(&pool, IN_HOUR).await?, 0, "of callers there was no bound");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_does_not_fail_the_group() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let (bounded, free) = (actor("bounded", hourly(5)), actor("free", Limits::default()));
    for round in 1..=3 {
        let mut asked = Vec::new();
        for _ in 0..50 {
            asked.extend([some_job(&bounded)?, some_job(&free)?]);
        }
        let answers = storm(&replicas, asked).await?;
        let free_ones = answers.iter().filter(|(job, _)| job.actor == free);
        assert!(free_ones.clone().all(|(_, answer)| answer.is_ok()));
        assert_eq!(count(&pool, JOBS).await?, 5 + 50 * round);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_bounds_nothing_is_refused_and_nothing_counted() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let one = some_job(&Actor::anonymous())?;
    let asked = (0..CALLS).map(|_| NewJob { request_id: None, ..again(&one) }).collect();
    let answers = storm(&replicas, asked).await?;
    assert_eq!(recorded(&answers, Bound::Device).len(), CALLS, "one device, two hundred times");
    assert_eq!(count(&pool, "select count(*) from caller_use").await?, 0);
    assert_eq!(count(&pool, "select count(*) from device_use").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_devices_counts_for_nothing_and_is_never_refused() -> Result<()> {
    use pingone_unblock::device::{DeviceId, DeviceRef};
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let none = actor("caller", Limits { per_hour: Some(0), ..device_bound(0) });
    let job = some_job(&none)?;
    let list = NewJob { device: DeviceRef { device: DeviceId::EVERY, ..job.device }, ..some_job(&none)? };
    assert_eq!(recorded(&storm(&replicas, vec![list]).await?, Bound::Device).len(), 1);
    assert!(recorded(&storm(&replicas, vec![job]).await?, Bound::Device).is_empty());
    assert_eq!(count(&pool, "select count(*) from caller_use").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_attempts_count_with_the_unblocks_beside_them() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let free = actor("caller", Limits::default());
    let made = (0..60).map(|_| some_job(&free)).collect::<Result<Vec<_>>>()?;
    let failed = recorded(&storm(&replicas, made).await?, Bound::CallerHour);
    for id in &failed {
        fail(&pool, *id).await?;
    }
    let bounded = actor("caller", hourly(70));
    let mut redriving = JoinSet::new();
    for (id, replica) in failed.iter().copied().zip(replicas.iter().cycle()) {
        let (control, wish) = (replica.control.clone(), redrive(id, &bounded));
        redriving.spawn(async move { control.redrive(&wish).await });
    }
    let asked = (0..CALLS).map(|_| some_job(&bounded)).collect::<Result<Vec<_>>>()?;
    let made = recorded(&storm(&replicas, asked).await?, Bound::CallerHour).len();
    let mut begun = 0;
    for redriven in redriving.join_all().await {
        match redriven? {
            Redriven::Begun => begun += 1,
            Redriven::Refused(OverQuota::Hour { most: 70, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made + begun, 70);
    assert_eq!(count(&pool, "select count(*) from redrive").await?, i64::try_from(begun)?);
    assert_eq!(count(&pool, IN_HOUR).await?, 70);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_attempts_count_for_their_device_and_not_when_they_are_asked_for_again() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let actor = actor("caller", device_bound(2));
    let job = some_job(&actor)?;
    let id = *recorded(&storm(&replicas, vec![job]).await?, Bound::Device).iter().next().ok_or("no job")?;
    fail(&pool, id).await?;
    let wish = Redrive { expected_run: Some(1), ..redrive(id, &actor) };
    for replica in &replicas {
        assert_eq!(replica.control.redrive(&wish).await?, Redriven::Begun);
    }
    assert_eq!(count(&pool, OF_DEVICES).await?, 2);
    fail(&pool, id).await?;
    let refused = replicas[0].control.redrive(&redrive(id, &actor)).await?;
    assert!(matches!(refused, Redriven::Refused(OverQuota::Device { most: 2, .. })), "{refused:?}");
    assert_eq!(count(&pool, OF_DEVICES).await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_a_day_and_a_devices_time_run_out_by_the_clock_of_the_database() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let moved = async |change: &'static str| sqlx::query(change).execute(&pool).await;
    let caller = actor("caller", Limits { per_hour: Some(2), ..daily(3) });
    let asked = async |bound| -> Result<usize> {
        let asked = (0..10).map(|_| some_job(&caller)).collect::<Result<Vec<_>>>()?;
        Ok(recorded(&storm(&replicas, asked).await?, bound).len())
    };
    assert_eq!(asked(Bound::CallerHour).await?, 2);
    moved("update caller_use set hour = hour - interval '1 hour'").await?;
    assert_eq!(asked(Bound::CallerDay).await?, 1, "the day has one left");
    moved("update caller_use set hour = hour - interval '1 day', day = day - interval '1 day'").await?;
    assert_eq!(asked(Bound::CallerHour).await?, 2);
    assert_eq!((count(&pool, IN_HOUR).await?, count(&pool, IN_DAY).await?), (2, 2));

    let job = some_job(&actor("caller", device_bound(3)))?;
    let asked = async || -> Result<usize> {
        let asked = (0..10).map(|_| NewJob { request_id: None, ..again(&job) }).collect();
        Ok(recorded(&storm(&replicas, asked).await?, Bound::Device).len())
    };
    assert_eq!(asked().await?, 3);
    // The first was a day ago, the others were not.
    moved("update device_use set used_at[3] = used_at[3] - interval '1 day'").await?;
    assert_eq!(asked().await?, 1);
    moved("update device_use set used_at = array(select u - interval '1 day' from unnest(used_at) u order by u desc)")
        .await?;
    assert_eq!(asked().await?, 3);
    assert_eq!(count(&pool, OF_DEVICES).await?, 7, "those of the week stay");
    moved("update device_use set used_at = array(select u - interval '7 days' from unnest(used_at) u order by u desc)")
        .await?;
    assert_eq!(asked().await?, 3);
    assert_eq!(count(&pool, OF_DEVICES).await?, 3);
    Ok(())
}

async fn submit(store: &Store, jobs: &[NewJob]) -> Result<Vec<Recorded>> {
    let group: Vec<Submission> =
        jobs.iter().map(|job| Submission { job: job.clone(), born_claimed: false }).collect();
    Ok(store.submit(&group, false).await?)
}

#[tokio::test]
async fn a_group_may_name_several_bounds_for_one_caller_and_is_taken_in_its_order() -> Result<()> {
    let (database, pool);
    database = Database::create().await?;
    pool = database.pool().await?;
    let store = database.store()?;
    store.register_environments(&[some_device()?.environment]).await?;
    // While a policy is read anew, some calls come with the old bounds.
    let (old, new) = (actor("caller", hourly(2)), actor("caller", hourly(4)));
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.extend([some_job(&old)?, some_job(&new)?]);
    }
    let answers = submit(&store, &jobs).await?;
    let made = answers.iter().filter(|answer| matches!(answer, Recorded::New(_))).count();
    assert_eq!(made, 4);
    assert_eq!(count(&pool, IN_HOUR).await?, 4);

    let equal: Vec<NewJob> =
        (0..6).map(|_| some_job(&actor("other", hourly(3)))).collect::<Result<Vec<_>>>()?;
    let answers = submit(&store, &equal).await?;
    let new = |answer: &Recorded| matches!(answer, Recorded::New(_));
    assert!(answers[..3].iter().all(new) && !answers[3..].iter().any(new), "who came first: {answers:?}");
    Ok(())
}

#[tokio::test]
async fn a_look_says_what_a_call_would_be_told_and_reserves_nothing() -> Result<()> {
    let database = Database::create().await?;
    let (store, pool) = (database.store()?, database.pool().await?);
    let caller = actor("caller", hourly(1));
    let (first, second) = (some_job(&caller)?, some_job(&caller)?);
    for _ in 0..3 {
        assert_eq!(store.find_over_quota(&first).await?, None);
    }
    assert_eq!(count(&pool, "select count(*) from caller_use").await?, 0);
    submit(&store, std::slice::from_ref(&first)).await?;
    let over = store.find_over_quota(&second).await?.ok_or("there is no room")?;
    assert_eq!(submit(&store, &[second]).await?, [Recorded::Refused(over)]);
    assert_eq!(store.find_over_quota(&again(&first)).await?, None, "a replay is answered");
    Ok(())
}

#[tokio::test]
async fn what_no_bound_reaches_back_to_is_forgotten() -> Result<()> {
    let database = Database::create().await?;
    let (store, pool) = (database.store()?, database.pool().await?);
    let caller = actor("caller", Limits { per_hour: Some(10), ..device_bound(3) });
    let jobs = (0..5).map(|_| some_job(&caller)).collect::<Result<Vec<_>>>()?;
    submit(&store, &jobs).await?;
    submit(&store, &[some_job(&actor("young", hourly(10)))?]).await?;
    let old = [jobs[0].device.device.as_uuid(), jobs[3].device.device.as_uuid()];
    sqlx::query(
        "update device_use set used_at = array[now() - interval '169 hours'] where device_id = any($1)",
    )
    .bind(&old[..])
    .execute(&pool)
    .await?;
    sqlx::query("update caller_use set day = day - interval '3 days' where caller = 'caller'")
        .execute(&pool)
        .await?;
    let lane = jobs[0].id.lane();
    let (mut after, mut steps) = ((Uuid::nil(), Uuid::nil()), 0);
    while let Some(last) = store.forget_device_uses(lane, after, 2).await? {
        (after, steps) = (last, steps + 1);
    }
    assert_eq!(steps, 3, "five rows, two at a time");
    let left: Vec<Uuid> = sqlx::query_scalar("select device_id from device_use").fetch_all(&pool).await?;
    assert_eq!(left.len(), 3);
    assert!(old.iter().all(|device| !left.contains(device)));
    for lane in pingone_unblock::device::Lane::all() {
        store.forget_caller_uses(lane).await?;
    }
    let left: Vec<String> = sqlx::query_scalar("select caller from caller_use").fetch_all(&pool).await?;
    assert_eq!(left, ["young"]);
    Ok(())
}
