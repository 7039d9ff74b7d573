//! `batch watch`: how a batch goes on, until it is done or stops.

use std::{pin::pin, time::Duration};

use clap::Args;
use tokio::time::{Instant, sleep_until};

use super::{
    BatchName, can_be_retried,
    follow::{follow, is_final},
    print,
    progress::{Progress, not_unblocked},
    rows_were,
};
use crate::{
    cli::{
        args,
        error::{Error, printed},
        exit::Exit,
        json,
        screen::{Hue, Screen},
        server::ServerOptions,
        unblock::interrupt,
    },
    proto::v1::{Batch, WatchBatchRequest},
};

/// Shows how a batch goes on until it is done, or paused by its trial or its share of failures
#[derive(Debug, Args)]
pub(in crate::cli) struct Watch {
    #[command(flatten)]
    batch: BatchName,
    /// How long to watch; without it until the batch is done
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    server: ServerOptions,
}

impl Watch {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let until = self.timeout.map(|timeout| Instant::now() + timeout);
        let client = self.server.connect().await?;
        let progress = Progress::start(screen, std::iter::once(self.batch.id().to_owned()));
        let request = WatchBatchRequest {
            environment_id: self.batch.environment_id(),
            batch_id: self.batch.id().to_owned(),
        };
        let seen =
            |batch: &Batch| if screen.is_json() { screen.print_json(&json::batch(batch)) } else { Ok(()) };
        let mut interrupt = pin!(interrupt());
        let batch = tokio::select! {
            batch = follow(&client, &progress, 0, request, seen) => batch?,
            never = progress.show() => match never {},
            () = passed(until) => {
                drop(progress);
                let after = self.timeout.map(printed).unwrap_or_default();
                return Ok(self.left(screen, "timed out:", &format!("not done after {after}; it goes on"), Exit::Pending));
            }
            () = &mut interrupt => {
                drop(progress);
                return Ok(self.left(screen, "interrupted:", "the batch goes on", Exit::Interrupted));
            }
        };
        drop(progress);
        if !screen.is_json() {
            print(screen, &batch)?;
        }
        Ok(self.tell(screen, &batch))
    }

    fn left(&self, screen: &Screen, label: &str, sentence: &str, exit: Exit) -> Exit {
        screen.headline(Hue::Attention, label, sentence);
        screen.detail_command("look again", &self.batch.command(&self.server, "watch"));
        exit
    }

    fn tell(&self, screen: &Screen, batch: &Batch) -> Exit {
        let command = |verb| self.batch.command(&self.server, verb);
        if !is_final(batch) {
            screen.headline(Hue::Attention, "paused:", &batch.state_reason);
            screen.detail_command("results", &command("results"));
            screen.detail_command("go on", &command("resume"));
            return Exit::Failed;
        }
        if not_unblocked(batch) == 0 {
            return Exit::Done;
        }
        screen.headline(Hue::Bad, "error:", &format!("{} not unblocked", rows_were(not_unblocked(batch))));
        screen.detail_command("which", &format!("{} --failures-only", command("results")));
        if can_be_retried(batch) {
            screen.detail_command("try again", &command("retry"));
        }
        Exit::Failed
    }
}

async fn passed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
