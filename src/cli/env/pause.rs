//! `env pause`: no request any more, to one environment or to any.

use clap::Args;

use super::{Target, print};
use crate::{
    cli::{error::Error, exit::Exit, outcome, screen::Screen, server::CallOptions},
    proto::v1::PauseEnvironmentRequest,
};

/// Pauses sending, to one environment or to all: jobs are still taken, and wait
///
/// Requests in flight end. Jobs that wait past their time to live end EXPIRED. Holds over restarts, until `env resume`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Pause {
    #[command(flatten)]
    target: Target,
    /// Why, for whoever looks next
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    call: CallOptions,
}

impl Pause {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let request =
            PauseEnvironmentRequest { environment_id: self.target.to_proto(), reason: self.reason.clone() };
        let send = async |request| client.environments().pause_environment(request).await;
        let answer = client.call(screen, self.call.time_limit(), &request, send).await?;
        print(screen, &answer.environment.unwrap_or_default())?;
        outcome::note(screen, "jobs are still taken and wait; requests in flight end");
        Ok(Exit::Done)
    }
}
