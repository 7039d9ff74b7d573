//! The rows of one batch, in messages as an upload sends them.

use sha2::{Digest as _, Sha256};
use tokio::task::yield_now;

use super::{
    input::{Input, Part, Rows},
    row::Row,
};
use crate::{cli::error::Error, proto::v1::BatchTargets};

/// As many as a message may hold.
const MOST_TARGETS: usize = 1000;
/// After so many rows somebody else has a turn: to draw, to hear Ctrl-C.
const TURN: u32 = 1000;

pub(super) struct Feed<'a> {
    part: &'a Part,
    rows: Rows<'a>,
    digest: Sha256,
    next: i64,
    turn: u32,
}

impl<'a> Feed<'a> {
    pub(super) fn new(input: &'a Input, part: &'a Part) -> Self {
        Self { part, rows: input.rows_of(part), digest: Sha256::new(), next: 0, turn: 0 }
    }

    /// Passes over rows that the server has already.
    ///
    /// # Errors
    /// When the file can not be read any more.
    pub(super) async fn skip_to(&mut self, offset: i64) -> Result<(), Error> {
        while self.next < offset && self.row().await?.is_some() {}
        Ok(())
    }

    /// The next message; nothing when all rows were in one.
    ///
    /// # Errors
    /// When the file can not be read any more, or is not what it was.
    pub(super) async fn message(&mut self) -> Result<Option<BatchTargets>, Error> {
        let mut message = BatchTargets { offset: self.next, targets: Vec::new() };
        while message.targets.len() < MOST_TARGETS
            && let Some(row) = self.row().await?
        {
            message.targets.push(row.into_target());
        }
        if !message.targets.is_empty() {
            return Ok(Some(message));
        }
        let digest: [u8; 32] = self.digest.clone().finalize().into();
        if self.next != self.part.rows || digest != self.part.digest {
            return Err(Error::Failed(
                "the file changed while it was read; the batch is not complete".to_owned(),
            ));
        }
        Ok(None)
    }

    /// The next row of the batch.
    async fn row(&mut self) -> Result<Option<Row>, Error> {
        while self.next < self.part.rows
            && let Some((_, row)) = self.rows.next()?
        {
            self.turn = (self.turn + 1) % TURN;
            if self.turn == 0 {
                yield_now().await;
            }
            if let Ok(row) = row
                && row.environment == self.part.environment
            {
                row.digest_into(&mut self.digest);
                self.next += 1;
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
}
