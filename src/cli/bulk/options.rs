//! What can be said of a batch, once for all its rows.

use std::time::Duration;

use clap::Args;

use crate::{cli::args, device::EnvironmentId, proto::v1::BatchHeader};

/// What a batch is made with.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Batch")]
pub(super) struct BatchOptions {
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
    /// Case or ticket that asks for it
    #[arg(long, value_name = "ID")]
    pub(super) ticket: Option<String>,
    /// Person you act for
    #[arg(long, value_name = "PERSON")]
    pub(super) on_behalf_of: Option<String>,
    /// Send only the first N, then pause until `batch resume`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub(super) canary: Option<i32>,
    /// Pause once this share of the rows done has failed, e.g. 0.05 or 5%; looked at from 20 on
    #[arg(long, value_name = "SHARE", value_parser = args::share)]
    pub(super) max_failure_ratio: Option<f64>,
    /// How long rows may wait to be sent; the server's default is 24h
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    pub(super) time_to_live: Option<Duration>,
    /// Send nothing before the whole file is uploaded
    #[arg(long)]
    pub(super) start_when_sealed: bool,
    /// Name of the batch, instead of one that follows from the rows and these options
    #[arg(long, value_name = "ID", value_parser = args::batch_id)]
    pub(super) batch_id: Option<String>,
}

impl BatchOptions {
    /// The batch of one environment, without its id.
    pub(super) fn header(&self, environment: EnvironmentId) -> BatchHeader {
        let text = |given: &Option<String>| given.clone().unwrap_or_default();
        BatchHeader {
            batch_id: String::new(),
            environment_id: environment.to_string(),
            reason: text(&self.reason),
            ticket: text(&self.ticket),
            time_to_live: self.time_to_live.map(args::to_proto_duration),
            max_failure_ratio: self.max_failure_ratio.unwrap_or_default(),
            canary_count: self.canary.unwrap_or_default(),
            start_when_sealed: self.start_when_sealed,
            on_behalf_of: text(&self.on_behalf_of),
        }
    }
}
