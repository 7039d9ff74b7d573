//! `batch`: shows batches and steers them. `bulk` makes them.

pub(super) mod follow;
mod get;
mod list;
pub(super) mod progress;
mod results;
pub(super) mod row;
pub(super) mod sink;
mod steer;
pub(super) mod stream;
pub(super) mod table;
mod watch;

use clap::{Args, Subcommand};

use super::{args, error::Error, exit::Exit, json, screen::Screen, server::ServerOptions};
use crate::{device::EnvironmentId, proto::v1};

/// Shows batches and steers them
#[derive(Debug, Subcommand)]
pub(super) enum Batch {
    Get(get::Get),
    List(list::List),
    Watch(watch::Watch),
    Results(results::BatchResults),
    /// Pauses a batch: nothing more is sent until it is resumed
    ///
    /// What is at PingOne already is waited for.
    Pause(steer::Steer),
    /// Lets a paused batch go on, also past the trial or the share of failures that paused it
    Resume(steer::Steer),
    /// Cancels every row that was not sent yet
    Cancel(steer::Steer),
    /// Gives every row that failed or expired new attempts
    Retry(steer::Steer),
}

impl Batch {
    pub(super) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        match self {
            Self::Get(get) => get.run(screen).await,
            Self::List(list) => list.run(screen).await,
            Self::Watch(watch) => watch.run(screen).await,
            Self::Results(results) => results.run(screen).await,
            Self::Pause(steer) => steer.pause(screen).await,
            Self::Resume(steer) => steer.resume(screen).await,
            Self::Cancel(steer) => steer.cancel(screen).await,
            Self::Retry(steer) => steer.retry(screen).await,
        }
    }
}

/// The two words that name a batch.
#[derive(Debug, Clone, Args)]
pub(super) struct BatchName {
    /// PingOne environment
    #[arg(value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: EnvironmentId,
    /// Batch of that environment
    #[arg(value_name = "BATCH", value_parser = args::batch_id)]
    id: String,
}

impl BatchName {
    fn environment_id(&self) -> String {
        self.environment.to_string()
    }

    fn id(&self) -> &str {
        &self.id
    }

    /// `batch verb ENV BATCH`, to be pasted into a shell.
    fn command(&self, server: &ServerOptions, verb: &str) -> String {
        command(server, verb, &self.environment_id(), &self.id)
    }
}

/// `batch verb ENV BATCH`, to be pasted into a shell.
pub(super) fn command(server: &ServerOptions, verb: &str, environment_id: &str, batch_id: &str) -> String {
    server.again(&format!("batch {verb} {environment_id} {}", super::server::shell_word(batch_id)))
}

/// `1 row was`, `2 rows were`.
pub(super) fn rows_were(count: i64) -> String {
    if count == 1 { "1 row was".to_owned() } else { format!("{count} rows were") }
}

/// Whether `batch retry` would do something.
pub(super) const fn can_be_retried(batch: &v1::Batch) -> bool {
    batch.failed_count + batch.expired_count > 0
}

/// Prints a batch as it stands.
///
/// # Errors
/// [`Error::Output`] when the output can not be written.
fn print(screen: &Screen, batch: &v1::Batch) -> Result<(), Error> {
    let printed = if screen.is_json() {
        screen.print_json(&json::batch(batch))
    } else {
        screen.print(&table::batch(screen, batch))
    };
    match printed {
        Err(error) if error.is_closed_output() => Ok(()),
        other => other,
    }
}
