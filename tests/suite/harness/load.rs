//! Many jobs at once, and the ways to look at what reached PingOne.

use std::time::Duration;

use pingone_unblock::{
    device::{DeviceRef, EnvironmentId},
    proto::v1::{self, Priority, device_service_client::DeviceServiceClient, job::State},
    simulator::{Record, Simulator},
};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{
    Result,
    database::Database,
    service::{Service, request_without_wait, some_device, wire},
};

/// Calls that are under way at once.
const CALLERS: usize = 16;

/// A job that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) device: DeviceRef,
    pub(crate) job: String,
}

pub(crate) fn some_environment() -> EnvironmentId {
    EnvironmentId::from(Uuid::new_v4())
}

/// A new device of a new user.
pub(crate) fn device_in(environment: EnvironmentId) -> Result<DeviceRef> {
    Ok(DeviceRef { environment, ..some_device()? })
}

/// Unblock `device` some time.
pub(crate) fn bulk_request(device: &DeviceRef) -> v1::UnblockRequest {
    v1::UnblockRequest {
        priority: Priority::Bulk.into(),
        time_to_live: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..request_without_wait(wire(device))
    }
}

/// Has each request recorded, several at a time; in their order.
pub(crate) async fn place(
    client: &DeviceServiceClient<Channel>,
    requests: Vec<(DeviceRef, v1::UnblockRequest)>,
) -> Result<Vec<Placed>> {
    let mut callers = JoinSet::new();
    for part in requests.chunks(requests.len().div_ceil(CALLERS).max(1)).enumerate() {
        let ((number, part), mut client) = ((part.0, part.1.to_vec()), client.clone());
        callers.spawn(async move {
            let mut placed = Vec::with_capacity(part.len());
            for (device, request) in part {
                let reply = client.unblock(request).await?.into_inner();
                placed.push(Placed { device, job: reply.job.ok_or("no job")?.job_id });
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((number, placed))
        });
    }
    let mut parts = callers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    parts.sort_by_key(|(number, _)| *number);
    Ok(parts.into_iter().flat_map(|(_, placed)| placed).collect())
}

/// `count` bulk jobs, each for a new device of `environment`.
pub(crate) async fn bulk(
    client: &DeviceServiceClient<Channel>,
    environment: EnvironmentId,
    count: usize,
) -> Result<Vec<Placed>> {
    let devices = (0..count).map(|_| device_in(environment));
    let requests = devices.map(|device| device.map(|device| (device, bulk_request(&device))));
    place(client, requests.collect::<Result<_>>()?).await
}

/// Every job, once all of them have succeeded.
pub(crate) async fn all_succeed(service: &Service, placed: &[Placed]) -> Result<Vec<v1::Job>> {
    let mut jobs = Vec::with_capacity(placed.len());
    for one in placed {
        jobs.push(service.job_in(&one.job, &[State::Succeeded]).await?);
    }
    Ok(jobs)
}

/// Jobs that have not ended.
pub(crate) async fn unfinished(database: &Database) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from ready where lane >= 0")
        .fetch_one(&database.pool().await?)
        .await?)
}

/// What arrived for `environment`, reads too.
pub(crate) fn requests_of(simulator: &Simulator, environment: EnvironmentId) -> Vec<Record> {
    let mut requests = simulator.requests();
    requests.retain(|record| record.is_api() && record.environment == Some(environment.as_uuid()));
    requests
}

/// Which part of `rate` was used from a second after the first of `requests` until the last.
pub(crate) fn share_used(requests: &[Record], rate: f64) -> f64 {
    let (Some(first), Some(last)) = (requests.first(), requests.last()) else { return 0.0 };
    let from = first.arrived + Duration::from_secs(1);
    let counted = requests.iter().filter(|record| record.arrived >= from).count();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let counted = counted as f64;
    counted / (last.arrived.saturating_sub(from).as_secs_f64() * rate)
}

/// The most requests that were under way at once.
pub(crate) fn most_at_once(requests: &[Record]) -> usize {
    let mut turns: Vec<(Duration, i32)> = requests.iter().map(|record| (record.arrived, 1)).collect();
    turns.extend(requests.iter().filter_map(|record| record.ended).map(|ended| (ended, -1)));
    // An end goes before a beginning at the same time.
    turns.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, turn) in turns {
        now += turn;
        most = most.max(now);
    }
    usize::try_from(most).unwrap_or_default()
}
