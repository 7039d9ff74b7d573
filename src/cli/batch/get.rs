//! `batch get`: one batch with its counts.

use clap::Args;

use super::{BatchName, print};
use crate::{
    cli::{client::Client, error::Error, exit::Exit, screen::Screen, server::CallOptions},
    proto::v1,
};

/// Shows one batch with its counts
#[derive(Debug, Args)]
pub(in crate::cli) struct Get {
    #[command(flatten)]
    batch: BatchName,
    #[command(flatten)]
    call: CallOptions,
}

impl Get {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        print(screen, &read(&client, screen, &self.call, &self.batch).await?)?;
        Ok(Exit::Done)
    }
}

/// Reads the batch as it stands.
///
/// # Errors
/// As [`Client::call`].
pub(super) async fn read(
    client: &Client,
    screen: &Screen,
    call: &CallOptions,
    name: &BatchName,
) -> Result<v1::Batch, Error> {
    let request =
        v1::GetBatchRequest { environment_id: name.environment_id(), batch_id: name.id().to_owned() };
    let send = async |request| client.batches().get_batch(request).await;
    let answer = client.call(screen, call.time_limit(), &request, send).await?;
    Ok(answer.batch.unwrap_or_default())
}
