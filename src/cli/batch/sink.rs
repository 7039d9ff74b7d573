//! Where results go: stdout, or a file that is there only once it is complete; as CSV or JSON.

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::row;
use crate::{
    cli::{error::Error, json},
    proto::v1::TargetResult,
};

pub(in crate::cli) struct Sink {
    form: Form,
    path: PathBuf,
    rows: i64,
}

enum Form {
    Csv(Box<csv::Writer<Out>>),
    Json(BufWriter<Out>),
}

enum Out {
    Stdout(io::Stdout),
    File(NamedTempFile),
}

impl Sink {
    /// `-` is stdout. A file is written beside its place and takes it in [`Sink::finish`].
    ///
    /// # Errors
    /// When it can not be written.
    pub(in crate::cli) fn open(path: &Path, as_json: bool) -> Result<Self, Error> {
        let out = if is_stdout(path) { Out::Stdout(io::stdout()) } else { Out::File(beside(path)?) };
        let path = path.to_owned();
        if as_json {
            return Ok(Self { form: Form::Json(BufWriter::new(out)), path, rows: 0 });
        }
        let mut csv = Box::new(csv::Writer::from_writer(out));
        csv.write_record(row::header()).map_err(|error| unwritten(&path, error.into()))?;
        Ok(Self { form: Form::Csv(csv), path, rows: 0 })
    }

    /// Writes one result of a batch of this environment.
    ///
    /// # Errors
    /// When it can not be written.
    pub(in crate::cli) fn write(&mut self, environment_id: &str, result: &TargetResult) -> Result<(), Error> {
        self.rows += 1;
        let written = match &mut self.form {
            Form::Csv(csv) => csv.write_record(row::cells(environment_id, result)).map_err(io::Error::from),
            Form::Json(json) => writeln!(json, "{}", json::target_result(result)),
        };
        written.map_err(|error| unwritten(&self.path, error))
    }

    /// # Errors
    /// When it can not be written.
    pub(in crate::cli) fn flush(&mut self) -> Result<(), Error> {
        let flushed = match &mut self.form {
            Form::Csv(csv) => csv.flush(),
            Form::Json(json) => json.flush(),
        };
        flushed.map_err(|error| unwritten(&self.path, error))
    }

    /// The file takes its place. How many results it holds.
    ///
    /// # Errors
    /// When it can not be written.
    pub(in crate::cli) fn finish(mut self) -> Result<i64, Error> {
        self.flush()?;
        let out = match self.form {
            Form::Csv(csv) => csv.into_inner().map_err(|error| error.into_error()),
            Form::Json(json) => json.into_inner().map_err(|error| error.into_error()),
        };
        if let Out::File(file) = out.map_err(|error| unwritten(&self.path, error))? {
            file.persist(&self.path).map_err(|error| unwritten(&self.path, error.error))?;
        }
        Ok(self.rows)
    }
}

/// Sees to it that results can be written there, long before there are any.
///
/// # Errors
/// When they can not.
pub(in crate::cli) fn try_out(path: &Path) -> Result<(), Error> {
    if is_stdout(path) { Ok(()) } else { beside(path).map(drop) }
}

pub(in crate::cli) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// A file in the same folder: only there can it be renamed in one step.
fn beside(path: &Path) -> Result<NamedTempFile, Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    NamedTempFile::new_in(folder).map_err(|error| unwritten(path, error))
}

fn unwritten(path: &Path, error: io::Error) -> Error {
    if is_stdout(path) {
        return Error::Output(error);
    }
    Error::Failed(format!("{} can not be written: {error}", path.display()))
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}
