//! Watches one batch until it is final or stops by itself. A watch that breaks is opened again.

use tokio::time::sleep;
use tonic::{Status, Streaming};

use super::progress::Progress;
use crate::{
    cli::{
        client::Client,
        error::{Error, printed},
        repeat::{MOST_FAILURES, Repeat},
        screen::printable,
    },
    proto::v1::{Batch, WatchBatchRequest, WatchBatchResponse, batch::State},
};

/// Whether nothing more will happen to the batch by itself.
pub(in crate::cli) fn is_final(batch: &Batch) -> bool {
    match State::try_from(batch.state) {
        Ok(State::Done | State::Cancelled) => true,
        Ok(State::Unspecified | State::Uploading | State::Running | State::Paused | State::Cancelling)
        | Err(_) => false,
    }
}

/// Whether it waits for somebody to look. One that has neither a trial nor a limit was paused by a person, who will resume it.
pub(in crate::cli) fn has_stopped(batch: &Batch) -> bool {
    batch.state() == State::Paused && (batch.canary_count > 0 || batch.max_failure_ratio > 0.0)
}

/// Follows the batch that `request` names until it is final or has stopped. `progress` is told of every view, as its `line`th;
/// so is `seen`.
///
/// # Errors
/// What the server refuses, what `seen` returns, and a server that stays away.
pub(in crate::cli) async fn follow(
    client: &Client,
    progress: &Progress<'_>,
    line: usize,
    request: WatchBatchRequest,
    seen: impl Fn(&Batch) -> Result<(), Error>,
) -> Result<Batch, Error> {
    let mut watch = Watch { client, request, open: None, repeat: Repeat::new() };
    let mut last = None;
    loop {
        let status = match watch.message().await {
            Ok(Some(WatchBatchResponse { batch: Some(batch) })) => {
                watch.repeat.succeeded();
                progress.batch(line, &batch);
                if last.as_ref() != Some(&batch) {
                    seen(&batch)?;
                }
                if is_final(&batch) || has_stopped(&batch) {
                    return Ok(batch);
                }
                last = Some(batch);
                continue;
            }
            Ok(Some(WatchBatchResponse { batch: None })) => continue,
            // Servers end long streams politely so that load spreads.
            Ok(None) => {
                watch.open = None;
                sleep(watch.repeat.wait(None)).await;
                continue;
            }
            Err(status) => status,
        };
        watch.open = None;
        let wait = watch.repeat.wait_after(&status).filter(|_| watch.repeat.failures() <= MOST_FAILURES);
        let error = Error::from(status);
        let Some(wait) = wait else { return Err(error) };
        let why = printable(&error.to_string());
        progress.say(&format!("{why}; watching again in {}", printed(wait)));
        sleep(wait).await;
    }
}

struct Watch<'a> {
    client: &'a Client,
    request: WatchBatchRequest,
    open: Option<Streaming<WatchBatchResponse>>,
    repeat: Repeat,
}

impl Watch<'_> {
    async fn message(&mut self) -> Result<Option<WatchBatchResponse>, Status> {
        let stream = match &mut self.open {
            Some(stream) => stream,
            closed @ None => {
                let answer = self.client.batches().watch_batch(self.request.clone()).await?;
                closed.insert(answer.into_inner())
            }
        };
        stream.message().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_the_watch_of_a_batch_that_can_pause_by_itself() {
        let paused = Batch { state: State::Paused.into(), ..Batch::default() };
        assert!(!has_stopped(&paused) && !is_final(&paused));
        assert!(has_stopped(&Batch { canary_count: 10, ..paused.clone() }));
        assert!(has_stopped(&Batch { max_failure_ratio: 0.05, ..paused }));
        assert!(!has_stopped(&Batch { canary_count: 10, ..Batch::default() }));
    }
}
