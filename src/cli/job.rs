//! `job`: shows jobs and steers them.

mod cancel;
mod get;
mod list;
mod retry;
mod watch;

use clap::Subcommand;

use super::{error::Error, exit::Exit, screen::Screen};

/// Shows jobs and steers them
#[derive(Debug, Subcommand)]
pub(super) enum Job {
    Get(get::Get),
    List(list::List),
    Watch(watch::Watch),
    Cancel(cancel::Cancel),
    Retry(retry::Retry),
}

impl Job {
    pub(super) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        match self {
            Self::Get(get) => get.run(screen).await,
            Self::List(list) => list.run(screen).await,
            Self::Watch(watch) => watch.run(screen).await,
            Self::Cancel(cancel) => cancel.run(screen).await,
            Self::Retry(retry) => retry.run(screen).await,
        }
    }
}
