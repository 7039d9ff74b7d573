//! `job list`: jobs of an environment, newest first, page after page.

use clap::Args;
use time::OffsetDateTime;

use crate::{
    cli::{
        args::{self, StateArg},
        error::Error,
        exit::Exit,
        json,
        screen::Screen,
        server::CallOptions,
        table,
    },
    device::{DeviceId, EnvironmentId, UserId},
    proto::v1::{Job, ListJobsRequest},
};

const LARGEST_PAGE: u32 = 1000;

/// Lists jobs of an environment, newest first
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Environment to list
    #[arg(long, value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: EnvironmentId,
    /// Only of this user
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    user: Option<UserId>,
    /// Only of this device of the user
    #[arg(long, value_name = "DEVICE", requires = "user", value_parser = DeviceId::parse)]
    device: Option<DeviceId>,
    /// Only of this batch
    #[arg(long, value_name = "ID", value_parser = args::batch_id)]
    batch: Option<String>,
    /// Only in this state; may be given several times
    #[arg(long, value_name = "STATE", value_enum)]
    state: Vec<StateArg>,
    /// Only created after, e.g. 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = args::instant)]
    created_after: Option<OffsetDateTime>,
    /// Only created before
    #[arg(long, value_name = "TIME", value_parser = args::instant)]
    created_before: Option<OffsetDateTime>,
    /// Only asked for by this caller
    #[arg(long, value_name = "CALLER")]
    caller: Option<String>,
    /// Only for this ticket
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    call: CallOptions,
}

impl List {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let send = async |request| client.jobs().list_jobs(request).await;
        let mut request = self.request();
        let mut left = self.limit;
        let mut jobs: Vec<Job> = Vec::new();
        let more = loop {
            request.page_size = i32::try_from(left.min(LARGEST_PAGE)).expect("at most a thousand");
            let mut page = client.call(screen, self.call.time_limit(), &request, send).await?;
            page.jobs.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= u32::try_from(page.jobs.len()).expect("no longer than what was left");
            if screen.is_json() {
                page.jobs.iter().try_for_each(|job| screen.print_json(&json::job(job)))?;
            } else {
                jobs.append(&mut page.jobs);
            }
            if page.next_page_token.is_empty() || left == 0 {
                break !page.next_page_token.is_empty();
            }
            request.page_token = page.next_page_token;
        };
        if !jobs.is_empty() {
            screen.print(&table::jobs(screen, &jobs))?;
        } else if left == self.limit {
            screen.say("no job matches");
        }
        if more {
            screen.say("there may be more: raise --limit, or narrow the filters");
        }
        Ok(Exit::Done)
    }

    fn request(&self) -> ListJobsRequest {
        ListJobsRequest {
            environment_id: self.environment.to_string(),
            user_id: self.user.map(|user| user.to_string()).unwrap_or_default(),
            device_id: self.device.map(|device| device.to_string()).unwrap_or_default(),
            batch_id: self.batch.clone().unwrap_or_default(),
            states: self.state.iter().map(|state| state.to_proto().into()).collect(),
            created_after: self.created_after.map(args::to_timestamp),
            created_before: self.created_before.map(args::to_timestamp),
            caller: self.caller.clone().unwrap_or_default(),
            ticket: self.ticket.clone().unwrap_or_default(),
            page_size: 0,
            page_token: String::new(),
        }
    }
}
