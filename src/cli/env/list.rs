//! `env list`: every environment, page after page.

use clap::Args;

use super::{table, tell_all_paused};
use crate::{
    cli::{error::Error, exit::Exit, json, screen::Screen, server::CallOptions},
    proto::v1::{Environment, ListEnvironmentsRequest},
};

const LARGEST_PAGE: i32 = 1000;

/// Lists the environments: whether each is sent to, how fast, and what waits
///
/// FLIGHT and RATE: now, of what is allowed. WAITING: interactive + bulk jobs. OLDEST: how long the job that is due longest
/// has been due.
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    call: CallOptions,
}

impl List {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let send = async |request| client.environments().list_environments(request).await;
        let mut request = ListEnvironmentsRequest { page_size: LARGEST_PAGE, page_token: String::new() };
        let mut environments: Vec<Environment> = Vec::new();
        let all_paused = loop {
            let mut page = client.call(screen, self.call.time_limit(), &request, send).await?;
            environments.append(&mut page.environments);
            if page.next_page_token.is_empty() {
                break page.all_paused.then_some(page.all_paused_reason);
            }
            request.page_token = page.next_page_token;
        };
        if let Some(sentence) = all_paused {
            tell_all_paused(screen, &sentence);
        }
        if environments.is_empty() {
            screen.say("no environment is configured by its id or has had a job yet");
        } else if screen.is_json() {
            environments.iter().try_for_each(|one| screen.print_json(&json::environment(one)))?;
        } else {
            screen.print(&table::environments(screen, &environments))?;
        }
        Ok(Exit::Done)
    }
}
