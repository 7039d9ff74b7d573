//! `health`: whether a server on this machine is ready, for containers that have no other program to ask with.

use std::time::Duration;

use clap::Args;

use super::{error::Error, exit::Exit, screen::Screen};

/// Asks a server's admin port whether it is ready
#[derive(Debug, Args)]
pub(super) struct Health {
    /// What to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9464/readyz")]
    url: String,
}

const PATIENCE: Duration = Duration::from_secs(3);

impl Health {
    pub(super) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client =
            reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().map_err(Error::failed)?;
        let unreachable = |error: reqwest::Error| Error::Connect {
            server: self.url.clone(),
            cause: error.without_url().to_string(),
        };
        let answer = client.get(&self.url).send().await.map_err(unreachable)?;
        let ready = answer.status().is_success();
        screen.print(answer.text().await.map_err(unreachable)?.trim_end())?;
        Ok(if ready { Exit::Done } else { Exit::Failed })
    }
}
