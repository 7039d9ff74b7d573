//! `audit export`: the trail, line by line, for whoever watches over it.

use std::{collections::BTreeSet, time::Duration};

use clap::{Args, ValueEnum};
use time::OffsetDateTime;

use super::ocsf;
use crate::{
    cli::{
        args, client::Client, error::Error, exit::Exit, json, screen::Screen, server::CallOptions, signals,
    },
    device::EnvironmentId,
    job::JobId,
    proto::v1::{ListAuditEventsRequest, audit_event::Action},
};

/// Prints the audit trail, the oldest entry first, one JSON object a line
///
/// Needs the scope `audit`. Reading is recorded in the trail too.
#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    /// Only of this environment
    #[arg(long, value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: Option<EnvironmentId>,
    /// Only of this caller
    #[arg(long, value_name = "CALLER")]
    caller: Option<String>,
    /// Only about this job
    #[arg(long, value_name = "JOB", value_parser = JobId::parse)]
    job: Option<JobId>,
    /// Only this action, e.g. denied; may be given several times
    #[arg(long, value_name = "ACTION", value_parser = action)]
    action: Vec<Action>,
    /// Only from then on, e.g. 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = args::instant)]
    since: Option<OffsetDateTime>,
    /// Only before then
    #[arg(long, value_name = "TIME", value_parser = args::instant, conflicts_with = "follow")]
    until: Option<OffsetDateTime>,
    /// What a line is like
    #[arg(long, value_enum, default_value_t = Format::Jsonl, value_name = "FORMAT")]
    format: Format,
    /// Goes on with what comes, until interrupted
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    call: CallOptions,
}

/// What a line is like.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// AuditEvent of the contract
    Jsonl,
    /// An event of the Open Cybersecurity Schema Framework 1.8
    Ocsf,
}

const LARGEST_PAGE: i32 = 1000;
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// What is committed later than others is read when it comes no later than this.
const TAIL: Duration = Duration::from_secs(60);

impl Export {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        if !self.follow {
            let client = self.call.server.connect(screen).await?;
            return self.list(&client, screen, self.since, &mut Seen::new()).await.map(|()| Exit::Done);
        }
        let interrupted = signals::shutdown().map_err(Error::failed)?;
        let client = self.call.server.connect(screen).await?;
        // A line is printed whole: nothing waits in the middle of one.
        tokio::select! {
            ended = self.follow(&client, screen) => ended,
            () = interrupted.cancelled() => Ok(Exit::Interrupted),
        }
    }

    async fn follow(&self, client: &Client, screen: &Screen) -> Result<Exit, Error> {
        let (mut since, mut seen) = (self.since, Seen::new());
        loop {
            self.list(client, screen, since, &mut seen).await?;
            since = forget(&mut seen).or(since);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Prints what there is now and was not seen.
    async fn list(
        &self,
        client: &Client,
        screen: &Screen,
        since: Option<OffsetDateTime>,
        seen: &mut Seen,
    ) -> Result<(), Error> {
        let send = async |request| client.audit().list_audit_events(request).await;
        let mut request = self.request(since);
        loop {
            let page = client.call(screen, self.call.time_limit(), &request, send).await?;
            for event in &page.events {
                if !self.follow || seen.insert(event.event_id.clone()) {
                    screen.print_json(&match self.format {
                        Format::Jsonl => json::audit_event(event),
                        Format::Ocsf => ocsf::event(event),
                    })?;
                }
            }
            if page.next_page_token.is_empty() {
                return Ok(());
            }
            request.page_token = page.next_page_token;
        }
    }

    fn request(&self, since: Option<OffsetDateTime>) -> ListAuditEventsRequest {
        ListAuditEventsRequest {
            environment_id: self.environment.map(|id| id.to_string()).unwrap_or_default(),
            caller: self.caller.clone().unwrap_or_default(),
            job_id: self.job.map(|id| id.to_string()).unwrap_or_default(),
            actions: self.action.iter().map(|action| (*action).into()).collect(),
            start_time: since.map(args::to_timestamp),
            end_time: self.until.map(args::to_timestamp),
            page_size: LARGEST_PAGE,
            page_token: String::new(),
        }
    }
}

/// Reads `denied`, `batch-opened` and the like.
fn action(text: &str) -> Result<Action, String> {
    let name = format!("ACTION_{}", text.to_ascii_uppercase().replace('-', "_"));
    let known = Action::from_str_name(&name).filter(|action| *action != Action::Unspecified);
    known.ok_or_else(|| {
        "docs/audit-export.md lists the actions: requested, finished, denied and others".to_owned()
    })
}

/// Ids of entries that were printed and may be read again: they sort by their time.
type Seen = BTreeSet<String>;

/// Forgets what will not be read again. Says from when on that is.
fn forget(seen: &mut Seen) -> Option<OffsetDateTime> {
    let newest = uuid::Uuid::try_parse(seen.last()?).ok()?;
    let since =
        crate::audit::millis_of(newest).saturating_sub(u64::try_from(TAIL.as_millis()).unwrap_or_default());
    *seen = seen.split_off(&crate::audit::first_id(since).to_string());
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(since) * 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::first_id;

    #[test]
    fn actions_are_named_as_the_contract_names_them() {
        assert_eq!(action("denied"), Ok(Action::Denied));
        assert_eq!(action("batch-opened"), Ok(Action::BatchOpened));
        assert_eq!(action("TRAIL_READ"), Ok(Action::TrailRead));
        for wrong in ["", "unspecified", "deny"] {
            assert!(action(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_seen_is_kept_for_as_long_as_it_is_read_again() {
        let minute = |minute: u64| first_id(1_767_225_600_000 + minute * 60_000).to_string();
        let mut seen: Seen = (0..=4).map(minute).collect();
        let since = forget(&mut seen);
        assert_eq!(since.map(OffsetDateTime::unix_timestamp), Some(1_767_225_600 + 3 * 60));
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [minute(3), minute(4)]);
        assert_eq!(forget(&mut Seen::new()), None);
    }
}
