//! `batch list`: batches of an environment, newest first, page after page.

use clap::Args;

use super::table;
use crate::{
    cli::{args::BatchStateArg, error::Error, exit::Exit, json, screen::Screen, server::CallOptions},
    device::EnvironmentId,
    proto::v1::{Batch, ListBatchesRequest},
};

const LARGEST_PAGE: u32 = 1000;

/// Lists batches of an environment, newest first
#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Environment to list
    #[arg(value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: EnvironmentId,
    /// Only in this state; may be given several times
    #[arg(long, value_name = "STATE", value_enum)]
    state: Vec<BatchStateArg>,
    /// Only made by this caller
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
        let send = async |request| client.batches().list_batches(request).await;
        let mut request = self.request();
        let mut left = self.limit;
        let mut batches: Vec<Batch> = Vec::new();
        let more = loop {
            request.page_size = i32::try_from(left.min(LARGEST_PAGE)).expect("at most a thousand");
            let mut page = client.call(screen, self.call.time_limit(), &request, send).await?;
            page.batches.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            left -= u32::try_from(page.batches.len()).expect("no longer than what was left");
            if screen.is_json() {
                page.batches.iter().try_for_each(|batch| screen.print_json(&json::batch(batch)))?;
            } else {
                batches.append(&mut page.batches);
            }
            if page.next_page_token.is_empty() || left == 0 {
                break !page.next_page_token.is_empty();
            }
            request.page_token = page.next_page_token;
        };
        if !batches.is_empty() {
            screen.print(&table::batches(screen, &batches))?;
        } else if left == self.limit {
            screen.say("no batch matches");
        }
        if more {
            screen.say("there may be more: raise --limit, or narrow the filters");
        }
        Ok(Exit::Done)
    }

    fn request(&self) -> ListBatchesRequest {
        ListBatchesRequest {
            environment_id: self.environment.to_string(),
            page_size: 0,
            page_token: String::new(),
            states: self.state.iter().map(|state| state.to_proto().into()).collect(),
            caller: self.caller.clone().unwrap_or_default(),
            ticket: self.ticket.clone().unwrap_or_default(),
        }
    }
}
