//! The results of a batch, one after another. A stream that breaks is opened again where it was.

use std::collections::VecDeque;

use tokio::time::sleep;
use tonic::{Status, Streaming};

use super::follow::is_final;
use crate::{
    cli::{
        client::Client,
        error::{Error, printed},
        repeat::{MOST_FAILURES, Repeat},
        screen::{Screen, printable},
    },
    proto::v1::{GetBatchRequest, StreamBatchResultsRequest, StreamBatchResultsResponse, TargetResult},
};

pub(in crate::cli) struct Results<'a> {
    client: &'a Client,
    /// Its start is where the next stream begins.
    request: StreamBatchResultsRequest,
    /// How many rows are known to be there.
    rows: i64,
    open: Option<Streaming<StreamBatchResultsResponse>>,
    /// Whether the open stream has given anything.
    gave: bool,
    read: VecDeque<TargetResult>,
    ended: bool,
    repeat: Repeat,
}

impl<'a> Results<'a> {
    /// Those that `request` asks for, of a batch of so many rows.
    pub(in crate::cli) fn of(client: &'a Client, request: StreamBatchResultsRequest, rows: i64) -> Self {
        let (open, read, repeat) = (None, VecDeque::new(), Repeat::new());
        Self { client, request, rows, open, gave: false, read, ended: false, repeat }
    }

    /// The next one, and whether it is there at all; it is still the next one afterwards.
    ///
    /// # Errors
    /// What the server refuses, and a server that stays away.
    pub(in crate::cli) async fn peek(&mut self, screen: &Screen) -> Result<Option<&TargetResult>, Error> {
        while self.read.is_empty() && !self.ended {
            match self.message().await {
                Ok(Some(message)) => {
                    self.repeat.succeeded();
                    self.gave = true;
                    self.request.start_offset = self.request.start_offset.max(message.next_offset);
                    self.read.extend(message.results);
                }
                Ok(None) => self.end().await?,
                Err(status) => self.wait(screen, status).await?,
            }
        }
        Ok(self.read.front())
    }

    /// # Errors
    /// As [`Results::peek`].
    pub(in crate::cli) async fn next(&mut self, screen: &Screen) -> Result<Option<TargetResult>, Error> {
        self.peek(screen).await?;
        Ok(self.read.pop_front())
    }

    async fn message(&mut self) -> Result<Option<StreamBatchResultsResponse>, Status> {
        let stream = match &mut self.open {
            Some(stream) => stream,
            closed @ None => {
                self.gave = false;
                let answer = self.client.batches().stream_batch_results(self.request.clone()).await?;
                closed.insert(answer.into_inner())
            }
        };
        stream.message().await
    }

    /// The server ended the stream: for good, or politely, so that load spreads.
    async fn end(&mut self) -> Result<(), Error> {
        self.open = None;
        if self.gave && self.request.start_offset < self.rows {
            return Ok(());
        }
        self.ended = !self.request.follow || self.batch_is_final().await?;
        if !self.ended {
            sleep(self.repeat.wait(None)).await;
        }
        Ok(())
    }

    async fn batch_is_final(&self) -> Result<bool, Error> {
        let StreamBatchResultsRequest { environment_id, batch_id, .. } = self.request.clone();
        let request = GetBatchRequest { environment_id, batch_id };
        let answer = self.client.batches().get_batch(request).await?.into_inner();
        Ok(is_final(&answer.batch.unwrap_or_default()))
    }

    async fn wait(&mut self, screen: &Screen, status: Status) -> Result<(), Error> {
        self.open = None;
        let wait = self.repeat.wait_after(&status).filter(|_| self.repeat.failures() <= MOST_FAILURES);
        let error = Error::from(status);
        let Some(wait) = wait else { return Err(error) };
        screen.say(&format!("{}; reading on in {}", printable(&error.to_string()), printed(wait)));
        sleep(wait).await;
        Ok(())
    }
}
