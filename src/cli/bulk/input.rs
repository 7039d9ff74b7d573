//! The file, checked from its first line to its last before anything is sent, and read again row by row. At no time is more
//! than one row in memory.

use std::io::{self, BufReader};

use sha2::{Digest as _, Sha256};

use super::{
    cells::Cells,
    columns::Columns,
    lines::{Lines, Place},
    mistakes::{Mistake, Mistakes},
    row::Row,
    source::{At, Source},
};
use crate::{cli::error::Error, device::EnvironmentId};

/// What is kept of each is small, but a column of wrong ids must not fill the memory.
const MOST_ENVIRONMENTS: usize = 1000;

/// A file whose rows are known to be good, or to be left out.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) source: Source,
    pub(super) parts: Vec<Part>,
    columns: Columns,
    environment: Option<EnvironmentId>,
    /// Where the rows begin.
    start: Place,
}

/// The rows of one environment: they become one batch.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) environment: EnvironmentId,
    pub(super) rows: i64,
    pub(super) by_user: i64,
    /// Of all its rows, in order.
    pub(super) digest: [u8; 32],
    /// Where the first one stands.
    first: Place,
}

impl Input {
    /// Reads the whole file. `environment`: that of rows that name none.
    ///
    /// # Errors
    /// [`Error::Usage`] for a file that is not of this kind at all. Single lines go to `mistakes`.
    pub(super) fn check(
        source: Source,
        environment: Option<EnvironmentId>,
        mistakes: &mut Mistakes<'_>,
    ) -> Result<Self, Error> {
        let name = source.name();
        let unusable = |what: &str| Error::Usage(format!("{name}: {what}"));
        let beginning = source.beginning().map_err(|error| unusable(&error.to_string()))?;
        let mut start = Place::default();
        match beginning[..] {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(unusable(
                    "is UTF-16: save it as \"CSV UTF-8\", or convert it with iconv -f UTF-16 -t UTF-8",
                ));
            }
            [0xef, 0xbb, 0xbf] => start.position = 3,
            _ => {}
        }
        let mut lines = source.lines(start);
        let mut cells = Cells::new();
        let mut line = Vec::new();
        let length = lines.read(&mut line).map_err(|error| unusable(&error.to_string()))?;
        let length = length.ok_or_else(|| unusable("is empty"))?;
        let header = cells.split(&mut line, length).map(|()| Columns::read(&cells, environment.is_some()));
        let columns = match header {
            Ok(Ok(columns)) => columns,
            Ok(Err(what)) => return Err(unusable(&format!("line 1: {what}"))),
            Err(what) => return Err(unusable(&format!("line 1 {what}"))),
        };
        let start = lines.place();
        let mut input = Self { source, parts: Vec::new(), columns, environment, start };
        let mut digests = Vec::new();
        let mut rows = input.rows();
        let mut parts: Vec<Part> = Vec::new();
        while let Some((place, row)) = rows.next()? {
            match row {
                Ok(row) => add(&mut parts, &mut digests, place, &row).map_err(|what| unusable(&what))?,
                Err(of_this_line) => mistakes.add(&of_this_line)?,
            }
        }
        mistakes.finish()?;
        drop(rows);
        if parts.is_empty() {
            let rest = if mistakes.lines() == 0 { "has a header but no rows" } else { "has no good row" };
            return Err(unusable(rest));
        }
        for (part, digest) in parts.iter_mut().zip(digests) {
            part.digest = digest.finalize().into();
        }
        input.parts = parts;
        Ok(input)
    }

    /// All rows, in order.
    pub(super) fn rows(&self) -> Rows<'_> {
        self.rows_from(self.start)
    }

    /// Rows from the first one of `part` on.
    pub(super) fn rows_of(&self, part: &Part) -> Rows<'_> {
        self.rows_from(part.first)
    }

    pub(super) fn row_count(&self) -> i64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    fn rows_from(&self, place: Place) -> Rows<'_> {
        Rows { input: self, lines: self.source.lines(place), cells: Cells::new(), line: Vec::new() }
    }
}

/// Counts `row` to its environment.
fn add(parts: &mut Vec<Part>, digests: &mut Vec<Sha256>, place: Place, row: &Row) -> Result<(), String> {
    // The environments of neighbours are mostly the same, and there are few.
    let at = match parts.iter().rposition(|part| part.environment == row.environment) {
        Some(at) => at,
        None if parts.len() == MOST_ENVIRONMENTS => {
            return Err(format!("has rows of more than {MOST_ENVIRONMENTS} environments: split it"));
        }
        None => {
            let environment = row.environment;
            parts.push(Part { environment, rows: 0, by_user: 0, digest: [0; 32], first: place });
            digests.push(Sha256::new());
            parts.len() - 1
        }
    };
    parts[at].rows += 1;
    parts[at].by_user += i64::from(row.device.is_none());
    row.digest_into(&mut digests[at]);
    Ok(())
}

/// Where a row stands, and the row or what is wrong with it.
pub(super) type Read = (Place, Result<Row, Vec<Mistake>>);

/// Rows as they are read.
pub(super) struct Rows<'a> {
    input: &'a Input,
    lines: Lines<BufReader<At>>,
    cells: Cells,
    line: Vec<u8>,
}

impl Rows<'_> {
    /// The next row and where it stands, or what is wrong with it; nothing at the end. Lines of nothing are passed over.
    ///
    /// # Errors
    /// [`Error::Failed`] when the file can not be read any more.
    pub(super) fn next(&mut self) -> Result<Option<Read>, Error> {
        let unread = |error: io::Error| Error::Failed(format!("{}: {error}", self.input.source.name()));
        loop {
            let place = self.lines.place();
            let Some(length) = self.lines.read(&mut self.line).map_err(unread)? else { return Ok(None) };
            let line = place.line + 1;
            if let Err(what) = self.cells.split(&mut self.line, length) {
                return Ok(Some((place, Err(vec![Mistake { line, column: None, what }]))));
            }
            if !self.cells.is_blank() {
                let row = Row::read(&self.input.columns, &self.cells, self.input.environment, line);
                return Ok(Some((place, row)));
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
