//! Watches one job until it is final, the time is up or the server stays away. A watch that breaks is opened again.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tonic::{Status, Streaming};

use super::{
    client::Client,
    error::{Error, printed},
    outcome::is_final,
    progress::Progress,
    repeat::{MOST_FAILURES, Repeat},
    screen::{Screen, printable},
};
use crate::proto::v1::{Job, WatchJobRequest, WatchJobResponse};

/// How a watch ended.
pub(super) enum Followed {
    Final(Box<Job>),
    /// The job as last seen; nothing when it never was.
    TimeUp(Option<Box<Job>>),
}

const REDRAW: Duration = Duration::from_millis(100);

/// Follows the job from `first`, where that is known already. `seen` is told of every change.
///
/// # Errors
/// What the server refuses, what `seen` returns, and a server that stays away.
pub(super) async fn follow(
    client: &Client,
    screen: &Screen,
    job_id: &str,
    first: Option<Job>,
    until: Option<Instant>,
    mut seen: impl FnMut(&Job) -> Result<(), Error>,
) -> Result<Followed, Error> {
    let mut progress = Progress::start(screen);
    let mut last: Option<Box<Job>> = None;
    let watch = Watch::of(client, job_id);
    let views = stream::unfold(watch, async |mut watch| Some((watch.next().await, watch)));
    let mut views = std::pin::pin!(stream::iter(first).map(|job| Ok(View::Job(Box::new(job)))).chain(views));
    let mut redraw = interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let view = tokio::select! {
            view = views.next() => view.expect("the watch never ends by itself")?,
            _ = redraw.tick(), if screen.live() => {
                progress.tick();
                continue;
            }
            () = passed(until) => return Ok(Followed::TimeUp(last)),
        };
        match view {
            View::Broken { why, wait } => {
                progress.end_line();
                screen.say(&format!("{}; watching again in {}", printable(&why), printed(wait)));
            }
            // Another replica may lag behind the one that spoke last.
            View::Job(job) if last.as_ref().is_some_and(|last| job.revision <= last.revision) => {}
            View::Job(job) => {
                progress.change(&job);
                seen(&job)?;
                if is_final(&job) {
                    return Ok(Followed::Final(job));
                }
                last = Some(job);
            }
        }
    }
}

enum View {
    Job(Box<Job>),
    Broken { why: String, wait: Duration },
}

/// A watch that opens itself again.
struct Watch<'a> {
    client: &'a Client,
    job_id: &'a str,
    open: Option<Streaming<WatchJobResponse>>,
    wait: Option<Duration>,
    repeat: Repeat,
}

impl<'a> Watch<'a> {
    fn of(client: &'a Client, job_id: &'a str) -> Self {
        Self { client, job_id, open: None, wait: None, repeat: Repeat::new() }
    }

    async fn next(&mut self) -> Result<View, Error> {
        if let Some(wait) = self.wait.take() {
            sleep(wait).await;
        }
        loop {
            match self.message().await {
                Ok(Some(WatchJobResponse { job: Some(job) })) => {
                    self.repeat.succeeded();
                    return Ok(View::Job(Box::new(job)));
                }
                Ok(Some(WatchJobResponse { job: None })) => {}
                // Servers end long streams politely so that load spreads.
                Ok(None) => {
                    self.open = None;
                    sleep(self.repeat.wait(None)).await;
                }
                Err(status) => return self.broken(status),
            }
        }
    }

    async fn message(&mut self) -> Result<Option<WatchJobResponse>, Status> {
        let stream = match &mut self.open {
            Some(stream) => stream,
            closed @ None => {
                let request = WatchJobRequest { job_id: self.job_id.to_owned() };
                closed.insert(self.client.jobs().watch_job(request).await?.into_inner())
            }
        };
        stream.message().await
    }

    fn broken(&mut self, status: Status) -> Result<View, Error> {
        self.open = None;
        match self.repeat.wait_after(&status) {
            Some(wait) if self.repeat.failures() <= MOST_FAILURES => {
                self.wait = Some(wait);
                Ok(View::Broken { why: Error::from(status).to_string(), wait })
            }
            _ => Err(status.into()),
        }
    }
}

async fn passed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
