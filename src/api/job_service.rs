//! `JobService`: shows jobs, follows them, cancels and redrives them.

use std::pin::Pin;

use tokio::{sync::mpsc, time::Instant};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::{
    Services,
    contacts::Contacts,
    convert,
    deadline::Deadline,
    fields::{Fields, REASON_AT_MOST, TICKET_AT_MOST},
    permit::Permit,
    status::{self, ErrorReason},
};
use crate::{
    device::{DeviceId, UserId},
    job::{Job, JobId},
    proto::v1::{self, job_service_server::JobService},
    store::{Cancelled, JobFilter, PageToken, Redrive, Redriven},
};

#[tonic::async_trait]
impl JobService for Services {
    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let permit = Permit::of(&request)?;
        let id = job_id(&request.into_inner().job_id)?;
        let job = self.permitted(&permit, id).await?;
        let contacts = permit.contacts(job.device.environment);
        Ok(Response::new(v1::GetJobResponse { job: Some(self.complete(job, contacts).await?) }))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let given = request.into_inner();
        permit.in_named(&given.environment_id)?;
        let mut fields = Fields::default();
        let environment = fields.environment(&given.environment_id);
        let user = fields.filter("user_id", &given.user_id, UserId::parse);
        let device = fields.filter("device_id", &given.device_id, DeviceId::parse);
        let device = fields.one_device("device_id", device);
        if !given.device_id.is_empty() && given.user_id.is_empty() {
            fields.wrong("user_id", "is missing: a device is named by its user and its own id");
        }
        let states = fields.states(&given.states);
        let created_after = fields.instant("created_after", given.created_after);
        let created_before = fields.instant("created_before", given.created_before);
        let size = fields.page_size(given.page_size);
        let environment = fields.done(environment)?;
        let batch = match given.batch_id.as_str() {
            "" => None,
            id => Some(self.batch(&permit, environment, id).await?.number),
        };
        let filter = JobFilter {
            environment,
            batch,
            user,
            device,
            states,
            created_after,
            created_before,
            caller: Some(given.caller).filter(|caller| !caller.is_empty()),
            ticket: Some(given.ticket).filter(|ticket| !ticket.is_empty()),
        };
        let from = match given.page_token.as_str() {
            "" => None,
            text => Some(PageToken::parse(text, &filter).ok_or_else(|| {
                ErrorReason::PageTokenInvalid
                    .status("page_token: give the next_page_token of a call with the same filters, or none")
            })?),
        };
        let page = self.store.list_jobs(&filter, size, from).await.map_err(|error| status::store(&error))?;
        let policy = self.control.policy();
        let contacts = permit.contacts(environment);
        let shown = |job| convert::job(job, None, None, policy, contacts);
        Ok(Response::new(v1::ListJobsResponse {
            jobs: page.jobs.into_iter().map(shown).collect(),
            next_page_token: page.next.map(|token| token.to_string()).unwrap_or_default(),
        }))
    }

    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<v1::WatchJobResponse, Status>> + Send>>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let deadline = Deadline::of(&request);
        let permit = Permit::of(&request)?;
        let id = job_id(&request.into_inner().job_id)?;
        let first = self.permitted(&permit, id).await?;
        let contacts = permit.contacts(first.device.environment);
        let first = self.complete(first, contacts).await?;
        // One message in the pipe: a slow reader skips to the newest state.
        let (sender, receiver) = mpsc::channel(1);
        let services = self.clone();
        let following = async move { services.follow(id, first, contacts, deadline, sender).await };
        tokio::spawn(following.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let permit = Permit::of(&request)?;
        let given = request.into_inner();
        let mut fields = Fields::default();
        let id = fields.job(&given.job_id);
        let job = match id {
            Some(id) => Some(self.permitted(&permit, id).await?),
            None => None,
        };
        let reason = fields.text("reason", given.reason, REASON_AT_MOST);
        let (id, job) = fields.done(id.zip(job))?;
        let contacts = permit.contacts(job.device.environment);
        let cancelled = self.control.cancel(id, &permit.actor(), &reason).await;
        match cancelled.map_err(|error| status::store(&error))? {
            Cancelled::Ended | Cancelled::EndsWithAttempt { .. } => {
                Ok(Response::new(v1::CancelJobResponse { job: Some(self.whole_job(id, contacts).await?) }))
            }
            Cancelled::TooLate(state) => Err(ErrorReason::JobStateConflict
                .status(format!("the job has ended ({state:?}): there is nothing left to cancel"))),
            Cancelled::Unknown => Err(no_job(&permit, id)),
        }
    }

    async fn retry_job(
        &self,
        request: Request<v1::RetryJobRequest>,
    ) -> Result<Response<v1::RetryJobResponse>, Status> {
        let permit = Permit::of(&request)?;
        let given = request.into_inner();
        let mut fields = Fields::default();
        let id = fields.job(&given.job_id);
        let job = match id {
            Some(id) => Some(self.permitted(&permit, id).await?),
            None => None,
        };
        let expected_run = u32::try_from(given.expected_run).ok();
        if expected_run.is_none() {
            fields.wrong("expected_run", "is negative: give the run the job is in, or 0 for whatever it is");
        }
        let time_to_live = fields.time_to_live("time_to_live", given.time_to_live);
        let reason = fields.text("reason", given.reason, REASON_AT_MOST);
        let ticket = fields.text("ticket", given.ticket, TICKET_AT_MOST);
        if let Some(job) = &job {
            permit.demand(&mut fields, "", job.device.environment, (&reason, &ticket, None));
        }
        let (id, job) = fields.done(id.zip(job))?;
        let contacts = permit.contacts(job.device.environment);
        let wish = Redrive {
            id,
            expected_run: expected_run.filter(|run| *run > 0),
            time_to_live: time_to_live.unwrap_or(job.time_to_live),
            actor: permit.actor(),
            reason,
            ticket,
        };
        match self.control.redrive(&wish).await.map_err(|error| status::store(&error))? {
            Redriven::Begun => {
                Ok(Response::new(v1::RetryJobResponse { job: Some(self.whole_job(id, contacts).await?) }))
            }
            Redriven::OtherRun(run) => Err(ErrorReason::JobStateConflict
                .status(format!("the job is in run {run}: give that as expected_run"))),
            Redriven::Unfit(None) => Err(ErrorReason::JobStateConflict
                .status("the job has not ended: only a FAILED or EXPIRED job is given new attempts")),
            Redriven::Unfit(Some(state)) => Err(ErrorReason::JobStateConflict.status(format!(
                "the job has ended otherwise ({state:?}): only a FAILED or EXPIRED one is given new attempts"
            ))),
            Redriven::Refused(over) => Err(permit.over_quota(job.device.environment, over)),
            Redriven::Unknown => Err(no_job(&permit, id)),
        }
    }
}

type Updates = mpsc::Sender<Result<v1::WatchJobResponse, Status>>;

impl Services {
    /// A job that is there, and that the caller may have to do with.
    async fn permitted(&self, permit: &Permit, id: JobId) -> Result<Job, Status> {
        let job = self.find(id).await?.ok_or_else(|| no_job(permit, id))?;
        permit.in_environment(job.device.environment)?;
        Ok(job)
    }

    /// A job with its attempts, as it is now.
    async fn whole_job(&self, id: JobId, contacts: Contacts) -> Result<v1::Job, Status> {
        let job = self.job(id).await?;
        self.complete(job, contacts).await
    }

    /// A job with its attempts.
    async fn complete(&self, job: Job, contacts: Contacts) -> Result<v1::Job, Status> {
        let id = job.id;
        let attempts = self.store.find_attempts(id).await.map_err(|error| status::store(&error))?;
        let turn = self.turn(&job).await;
        Ok(convert::job(job, Some(attempts), turn, self.control.policy(), contacts))
    }

    /// Sends the job at every change until it is final, or says why it stops before.
    async fn follow(
        &self,
        id: JobId,
        first: v1::Job,
        contacts: Contacts,
        deadline: Option<Instant>,
        updates: Updates,
    ) {
        let began = Instant::now();
        let mut interest = self.watch.interest(id);
        let mut sent = first.revision;
        if !send(&updates, first).await {
            return;
        }
        loop {
            // The first view was read before interest was registered: look again at once.
            match self.whole_job(id, contacts).await {
                Ok(job) => {
                    let last = is_final(&job);
                    if job.revision > sent {
                        sent = job.revision;
                        if !send(&updates, job).await {
                            return;
                        }
                    }
                    if last {
                        return;
                    }
                }
                Err(status) => {
                    let _ = updates.send(Err(status)).await;
                    return;
                }
            }
            let end = tokio::select! {
                () = interest.changed() => continue,
                () = updates.closed() => return,
                end = self.stream_ends(began, deadline) => end,
            };
            let _ = updates.send(Err(end)).await;
            return;
        }
    }
}

async fn send(updates: &Updates, job: v1::Job) -> bool {
    updates.send(Ok(v1::WatchJobResponse { job: Some(job) })).await.is_ok()
}

fn is_final(job: &v1::Job) -> bool {
    !matches!(job.state(), v1::job::State::Unspecified | v1::job::State::Pending | v1::job::State::Running)
}

fn no_job(permit: &Permit, id: JobId) -> Status {
    permit.nothing_there(ErrorReason::JobNotFound, format!("there is no job {id}"))
}

fn job_id(given: &str) -> Result<JobId, Status> {
    let mut fields = Fields::default();
    let id = fields.job(given);
    fields.done(id)
}
