//! `DeviceService`: records jobs, waits for them, shows devices.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    Services, WAIT_AT_MOST, convert,
    deadline::{self, Deadline},
    fields::{Fields, ON_BEHALF_OF_AT_MOST, REASON_AT_MOST, TICKET_AT_MOST},
    status::{self, ErrorReason},
};
use crate::{
    engine::Submitted,
    job::{Caller, Job, JobId, NewJob, Priority, Turn, Wait},
    proto::v1::{self, device_service_server::DeviceService},
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
        let wish = wish(request.into_inner())?;
        let environment = wish.job.device.environment;
        if !self.control.serves(environment) {
            return Err(status::not_served(environment));
        }
        if wish.validate_only {
            return Ok(Response::new(v1::UnblockResponse { job: None, replayed: false }));
        }
        if self.draining.is_cancelled() {
            return Err(status::draining());
        }
        let until = reply_by(arrived, deadline, wish.wait);
        let asked = wish.job.clone();
        let mut interest = self.watch.interest(asked.id);
        let submit = self.submitter.submit(wish.job);
        // Without a deadline the store's own time limits end it.
        let far = arrived + Duration::from_secs(3600);
        let submitted =
            tokio::time::timeout_at(deadline.map_or(far, |at| at - margin(arrived, at) / 2), submit)
                .await
                .map_err(|_| deadline::passed())?
                .map_err(|error| status::submit(&error))?;
        let Submitted { id, now } = submitted;
        if id != asked.id {
            interest = self.watch.interest(id);
        }
        let (mut job, new) = match now {
            // Nobody knows more of it than we do: nothing is read.
            Some((created_at, running)) => (Job::recorded(asked.clone(), created_at, running), true),
            None => (Box::pin(self.job(id)).await?, false),
        };
        interest.seen(job.revision);
        let replayed = id != asked.id;
        if let Some(field) = differing(&asked, &job).filter(|_| replayed) {
            return Err(status::request_id_reused(field));
        }
        let mut seen = !new;
        while !job.state.is_final() && Instant::now() < until {
            tokio::select! {
                () = interest.changed() => {}
                () = tokio::time::sleep_until(until) => break,
                () = self.draining.cancelled() => break,
            }
            if let Some(confirmed) = interest.confirmed().filter(|_| new) {
                job = job.confirmed(&confirmed);
                break;
            }
            seen = false;
            // The job is durable: what it looked like last is a true answer where Postgres is away now.
            match Box::pin(self.job(id)).await {
                Ok(newer) => (job, seen) = (newer, true),
                Err(_) => tokio::time::sleep(Duration::from_millis(50).min(until - Instant::now())).await,
            }
        }
        let waited = wish.wait.is_none_or(|wait| !wait.is_zero());
        if !job.state.is_final()
            && !seen
            && waited
            && let Ok(newer) = self.job(id).await
        {
            job = newer;
        }
        let turn = if waited { Box::pin(self.turn(&job)).await } else { None };
        let job = convert::job(job, None, turn, self.control.policy());
        Ok(Response::new(v1::UnblockResponse { job: Some(job), replayed }))
    }

    type BulkUnblockStream =
        std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<v1::BulkUnblockResponse, Status>> + Send>>;

    async fn bulk_unblock(
        &self,
        _: Request<tonic::Streaming<v1::BulkUnblockRequest>>,
    ) -> Result<Response<Self::BulkUnblockStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn append_batch_targets(
        &self,
        _: Request<v1::AppendBatchTargetsRequest>,
    ) -> Result<Response<v1::AppendBatchTargetsResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn list_user_devices(
        &self,
        _: Request<v1::ListUserDevicesRequest>,
    ) -> Result<Response<v1::ListUserDevicesResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn get_device(
        &self,
        request: Request<v1::GetDeviceRequest>,
    ) -> Result<Response<v1::GetDeviceResponse>, Status> {
        let mut fields = Fields::default();
        let device = fields.device_ref("device_ref", request.into_inner().device_ref);
        let device = fields.done(device)?;
        let view = self.store.find_device(&device).await.map_err(|error| status::store(&error))?;
        let view = view.ok_or_else(|| {
            ErrorReason::DeviceNeverSeen.status("PingOne has not described this device to this service yet")
        })?;
        Ok(Response::new(v1::GetDeviceResponse {
            device: Some(convert::device(&device, &view.snapshot)),
            job_id: view.job.to_string(),
        }))
    }
}

impl Services {
    /// A job that is there.
    pub(super) async fn job(&self, id: JobId) -> Result<Job, Status> {
        let found = self.store.find_job(id).await.map_err(|error| status::store(&error))?;
        found.ok_or_else(|| ErrorReason::JobNotFound.status(format!("there is no job {id}")))
    }

    /// Whose turn comes before that of a job that waits for its own. A job without an estimate is still true.
    pub(super) async fn turn(&self, job: &Job) -> Option<Turn> {
        match job.wait {
            Some(Wait::Turn(_)) => self.store.find_turn(job.id, convert::COUNTED_AHEAD).await.ok()?,
            _ => None,
        }
    }
}

fn wish(given: v1::UnblockRequest) -> Result<Wish, Status> {
    let mut fields = Fields::default();
    let device = fields.device_ref("device_ref", given.device_ref);
    let request_id = fields.request_id(given.request_id);
    let reason = fields.text("reason", given.reason, REASON_AT_MOST);
    let ticket = fields.text("ticket", given.ticket, TICKET_AT_MOST);
    let on_behalf_of = fields.text("on_behalf_of", given.on_behalf_of, ON_BEHALF_OF_AT_MOST);
    let priority = fields.priority(given.priority);
    let time_to_live = fields.time_to_live(given.time_to_live);
    let wait = fields.duration("wait", given.wait);
    let device = fields.done(device)?;
    let time_to_live = time_to_live.unwrap_or(match priority {
        Priority::Interactive => INTERACTIVE_TIME_TO_LIVE,
        Priority::Bulk => BULK_TIME_TO_LIVE,
    });
    let job = NewJob {
        id: JobId::new(device.environment.lane()),
        device,
        caller: Caller::anonymous(),
        request_id,
        reason,
        ticket,
        on_behalf_of,
        priority,
        time_to_live,
        trace_parent: crate::telemetry::trace_parent_of_current_span(),
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

/// How long before the deadline a reply leaves, to be there in time: 10 % of what there was, 20 to 250 ms.
fn margin(arrived: Instant, deadline: Instant) -> Duration {
    let given = deadline.saturating_duration_since(arrived);
    (given / 10).clamp(Duration::from_millis(20), Duration::from_millis(250)).min(given)
}

/// When the reply leaves at the latest.
fn reply_by(arrived: Instant, deadline: Option<Instant>, wait: Option<Duration>) -> Instant {
    let wanted = arrived + wait.unwrap_or(WAIT_AT_MOST).min(WAIT_AT_MOST);
    deadline.map_or(wanted, |deadline| wanted.min(deadline - margin(arrived, deadline)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_leaves_in_time_for_its_caller() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(reply_by(now, None, None), now + ms(30_000));
        assert_eq!(reply_by(now, None, Some(ms(60_000))), now + ms(30_000));
        assert_eq!(reply_by(now, None, Some(ms(0))), now);
        assert_eq!(reply_by(now, Some(now + ms(200)), None), now + ms(180));
        assert_eq!(reply_by(now, Some(now + ms(1000)), None), now + ms(900));
        assert_eq!(reply_by(now, Some(now + ms(10_000)), None), now + ms(9750));
        assert_eq!(reply_by(now, Some(now + ms(5)), None), now);
    }
}
