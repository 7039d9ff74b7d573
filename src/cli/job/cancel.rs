//! `job cancel`: no further attempt for a job.

use clap::Args;

use crate::{
    cli::{error::Error, exit::Exit, outcome, screen::Screen, server::CallOptions, table},
    job::JobId,
    proto::v1::CancelJobRequest,
};

/// Cancels a job: a waiting one at once, one in flight after that attempt
#[derive(Debug, Args)]
pub(in crate::cli) struct Cancel {
    /// Job to cancel
    #[arg(value_name = "ID", value_parser = JobId::parse)]
    id: JobId,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    call: CallOptions,
}

impl Cancel {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let request =
            CancelJobRequest { job_id: self.id.to_string(), reason: self.reason.clone().unwrap_or_default() };
        let send = async |request| client.jobs().cancel_job(request).await;
        let answer = client.call(screen, self.call.time_limit(), &request, send).await?;
        let job = answer.job.unwrap_or_default();
        outcome::print(screen, &job, |job| table::job(screen, job))?;
        if !outcome::is_final(&job) {
            outcome::note(screen, "an attempt is in flight; the job ends as that attempt ends");
        }
        Ok(Exit::Done)
    }
}
