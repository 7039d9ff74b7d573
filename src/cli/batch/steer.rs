//! `batch pause`, `resume`, `cancel` and `retry`: all safe to repeat.

use clap::Args;

use super::{BatchName, follow::is_final, print};
use crate::{
    cli::{error::Error, exit::Exit, screen::Screen, server::CallOptions},
    proto::v1::{Batch, CancelBatchRequest, PauseBatchRequest, ResumeBatchRequest, RetryBatchRequest},
};

/// Which batch, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct Steer {
    #[command(flatten)]
    batch: BatchName,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Case or ticket that asks for it
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    #[command(flatten)]
    call: CallOptions,
}

impl Steer {
    pub(in crate::cli) async fn pause(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let (environment_id, batch_id, reason, ticket) = self.said();
        let request = PauseBatchRequest { environment_id, batch_id, reason, ticket };
        let send = async |request| client.batches().pause_batch(request).await;
        let answer = client.call(screen, self.call.time_limit(), &request, send).await?;
        self.tell(screen, answer.batch, "resume")
    }

    pub(in crate::cli) async fn resume(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let (environment_id, batch_id, reason, ticket) = self.said();
        let request = ResumeBatchRequest { environment_id, batch_id, reason, ticket };
        let send = async |request| client.batches().resume_batch(request).await;
        let answer = client.call(screen, self.call.time_limit(), &request, send).await?;
        self.tell(screen, answer.batch, "watch")
    }

    pub(in crate::cli) async fn cancel(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let (environment_id, batch_id, reason, ticket) = self.said();
        let request = CancelBatchRequest { environment_id, batch_id, reason, ticket };
        let send = async |request| client.batches().cancel_batch(request).await;
        let answer = client.call(screen, self.call.time_limit(), &request, send).await?;
        self.tell(screen, answer.batch, "watch")
    }

    pub(in crate::cli) async fn retry(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let (environment_id, batch_id, reason, ticket) = self.said();
        let request = RetryBatchRequest { environment_id, batch_id, reason, ticket };
        let send = async |request| client.batches().retry_batch(request).await;
        let answer = client.call(screen, self.call.time_limit(), &request, send).await?;
        if answer.left_count > 0 {
            let left = format!("{} targets as they are: {}", answer.left_count, answer.left_reason);
            screen.detail("left", &left);
        }
        self.tell(screen, answer.batch, "watch")
    }

    /// What all four requests say.
    fn said(&self) -> (String, String, String, String) {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        (self.batch.environment_id(), self.batch.id().to_owned(), text(&self.reason), text(&self.ticket))
    }

    /// Prints the batch and the command that is likely to be next.
    fn tell(&self, screen: &Screen, batch: Option<Batch>, next: &str) -> Result<Exit, Error> {
        let batch = batch.unwrap_or_default();
        print(screen, &batch)?;
        if !is_final(&batch) {
            let label = if next == "watch" { "follow" } else { "go on" };
            screen.detail_command(label, &self.batch.command(&self.call.server, next));
        }
        Ok(Exit::Done)
    }
}
