//! `job get`: one job with its attempts.

use clap::Args;

use crate::{
    cli::{client::Client, error::Error, exit::Exit, outcome, screen::Screen, server::CallOptions, table},
    job::JobId,
    proto::v1,
};

/// Shows one job with its attempts
#[derive(Debug, Args)]
pub(in crate::cli) struct Get {
    /// Job to show
    #[arg(value_name = "ID", value_parser = JobId::parse)]
    id: JobId,
    #[command(flatten)]
    call: CallOptions,
}

impl Get {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let job = read(&client, screen, &self.call, self.id).await?;
        outcome::print(screen, &job, |job| table::job(screen, job))?;
        Ok(Exit::Done)
    }
}

/// Reads the job as it stands.
///
/// # Errors
/// As [`Client::call`].
pub(super) async fn read(
    client: &Client,
    screen: &Screen,
    call: &CallOptions,
    id: JobId,
) -> Result<v1::Job, Error> {
    let request = v1::GetJobRequest { job_id: id.to_string() };
    let send = async |request| client.jobs().get_job(request).await;
    let answer = client.call(screen, call.time_limit(), &request, send).await?;
    Ok(answer.job.unwrap_or_default())
}
