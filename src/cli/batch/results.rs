//! `batch results`: what became of every row.

use std::{path::PathBuf, pin::pin};

use clap::Args;

use super::{BatchName, get, sink::Sink, stream::Results};
use crate::{
    cli::{
        error::Error,
        exit::Exit,
        screen::{Hue, Screen},
        server::CallOptions,
        unblock::interrupt,
    },
    proto::v1::StreamBatchResultsRequest,
};

/// Prints what became of every row, as CSV, in the order of the upload
///
/// The file can be given to `bulk` again. With --output json: one TargetResult per line.
#[derive(Debug, Args)]
pub(in crate::cli) struct BatchResults {
    #[command(flatten)]
    batch: BatchName,
    /// File to write, complete or not at all; `-` is stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Only rows that were not unblocked
    #[arg(long)]
    failures_only: bool,
    /// Wait for rows that are not done, and for those still to be uploaded
    #[arg(long)]
    follow: bool,
    /// Begin at this row, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: i64,
    #[command(flatten)]
    call: CallOptions,
}

impl BatchResults {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let mut interrupt = pin!(interrupt());
        tokio::select! {
            ended = self.print(screen) => ended,
            () = &mut interrupt => {
                screen.headline(Hue::Attention, "interrupted:", "the batch goes on");
                Ok(Exit::Interrupted)
            }
        }
    }

    async fn print(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let batch = get::read(&client, screen, &self.call, &self.batch).await?;
        let request = StreamBatchResultsRequest {
            environment_id: self.batch.environment_id(),
            batch_id: self.batch.id().to_owned(),
            start_offset: self.from_offset,
            failures_only: self.failures_only,
            follow: self.follow,
        };
        let mut results = Results::of(&client, request, batch.target_count);
        let mut sink = Sink::open(&self.out, screen.is_json())?;
        while let Some(result) = results.next(screen).await? {
            sink.write(&self.batch.environment_id(), &result)?;
            // Whoever follows wants to see each as it comes.
            if self.follow {
                sink.flush()?;
            }
        }
        sink.finish()?;
        Ok(Exit::Done)
    }
}
