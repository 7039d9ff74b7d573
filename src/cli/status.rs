//! `status`: one screen that tells whether it is us, Postgres or PingOne.

mod ask;
mod figures;
mod found;
mod json;
mod judge;
mod line;
mod screen;
mod watch;

use std::time::Duration;

use clap::Args;

use super::{args, error::Error, exit::Exit, screen::Screen, server::ServerOptions};
use ask::Asker;
use found::Found;

/// Tells on one screen whether it is us, Postgres or PingOne
///
/// The first line says whose problem it is. Then how the service, Postgres and PingOne stand, what waits, the open batches, and the
/// environments that need a look first. Figures that nobody has published for 10 s are told as unknown.
///
/// Exit code 0: all is well, or what waits does so because an operator paused it or for the configured rate. 1: something needs
/// attention. 3: the server does not answer. With --watch: 130, after Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Look again and again until Ctrl-C: each INTERVAL, 500ms at least; without one each 2s
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = interval)]
    watch: Option<Duration>,
    /// How long the server has for each answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = args::duration)]
    timeout: Duration,
    #[command(flatten)]
    server: ServerOptions,
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(500);

impl Status {
    pub(super) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let mut asker = Asker::new(&self.server, self.timeout);
        let Some(every) = self.watch else {
            let found = asker.look().await?;
            print(screen, &found)?;
            return Ok(judge::exit(&judge::judge(&found)));
        };
        watch::run(screen, asker, every).await
    }
}

fn print(screen: &Screen, found: &Found) -> Result<(), Error> {
    if screen.is_json() {
        screen.print_json(&json::found(found))
    } else {
        screen.print(&screen::of(screen, found).join("\n"))
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = args::duration(text)?;
    (interval >= SHORTEST_INTERVAL).then_some(interval).ok_or_else(|| "at least 500ms".to_owned())
}
