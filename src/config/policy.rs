//! The file that says who may do what: read once here, so that its mistakes are told with all others.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{
    mistake::Origin,
    reader::{Reader, Wrong},
};
use crate::auth::{Mistakes, Policy};

/// Beyond this a policy is refused: no more has to be read to know that.
const READ_AT_MOST: u64 = 1024 * 1024 + 1;

/// Why there is no policy in a file.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// There is no such file, or it is not for this account.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// What it says cannot be used.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// The policy in the file at `path`.
///
/// # Errors
/// [`PolicyError`]: the file, or every mistake in it.
pub fn policy_at(path: &Path) -> Result<Policy, PolicyError> {
    let mut text = Vec::new();
    File::open(path)?.take(READ_AT_MOST).read_to_end(&mut text)?;
    Ok(Policy::parse(&text)?)
}

/// The setting `policy_file`; nothing where there is a mistake, in the file too.
pub(super) fn file(reader: &mut Reader<'_>) -> Option<Option<PathBuf>> {
    let Some(given) = reader.given("policy_file") else { return Some(None) };
    let path = match given.origin {
        Origin::File { .. } => reader.file.beside(&given.text),
        Origin::Flag(_) | Origin::Variable(_) => PathBuf::from(&given.text),
    };
    match policy_at(&path) {
        Ok(_) => Some(Some(path)),
        Err(PolicyError::Unreadable(error)) => {
            let what = format!("{} cannot be read: {error}", path.display());
            reader.mistake(given.origin, Wrong(what, "name a readable file".to_owned()));
            None
        }
        Err(PolicyError::Mistakes(Mistakes(mistakes))) => {
            for mistake in mistakes {
                let key = mistake.line.map_or_else(|| "policy".to_owned(), |line| format!("line {line}"));
                let origin = Origin::File { path: path.clone(), key };
                reader.mistake(origin, Wrong(mistake.what, mistake.remedy));
            }
            None
        }
    }
}
