//! Rows of batches are bounded as single unblocks are.

use std::time::Duration;

use pingone_unblock::{
    batch::{Header, Named, Refused, State, Target},
    device::{DeviceId, DeviceRef, EnvironmentId, UserId},
    engine::Upload,
    job::{Actor, Bound, JobId, Limits, NewJob, OverQuota},
    simulator::Device,
    store::{Appended, BatchKey, Opened, RetryWish, Role, TargetRow, Unfit},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    CALLS, IN_HOUR, JOBS, OF_DEVICES, actor, count, device_bound, fail, hourly, recorded, replica::Replica,
    some_job, storm, two,
};
use crate::harness::{
    Result,
    database::Database,
    service::{ENVIRONMENT, eventually},
};

fn row(named: Named) -> Target {
    Target { named: Ok(named), client_reference: String::new() }
}

fn some_row() -> Target {
    row(Named { user: UserId::from(Uuid::new_v4()), device: DeviceId::from(Uuid::new_v4()) })
}

fn rows(count: usize) -> Vec<Target> {
    (0..count).map(|_| some_row()).collect()
}

/// A new batch of that caller.
async fn open(replica: &Replica, actor: &Actor) -> Result<Upload> {
    let header = Header {
        id: Uuid::new_v4().to_string(),
        environment: EnvironmentId::parse(ENVIRONMENT)?,
        caller: actor.caller.as_str().to_owned(),
        reason: String::new(),
        ticket: String::new(),
        on_behalf_of: String::new(),
        time_to_live: Duration::from_secs(3600),
        max_failure_ratio: 0.0,
        canary_count: 0,
        start_when_sealed: false,
    };
    match replica.control.open_batch(&header, actor).await? {
        Opened::Open(batch) => Ok(Upload { batch: *batch, number: None, actor: actor.clone() }),
        Opened::Differs(field) => Err(format!("another {field}").into()),
    }
}

async fn append(
    replica: &Replica,
    upload: &Upload,
    offset: u64,
    rows: &[Target],
) -> Result<Result<Appended, Unfit>> {
    Ok(replica.control.append(upload, offset, rows).await?)
}

async fn results(replica: &Replica, upload: &Upload) -> Result<Vec<TargetRow>> {
    let header = &upload.batch.header;
    let key = BatchKey { lane: header.environment.lane(), number: upload.batch.number };
    Ok(replica.store.find_target_rows(header.environment, key, (0, 0), 1000).await?)
}

fn refusal(row: &TargetRow) -> Option<&str> {
    row.target.named.as_ref().err().map(|refused: &Refused| refused.reason.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_over_its_devices_bound_is_recorded_as_refused_and_stays_so() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let caller = actor("caller", device_bound(1));
    let used = some_job(&caller)?;
    recorded(&storm(&replicas, vec![used.clone()]).await?, Bound::Device);
    let full = row(Named { user: used.device.user, device: used.device.device });
    let (first, last) = (some_row(), some_row());
    // Twice the one without room, twice one that has it.
    let given = [first.clone(), full.clone(), last, full, first];
    let upload = open(&replicas[0], &caller).await?;
    let appended = append(&replicas[0], &upload, 0, &given).await?.map_err(|unfit| format!("{unfit:?}"))?;
    assert_eq!((appended.next_offset, appended.jobs), (5, 2));
    let refused: Vec<(u64, &str)> =
        appended.refused.iter().map(|(at, refusal)| (*at, refusal.reason.as_str())).collect();
    assert_eq!(refused, [(1, "DEVICE_QUOTA_EXCEEDED"), (3, "DEVICE_QUOTA_EXCEEDED")]);

    // Once there would be room again, the rows are what they were.
    sqlx::query("delete from device_use").execute(&pool).await?;
    let again = append(&replicas[1], &upload, 0, &given).await?.map_err(|unfit| format!("{unfit:?}"))?;
    assert_eq!((again.jobs, &again.refused), (0, &appended.refused));
    let rows = results(&replicas[0], &upload).await?;
    let told: Vec<_> = rows.iter().map(|row| (refusal(row), row.duplicate)).collect();
    let over = Some("DEVICE_QUOTA_EXCEEDED");
    assert_eq!(told, [(None, false), (over, false), (None, false), (over, false), (None, true)]);
    let key = BatchKey { lane: upload.batch.header.environment.lane(), number: upload.batch.number };
    let batch = replicas[0].store.find_batches(&[key]).await?.pop().ok_or("no batch")?;
    assert_eq!((batch.counts.jobs, batch.counts.rejected, batch.counts.duplicate), (2, 2, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_which_its_caller_has_no_room_is_refused_whole_and_can_go_on_later() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let caller = actor("caller", Limits { batch_rows: Some(12), ..hourly(10) });
    let upload = open(&replicas[0], &caller).await?;
    let given = rows(20);
    let first = append(&replicas[0], &upload, 0, &given[..8]).await?.map_err(|unfit| format!("{unfit:?}"))?;
    assert_eq!((first.next_offset, first.jobs), (8, 8));
    let refused = append(&replicas[1], &upload, 8, &given[8..12]).await?;
    assert!(matches!(refused, Err(Unfit::OverQuota(OverQuota::Hour { most: 10, .. }))), "{refused:?}");
    assert_eq!((count(&pool, JOBS).await?, count(&pool, IN_HOUR).await?), (8, 8));
    // What was recorded, and what names the same devices again, needs no room.
    let again = append(&replicas[1], &upload, 0, &given[..8]).await?.map_err(|unfit| format!("{unfit:?}"))?;
    assert_eq!((again.next_offset, again.jobs), (8, 0));

    sqlx::query("update caller_use set hour = hour - interval '1 hour'").execute(&pool).await?;
    let later =
        append(&replicas[1], &upload, 8, &given[8..12]).await?.map_err(|unfit| format!("{unfit:?}"))?;
    assert_eq!((later.next_offset, later.jobs), (12, 4));
    let beyond = append(&replicas[0], &upload, 12, &given[12..13]).await?;
    assert_eq!(beyond, Err(Unfit::OverQuota(OverQuota::Rows { most: 12 })));
    assert_eq!(count(&pool, JOBS).await?, 12);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_calls_beside_each_other_exceed_no_bound_by_one() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let caller = actor("caller", hourly(300));
    let mut uploading = JoinSet::new();
    for replica in replicas.iter().chain(&replicas) {
        let (upload, control) = (open(replica, &caller).await?, replica.control.clone());
        uploading.spawn(async move {
            let mut taken = 0;
            for message in 0..15_u64 {
                match control.append(&upload, taken, &rows(7)).await {
                    Ok(Ok(appended)) => taken = appended.next_offset,
                    Ok(Err(Unfit::OverQuota(_))) => {}
                    other => panic!("message {message}: {other:?}"),
                }
            }
            taken
        });
    }
    let asked = (0..CALLS).map(|_| some_job(&caller)).collect::<Result<Vec<_>>>()?;
    let made = recorded(&storm(&replicas, asked).await?, Bound::CallerHour).len() as u64;
    let uploaded: u64 = uploading.join_all().await.into_iter().sum();
    let all = i64::try_from(made + uploaded)?;
    assert_eq!((count(&pool, JOBS).await?, count(&pool, IN_HOUR).await?), (all, all));
    assert!(
        all <= 300 && all > 300 - 7,
        "{made} calls and {uploaded} rows: what is left has no room for a message"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_one_device_in_many_batches_exceed_its_bound_by_none() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let caller = actor("caller", device_bound(3));
    let shared: Vec<Target> = rows(10);
    let mut uploading = JoinSet::new();
    for number in 0..12 {
        let replica = &replicas[number % 2];
        let (upload, control) = (open(replica, &caller).await?, replica.control.clone());
        let mut given = shared.clone();
        given.rotate_left(number % shared.len());
        uploading.spawn(async move { control.append(&upload, 0, &given).await });
    }
    for appended in uploading.join_all().await {
        let appended = appended?.map_err(|unfit| format!("{unfit:?}"))?;
        assert_eq!((appended.next_offset, appended.jobs + appended.refused.len()), (10, 10));
    }
    assert_eq!((count(&pool, JOBS).await?, count(&pool, OF_DEVICES).await?), (30, 30));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_attempts_of_a_batch_are_begun_as_far_as_there_is_room() -> Result<()> {
    let database = Database::create().await?;
    let (replicas, pool) = (two(&database).await?, database.pool().await?);
    let free = actor("caller", Limits::default());
    let upload = open(&replicas[0], &free).await?;
    append(&replicas[0], &upload, 0, &rows(8)).await?.map_err(|unfit| format!("{unfit:?}"))?;
    let ids: Vec<Uuid> = sqlx::query_scalar("select job_id from job").fetch_all(&pool).await?;
    for id in ids.iter().take(5) {
        fail(&pool, JobId::from(*id)).await?;
    }
    let bounded = actor("caller", hourly(3));
    let wish = RetryWish { actor: &bounded, reason: "", ticket: "" };
    let retried = replicas[1].control.retry_batch(&upload.batch, &wish).await?.ok_or("it can be retried")?;
    assert_eq!((retried.begun, retried.left), (3, 2));
    assert!(matches!(retried.over, Some(OverQuota::Hour { most: 3, .. })), "{retried:?}");
    assert_eq!((count(&pool, "select count(*) from redrive").await?, count(&pool, IN_HOUR).await?), (3, 3));
    sqlx::query("update caller_use set hour = hour - interval '1 hour'").execute(&pool).await?;
    let retried = replicas[0].control.retry_batch(&upload.batch, &wish).await?.ok_or("it can be retried")?;
    assert_eq!((retried.begun, retried.left, retried.over), (2, 0, None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_found_for_a_row_by_user_is_bounded_as_one_that_was_named() -> Result<()> {
    let database = Database::create().await?;
    let replica = Replica::start(&database, Role::All).await?;
    let pool = database.pool().await?;
    let caller = actor("caller", device_bound(1));
    let environment = EnvironmentId::parse(ENVIRONMENT)?;
    let user = UserId::from(Uuid::new_v4());
    let devices = [(); 2].map(|()| DeviceRef { environment, user, device: DeviceId::from(Uuid::new_v4()) });
    // Used already, though it is not known to PingOne yet: the job waits and fails, and counts all the same.
    let used = NewJob { device: devices[0], ..some_job(&caller)? };
    let answers = storm(std::slice::from_ref(&replica), vec![used]).await?;
    assert_eq!(recorded(&answers, Bound::Device).len(), 1);
    eventually("it has ended", async || Ok(count(&pool, "select count(*) from outcome").await? == 1)).await?;
    for device in devices {
        replica.pingone.simulator.register(Device::blocked(device));
    }
    let upload = open(&replica, &caller).await?;
    let every = row(Named { user, device: DeviceId::EVERY });
    append(&replica, &upload, 0, &[every]).await?.map_err(|unfit| format!("{unfit:?}"))?;
    replica.control.seal(&upload, 1).await?.map_err(|unfit| format!("{unfit:?}"))?;
    let key = BatchKey { lane: environment.lane(), number: upload.batch.number };
    eventually("the batch is done", async || {
        let batch = replica.store.find_batches(&[key]).await?.pop().ok_or("no batch")?;
        Ok(batch.state == State::Done)
    })
    .await?;
    let rows = results(&replica, &upload).await?;
    let found: Vec<&TargetRow> = rows.iter().filter(|row| !row.stands_for_others()).collect();
    assert_eq!(found.len(), 2);
    let refused: Vec<&str> = found.iter().filter_map(|row| refusal(row)).collect();
    assert_eq!(refused, ["DEVICE_QUOTA_EXCEEDED"]);
    let batch = replica.store.find_batches(&[key]).await?.pop().ok_or("no batch")?;
    assert_eq!((batch.counts.succeeded, batch.counts.rejected, batch.counts.expanded), (1, 1, 1));
    assert_eq!(count(&pool, OF_DEVICES).await?, 2);
    Ok(())
}
