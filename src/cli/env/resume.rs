//! `env resume`: sending goes on.

use clap::Args;

use super::{Target, print};
use crate::{
    cli::{error::Error, exit::Exit, outcome, screen::Screen, server::CallOptions},
    proto::v1::{ResumeEnvironmentRequest, environment::State},
};

/// Takes a pause back, of one environment or of everything
///
/// With --all, environments that were paused by themselves stay so.
#[derive(Debug, Args)]
pub(in crate::cli) struct Resume {
    #[command(flatten)]
    target: Target,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    call: CallOptions,
}

impl Resume {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let request = ResumeEnvironmentRequest {
            environment_id: self.target.to_proto(),
            reason: self.reason.clone().unwrap_or_default(),
        };
        let send = async |request| client.environments().resume_environment(request).await;
        let answer = client.call(screen, self.call.time_limit(), &request, send).await?;
        let environment = answer.environment.unwrap_or_default();
        print(screen, &environment)?;
        if !self.target.all && environment.state() == State::Paused {
            outcome::note(screen, "everything is paused: this one goes on after `env resume --all`");
        }
        Ok(Exit::Done)
    }
}
