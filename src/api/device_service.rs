//! `DeviceService`: records jobs, waits for them, shows devices.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Services, bulk, convert,
    deadline::Deadline,
    fields::{Fields, ON_BEHALF_OF_AT_MOST, REASON_AT_MOST, TICKET_AT_MOST},
    permit::Permit,
    status::{self, ErrorReason},
    waiting::reply_by,
};
use crate::{
    job::{Job, JobId, NewJob, Priority, Turn, Wait},
    proto::v1::{self, device_service_server::DeviceService},
    telemetry::spans,
};

const INTERACTIVE_TIME_TO_LIVE: Duration = Duration::from_secs(15 * 60);
const BULK_TIME_TO_LIVE: Duration = Duration::from_secs(24 * 3600);

/// What an `Unblock` asks for, checked.
struct Wish {
    job: NewJob,
    wait: Option<Duration>,
    validate_only: bool,
}

#[tonic::async_trait]
impl DeviceService for Services {
    async fn unblock(
        &self,
        request: Request<v1::UnblockRequest>,
    ) -> Result<Response<v1::UnblockResponse>, Status> {
        let arrived = Instant::now();
        let deadline = Deadline::of(&request);
        let permit = Permit::of(&request)?;
        let mut wish = wish(request.into_inner(), &permit)?;
        let environment = wish.job.device.environment;
        if !self.control.serves(environment) {
            return Err(permit.not_served(environment));
        }
        if wish.validate_only {
            let over = self.store.find_over_quota(&wish.job).await.map_err(|error| status::store(&error))?;
            if let Some(over) = over {
                return Err(permit.over_quota(environment, over));
            }
            return Ok(Response::new(v1::UnblockResponse { job: None, replayed: false }));
        }
        if self.draining.is_cancelled() {
            return Err(status::draining());
        }
        let until = reply_by(arrived, deadline, wish.wait);
        let recorded = self.record(&mut wish.job, &permit, arrived, deadline).await?;
        let replayed = recorded.replayed;
        if let Some(field) = differing(&wish.job, &recorded.job).filter(|_| replayed) {
            return Err(status::request_id_reused(field));
        }
        let waited = wish.wait.is_none_or(|wait| !wait.is_zero());
        let job = if waited { self.ended(recorded, until).await } else { recorded.job };
        let turn = if waited { Box::pin(self.turn(&job)).await } else { None };
        let job = convert::job(job, None, turn, self.control.policy(), permit.contacts(environment));
        Ok(Response::new(v1::UnblockResponse { job: Some(job), replayed }))
    }

    type BulkUnblockStream = bulk::Acknowledgements;

    async fn bulk_unblock(
        &self,
        request: Request<Streaming<v1::BulkUnblockRequest>>,
    ) -> Result<Response<Self::BulkUnblockStream>, Status> {
        let permit = Permit::of(&request)?;
        Ok(self.upload(request, permit))
    }

    async fn append_batch_targets(
        &self,
        request: Request<v1::AppendBatchTargetsRequest>,
    ) -> Result<Response<v1::AppendBatchTargetsResponse>, Status> {
        let permit = Permit::of(&request)?;
        self.append(request.into_inner(), &permit).await.map(Response::new)
    }

    async fn list_user_devices(
        &self,
        request: Request<v1::ListUserDevicesRequest>,
    ) -> Result<Response<v1::ListUserDevicesResponse>, Status> {
        self.user_devices(request).await
    }

    async fn get_device(
        &self,
        request: Request<v1::GetDeviceRequest>,
    ) -> Result<Response<v1::GetDeviceResponse>, Status> {
        let permit = Permit::of(&request)?;
        let given = request.into_inner().device_ref;
        permit.in_named(given.as_ref().map_or("", |device| &device.environment_id))?;
        let mut fields = Fields::default();
        let device = fields.device_ref("device_ref", given);
        let device = fields.done(device)?;
        let view = self.store.find_device(&device).await.map_err(|error| status::store(&error))?;
        let view = view.ok_or_else(|| {
            let sentence = "PingOne has not described this device to this service yet".to_owned();
            permit.nothing_there(ErrorReason::DeviceNeverSeen, sentence)
        })?;
        Ok(Response::new(v1::GetDeviceResponse {
            device: Some(convert::device(&device, &view.snapshot, permit.contacts(device.environment))),
            job_id: view.job.to_string(),
        }))
    }
}

impl Services {
    /// A job, if it is there.
    pub(super) async fn find(&self, id: JobId) -> Result<Option<Job>, Status> {
        let found = spans::statement("find_job", 1, [], self.store.find_job(id)).await;
        found.map_err(|error| status::store(&error))
    }

    /// A job that was there a moment ago.
    pub(super) async fn job(&self, id: JobId) -> Result<Job, Status> {
        let found = self.find(id).await?;
        found.ok_or_else(|| ErrorReason::JobNotFound.status(format!("there is no job {id} any more")))
    }

    /// Whose turn comes before that of a job that waits for its own. A job without an estimate is still true.
    pub(super) async fn turn(&self, job: &Job) -> Option<Turn> {
        match job.wait {
            Some(Wait::Turn(_)) => self.store.find_turn(job.id, convert::COUNTED_AHEAD).await.ok()?,
            _ => None,
        }
    }
}

fn wish(given: v1::UnblockRequest, permit: &Permit) -> Result<Wish, Status> {
    permit.in_named(given.device_ref.as_ref().map_or("", |device| &device.environment_id))?;
    let mut fields = Fields::default();
    let device = fields.device_ref("device_ref", given.device_ref);
    let request_id = fields.request_id(given.request_id);
    let reason = fields.text("reason", given.reason, REASON_AT_MOST);
    let ticket = fields.text("ticket", given.ticket, TICKET_AT_MOST);
    let on_behalf_of = fields.text("on_behalf_of", given.on_behalf_of, ON_BEHALF_OF_AT_MOST);
    let on_behalf_of = permit.on_behalf_of(&mut fields, "on_behalf_of", on_behalf_of);
    let priority = fields.priority(given.priority);
    let time_to_live = fields.time_to_live("time_to_live", given.time_to_live);
    let wait = fields.duration("wait", given.wait);
    if let Some(device) = &device {
        let said = (reason.as_str(), ticket.as_str(), Some(on_behalf_of.as_str()));
        permit.demand(&mut fields, "", device.environment, said);
    }
    let device = fields.done(device)?;
    let time_to_live = time_to_live.unwrap_or(match priority {
        Priority::Interactive => INTERACTIVE_TIME_TO_LIVE,
        Priority::Bulk => BULK_TIME_TO_LIVE,
    });
    let job = NewJob {
        id: JobId::new(device.environment.lane()),
        device,
        actor: permit.actor(),
        request_id,
        reason,
        ticket,
        on_behalf_of,
        priority,
        time_to_live,
        trace_parent: None,
    };
    Ok(Wish { job, wait, validate_only: given.validate_only })
}

/// The first field in which a repeat differs from the job it would repeat.
fn differing(asked: &NewJob, job: &Job) -> Option<&'static str> {
    let fields = [
        ("device_ref", asked.device == job.device),
        ("reason", asked.reason == job.reason),
        ("ticket", asked.ticket == job.ticket),
        ("on_behalf_of", asked.on_behalf_of == job.on_behalf_of),
        ("priority", asked.priority == job.priority),
        ("time_to_live", asked.time_to_live.as_micros() == job.time_to_live.as_micros()),
    ];
    fields.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}
