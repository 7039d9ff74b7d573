//! Uploads one batch: a few messages ahead of what the server has acknowledged, from where it was, as often as it takes.

use std::collections::VecDeque;

use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{feed::Feed, input::Input, plan::Planned};
use crate::{
    cli::{
        batch::progress::Progress,
        client::Client,
        error::{Error, printed},
        repeat::{MOST_FAILURES, Repeat},
        screen::printable,
    },
    proto::v1::{
        Batch, BatchSeal, BatchTargets, BulkUnblockRequest, BulkUnblockResponse, bulk_unblock_request::Kind,
    },
};

/// Messages on their way at most: they are all that is kept in memory.
const WINDOW: usize = 8;
/// Those, the header and the seal: nothing ever waits to be written.
const ROOM: usize = WINDOW + 2;

pub(super) struct Upload<'a> {
    client: &'a Client,
    planned: &'a Planned,
    feed: Feed<'a>,
    /// Sent, or to be sent again, and not acknowledged.
    unacknowledged: VecDeque<BatchTargets>,
    /// Whether every row was in a message.
    all_read: bool,
    repeat: Repeat,
}

impl<'a> Upload<'a> {
    pub(super) fn new(client: &'a Client, input: &'a Input, planned: &'a Planned) -> Self {
        let feed = Feed::new(input, &planned.part);
        let (unacknowledged, repeat) = (VecDeque::new(), Repeat::new());
        Self { client, planned, feed, unacknowledged, all_read: false, repeat }
    }

    /// Uploads what the server does not have, and seals. `reached` is told how many rows are durable; `line` is the upload's in
    /// `progress`.
    ///
    /// # Errors
    /// What the server refuses, a server that stays away, a file that changed.
    pub(super) async fn run(
        mut self,
        progress: &Progress<'_>,
        line: usize,
        mut reached: impl FnMut(i64) -> Result<(), Error>,
    ) -> Result<Batch, Error> {
        loop {
            let status = match self.stream(&mut reached).await {
                Ok(batch) => return Ok(batch),
                Err(Broken::For(error)) => return Err(error),
                Err(Broken::Off(status)) => status,
            };
            let wait = self.repeat.wait_after(&status);
            // A full queue is no failure: it gets empty as fast as PingOne allows.
            let is_full = status.code() == Code::ResourceExhausted;
            let give_up = self.repeat.failures() > MOST_FAILURES && !is_full;
            let error = Error::from(status);
            let Some(wait) = wait.filter(|_| !give_up) else { return Err(error) };
            let sentence = format!("{}; uploading on in {}", printable(&error.to_string()), printed(wait));
            // That may take hours: one line, not thousands.
            if is_full {
                progress.waits(line, &sentence)
            } else {
                progress.say(&sentence)
            }
            sleep(wait).await;
        }
    }

    /// One stream, to the answer to the seal.
    async fn stream(&mut self, reached: &mut impl FnMut(i64) -> Result<(), Error>) -> Result<Batch, Broken> {
        let (send, messages) = mpsc::channel(ROOM);
        let put = |kind| {
            // Where it fails the stream has ended, and reading says why.
            let _ = send.try_send(BulkUnblockRequest { kind: Some(kind) });
        };
        put(Kind::Header(self.planned.header.clone()));
        let answer = self.client.devices().bulk_unblock(ReceiverStream::new(messages)).await?;
        let mut answers = answer.into_inner();
        let first = read(&mut answers).await?;
        if let Some(batch) = first.batch.filter(|batch| batch.sealed) {
            return Ok(self.of_this_file(batch)?);
        }
        self.go_on_at(first.next_offset).await?;
        reached(first.next_offset)?;

        let mut sent = 0;
        let mut sealed = false;
        loop {
            while sent < WINDOW && !sealed {
                match self.message(sent).await? {
                    Some(message) => {
                        put(Kind::Targets(message));
                        sent += 1;
                    }
                    None => {
                        put(Kind::Seal(BatchSeal { target_count: self.planned.part.rows }));
                        sealed = true;
                    }
                }
            }
            let answer = read(&mut answers).await?;
            if let Some(batch) = answer.batch.filter(|_| sealed) {
                return Ok(batch);
            }
            let durable = self.forget(answer.next_offset);
            if durable > 0 {
                self.repeat.succeeded();
                reached(answer.next_offset)?;
            }
            sent = sent.saturating_sub(durable);
        }
    }

    /// The message after `sent` others that are not acknowledged; nothing after the last.
    async fn message(&mut self, sent: usize) -> Result<Option<BatchTargets>, Error> {
        if sent == self.unacknowledged.len() && !self.all_read {
            match self.feed.message().await? {
                Some(message) => self.unacknowledged.push_back(message),
                None => self.all_read = true,
            }
        }
        Ok(self.unacknowledged.get(sent).cloned())
    }

    /// Everything below `offset` is durable. How many messages that were.
    fn forget(&mut self, offset: i64) -> usize {
        let before = self.unacknowledged.len();
        while self.unacknowledged.front().is_some_and(|message| end(message) <= offset) {
            self.unacknowledged.pop_front();
        }
        before - self.unacknowledged.len()
    }

    /// A new stream begins at `offset`: in the middle of a message, or beyond all that this side has read.
    async fn go_on_at(&mut self, offset: i64) -> Result<(), Error> {
        if offset > self.planned.part.rows {
            return Err(self.other_file(offset));
        }
        self.forget(offset);
        match self.unacknowledged.front_mut() {
            Some(message) if message.offset < offset => {
                let durable = usize::try_from(offset - message.offset).expect("less than a message holds");
                message.targets.drain(..durable);
                message.offset = offset;
                Ok(())
            }
            Some(_) => Ok(()),
            None => self.feed.skip_to(offset).await,
        }
    }

    /// A sealed batch needs nothing more, if it is of this file.
    fn of_this_file(&self, batch: Batch) -> Result<Batch, Error> {
        if batch.target_count == self.planned.part.rows {
            Ok(batch)
        } else {
            Err(self.other_file(batch.target_count))
        }
    }

    fn other_file(&self, rows: i64) -> Error {
        Error::Usage(format!(
            "the batch {} was made from another file: it has {rows} rows, this one {}; give another --batch-id",
            self.planned.header.batch_id, self.planned.part.rows
        ))
    }
}

/// Why a stream ended early.
enum Broken {
    /// Another one may do better.
    Off(Status),
    For(Error),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Off(status)
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::For(error)
    }
}

async fn read(answers: &mut Streaming<BulkUnblockResponse>) -> Result<BulkUnblockResponse, Broken> {
    // Servers end long streams politely so that load spreads.
    answers.message().await?.ok_or_else(|| Broken::Off(Status::unavailable("the server ended the upload")))
}

fn end(message: &BatchTargets) -> i64 {
    message.offset + i64::try_from(message.targets.len()).expect("a thousand at most")
}
