//! What is wrong with the lines of a file: the first are told, all are written down.

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
};

use crate::cli::{
    error::Error,
    screen::{Hue, Screen, printable},
};

/// So many are told on stderr.
const TOLD: u64 = 100;

/// What is wrong with a line, or a cell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) line: u64,
    pub(super) column: Option<&'static str>,
    pub(super) what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "line {}, {column}: {}", self.line, self.what),
            None => write!(f, "line {} {}", self.line, self.what),
        }
    }
}

/// Those found so far.
pub(super) struct Mistakes<'a> {
    screen: &'a Screen,
    path: PathBuf,
    file: Option<csv::Writer<File>>,
    found: u64,
    lines: u64,
}

impl<'a> Mistakes<'a> {
    /// All will be written to `path`, once there is one.
    pub(super) const fn new(screen: &'a Screen, path: PathBuf) -> Self {
        Self { screen, path, file: None, found: 0, lines: 0 }
    }

    /// Lines that have one.
    pub(super) const fn lines(&self) -> u64 {
        self.lines
    }

    /// Tells and writes down those of one line.
    ///
    /// # Errors
    /// When they can not be written.
    pub(super) fn add(&mut self, of_one_line: &[Mistake]) -> Result<(), Error> {
        self.lines += 1;
        for mistake in of_one_line {
            self.found += 1;
            if self.found <= TOLD {
                self.screen.say(&printable(&mistake.to_string()));
            }
            self.write([&mistake.line.to_string(), mistake.column.unwrap_or_default(), &mistake.what])?;
        }
        Ok(())
    }

    /// Says how many there are and where they are written down.
    ///
    /// # Errors
    /// When they can not be written.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.flush().map_err(|error| unwritten(&self.path, error))?;
        if self.found > TOLD {
            self.screen.say(&format!("… and {} more", self.found - TOLD));
        }
        self.screen.headline(Hue::Attention, "note:", &format!("the file has {}", bad_lines(self.lines)));
        self.screen.detail("all of them", &self.path.to_string_lossy());
        Ok(())
    }

    fn write(&mut self, record: [&str; 3]) -> Result<(), Error> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = File::create(&self.path).map_err(|error| unwritten(&self.path, error))?;
                let file = none.insert(csv::Writer::from_writer(file));
                file.write_record(["line", "column", "mistake"])
                    .map_err(|error| unwritten(&self.path, error))?;
                file
            }
        };
        file.write_record(record).map_err(|error| unwritten(&self.path, error))
    }
}

/// `1 bad line`, `2 bad lines`.
pub(super) fn bad_lines(count: u64) -> String {
    format!("{count} bad line{}", if count == 1 { "" } else { "s" })
}

fn unwritten(path: &Path, error: impl fmt::Display) -> Error {
    Error::Failed(format!("{} can not be written: {error}", path.display()))
}
