//! `job watch`: the states of a job until it is final.

use std::{pin::pin, time::Duration};

use clap::Args;

use crate::{
    cli::{
        args,
        client::TimeLimit,
        error::Error,
        exit::Exit,
        follow::{Followed, follow},
        json, outcome,
        screen::Screen,
        server::ServerOptions,
        table,
        unblock::interrupt,
    },
    job::JobId,
};

/// Shows a job at every change until it is final
#[derive(Debug, Args)]
pub(in crate::cli) struct Watch {
    /// Job to watch
    #[arg(value_name = "ID", value_parser = JobId::parse)]
    id: JobId,
    /// How long to watch; without it until the job is final
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    server: ServerOptions,
}

impl Watch {
    pub(in crate::cli) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let until = self.timeout.map(|timeout| TimeLimit::start(timeout).until);
        let client = self.server.connect().await?;
        let job_id = self.id.to_string();
        let seen = |job: &_| if screen.is_json() { screen.print_json(&json::job(job)) } else { Ok(()) };
        let mut interrupt = pin!(interrupt());
        let followed = tokio::select! {
            followed = follow(&client, screen, &job_id, None, until, seen) => followed?,
            () = &mut interrupt => return Ok(outcome::interrupted(screen, &self.server, &job_id)),
        };
        if let Followed::Final(job) = &followed
            && !screen.is_json()
        {
            outcome::print(screen, job, |job| table::job(screen, job))?;
        }
        Ok(outcome::tell(screen, &self.server, &job_id, &followed, self.timeout))
    }
}
