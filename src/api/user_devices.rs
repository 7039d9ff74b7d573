//! `ListUserDevices`: asks PingOne for a user's devices by a job of its own, inside the limits, and waits for it.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    Services, convert,
    deadline::Deadline,
    fields::Fields,
    permit::Permit,
    status::{self, ErrorReason},
    waiting::reply_by,
};
use crate::{
    device::{DeviceRef, Devices},
    job::{Actor, Job, JobId, NewJob, Priority, Reason, State, Wait},
    proto::v1,
};

impl Services {
    /// The devices of a user, as PingOne lists them now.
    pub(super) async fn user_devices(
        &self,
        request: Request<v1::ListUserDevicesRequest>,
    ) -> Result<Response<v1::ListUserDevicesResponse>, Status> {
        let arrived = Instant::now();
        let deadline = Deadline::of(&request);
        let permit = Permit::of(&request)?;
        let given = request.into_inner();
        permit.in_named(&given.environment_id)?;
        let every = every(&given)?;
        if !self.control.serves(every.environment) {
            return Err(permit.not_served(every.environment));
        }
        if self.draining.is_cancelled() {
            return Err(status::draining());
        }
        let until = reply_by(arrived, deadline, None);
        // Whoever does not wait any more has no use for a list: it is not asked for.
        let time_to_live = until.saturating_duration_since(Instant::now());
        if time_to_live.is_zero() {
            return Err(late("there was no time to ask PingOne"));
        }
        let recorded =
            self.record(&mut lookup(every, permit.actor(), time_to_live), &permit, arrived, deadline).await?;
        let job = self.ended(recorded, until).await;
        match (job.state, &job.snapshot) {
            (State::Succeeded, Some(list)) => {
                let devices = Devices::of(list).unwrap_or_default();
                let contacts = permit.contacts(every.environment);
                let shown =
                    |(device, snapshot)| convert::device(&DeviceRef { device, ..every }, &snapshot, contacts);
                let devices = devices.into_iter().map(shown).collect();
                Ok(Response::new(v1::ListUserDevicesResponse { devices }))
            }
            _ => Err(self.not_listed(&job)),
        }
    }

    /// Why there is no list.
    fn not_listed(&self, job: &Job) -> Status {
        let upstream = |reason, why: &str| {
            status::upstream(reason, format!("the user's devices could not be listed: {why}"), job.id)
        };
        if job.state == State::Cancelled {
            return ErrorReason::JobStateConflict.status("somebody cancelled the job that lists the devices");
        }
        if let Some(error) = &job.error {
            return upstream(error.reason, &error.message);
        }
        if !job.state.is_final() && self.draining.is_cancelled() {
            return status::draining();
        }
        let Some(wait) = &job.wait else { return late("PingOne has not answered in time") };
        let why = convert::sentence(wait, job, None);
        match wait {
            Wait::Hold(_) => upstream(Reason::RateLimited, &why),
            Wait::Credential { .. } => upstream(Reason::CredentialRefused, &why),
            Wait::Circuit { .. } => upstream(Reason::Unavailable, &why),
            Wait::Backoff(_) | Wait::Worker | Wait::Paused { .. } | Wait::Turn(_) => {
                late(&format!("PingOne was not asked in time; the job waited for {why}"))
            }
        }
    }
}

fn every(given: &v1::ListUserDevicesRequest) -> Result<DeviceRef, Status> {
    let mut fields = Fields::default();
    let environment = fields.environment(&given.environment_id);
    let user = fields.user(&given.user_id);
    let (environment, user) = fields.done(environment.zip(user))?;
    Ok(DeviceRef::every(environment, user))
}

fn lookup(device: DeviceRef, actor: Actor, time_to_live: Duration) -> NewJob {
    NewJob {
        id: JobId::new(device.environment.lane()),
        device,
        actor,
        request_id: None,
        reason: String::new(),
        ticket: String::new(),
        on_behalf_of: String::new(),
        priority: Priority::Interactive,
        time_to_live,
        trace_parent: None,
    }
}

fn late(why: &str) -> Status {
    ErrorReason::DeadlinePassed.status(format!("the user's devices could not be listed: {why}"))
}
