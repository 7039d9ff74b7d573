//! `job retry`: new attempts for a job that failed or expired.

use std::time::Duration;

use clap::Args;

use super::get;
use crate::{
    cli::{args, error::Error, exit::Exit, outcome, screen::Screen, server::CallOptions, table},
    job::JobId,
    proto::v1::RetryJobRequest,
};

/// Gives a failed or expired job new attempts
///
/// Reads the job first and asks for the run after the one it is in: repeated by accident, it changes nothing more.
#[derive(Debug, Args)]
pub(in crate::cli) struct Retry {
    /// Job to give new attempts
    #[arg(value_name = "ID", value_parser = JobId::parse)]
    id: JobId,
    /// Run the job is in now; 0: whatever it is, and then not safe to repeat. Without it the job is read first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    expected_run: Option<i32>,
    /// How long the new run may wait to be sent; without it as long as the job was given at first
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    time_to_live: Option<Duration>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Case or ticket that asks for it
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    #[command(flatten)]
    call: CallOptions,
}

impl Retry {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let expected_run = match self.expected_run {
            Some(run) => run,
            None => get::read(&client, screen, &self.call, self.id).await?.run,
        };
        let request = RetryJobRequest {
            job_id: self.id.to_string(),
            expected_run,
            time_to_live: self.time_to_live.map(args::to_proto_duration),
            reason: self.reason.clone().unwrap_or_default(),
            ticket: self.ticket.clone().unwrap_or_default(),
        };
        let send = async |request| client.jobs().retry_job(request).await;
        let limit = self.call.time_limit();
        let answer = if expected_run == 0 {
            client.call_once(limit, request, send).await?
        } else {
            client.call(screen, limit, &request, send).await?
        };
        let job = answer.job.unwrap_or_default();
        outcome::print(screen, &job, |job| table::job(screen, job))?;
        screen.detail_command("follow", &self.call.server.again(&format!("job watch {}", self.id)));
        Ok(Exit::Done)
    }
}
