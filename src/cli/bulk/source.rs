//! The file as it is read: again and again, from any place. What can be read only once is kept in a temporary file.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::lines::{Lines, Place};
use crate::cli::error::Error;

const BUFFER: usize = 256 * 1024;
/// What files made from it are called where it has no name of its own.
const NAMELESS: &str = "bulk.csv";

#[derive(Debug)]
pub(super) struct Source {
    file: Arc<File>,
    path: Option<PathBuf>,
}

impl Source {
    /// Opens the file, or reads stdin to its end where it is called `-`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a file that can not be read.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let unread = |error: io::Error| Error::Usage(format!("{}: {error}", path.display()));
        if path == Path::new("-") {
            return spooled(io::stdin().lock()).map_err(unread);
        }
        let file = File::open(path).map_err(unread)?;
        if file.metadata().map_err(unread)?.is_file() {
            return Ok(Self { file: Arc::new(file), path: Some(path.to_owned()) });
        }
        // A pipe, such as `<(…)`.
        spooled(file).map_err(unread)
    }

    /// A file without a name.
    pub(super) fn of(file: File) -> Self {
        Self { file: Arc::new(file), path: None }
    }

    /// The lines from `place` on.
    pub(super) fn lines(&self, place: Place) -> Lines<BufReader<At>> {
        let input = At { file: Arc::clone(&self.file), position: place.position };
        Lines::at(place, BufReader::with_capacity(BUFFER, input))
    }

    /// Its first bytes, at most three.
    ///
    /// # Errors
    /// What reading gives.
    pub(super) fn beginning(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        At { file: Arc::clone(&self.file), position: 0 }.take(3).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// `FILE.ending`, beside `FILE.csv`; for what has no name, `bulk.ending` here.
    pub(super) fn beside(&self, ending: &str) -> PathBuf {
        self.path.as_deref().unwrap_or(Path::new(NAMELESS)).with_extension(ending)
    }

    /// The file's name without its extension; `stdin` where it has none.
    pub(super) fn stem(&self) -> String {
        let stem = self.path.as_deref().and_then(Path::file_stem);
        stem.map_or_else(|| "stdin".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }

    /// The file's name, as it was given.
    pub(super) fn name(&self) -> String {
        self.path.as_deref().map_or_else(|| "stdin".to_owned(), |path| path.to_string_lossy().into_owned())
    }

    pub(super) fn has_name(&self) -> bool {
        self.path.is_some()
    }
}

fn spooled(mut from: impl Read) -> io::Result<Source> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut from, &mut file)?;
    Ok(Source::of(file))
}

/// A reader with a position of its own: several read one file.
#[derive(Debug)]
pub(super) struct At {
    file: Arc<File>,
    position: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += u64::try_from(read).expect("no more than a file holds");
        Ok(read)
    }
}
