//! A value made of files, made anew when they change. What cannot be used changes nothing: the last good value stays.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    redact::Redacted,
    telemetry::{metrics, metrics::Reload},
};

/// How often the files are looked at. They are read, not watched: Kubernetes replaces a mounted file by a symbolic link, and
/// network file systems tell nobody.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A file beyond this is none of ours.
const FILE_AT_MOST: u64 = 4 * 1024 * 1024;

/// Why a value could not be made of its files.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct ReloadError {
    /// What the value is.
    pub what: &'static str,
    /// What is wrong with its files.
    pub why: Redacted,
}

/// The value as it is now. Cheap to clone.
#[derive(Debug)]
pub struct Current<T>(watch::Receiver<Arc<T>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Current<T> {
    /// A value that never changes.
    #[must_use]
    pub fn fixed(value: T) -> Self {
        Self(watch::channel(Arc::new(value)).1)
    }

    /// Waits until there is another value; false where there never will be.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// The value as it is now.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.borrow())
    }
}

type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, Redacted> + Send + Sync>;

/// Looks at the files of one value.
pub struct Reloader<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    make: Make<T>,
    seen: Vec<Vec<u8>>,
    value: watch::Sender<Arc<T>>,
}

impl<T> fmt::Debug for Reloader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader")
            .field("what", &self.what)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Reloader<T> {
    /// The value that `make` makes of what is in `files`, given in their order, and who keeps it up to date. `what` names it in
    /// logs, metrics and errors.
    ///
    /// # Errors
    /// [`ReloadError`] when there is no usable value to begin with.
    pub fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, Redacted> + Send + Sync + 'static,
    ) -> Result<(Current<T>, Self), ReloadError> {
        let made = read_all(&files).and_then(|seen| Ok((make(&seen)?, seen)));
        let (first, seen) = made.map_err(|why| ReloadError { what, why })?;
        let (value, current) = watch::channel(Arc::new(first));
        Ok((Current(current), Self { what, files, make: Box::new(make), seen, value }))
    }

    /// Looks at the files every [`LOOK_EVERY`] until `stopped`.
    pub async fn run(mut self, stopped: CancellationToken)
    where
        T: Send + Sync + 'static,
    {
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // Files may lie on a disk that does not answer.
            self = match tokio::task::spawn_blocking(move || {
                self.look();
                self
            })
            .await
            {
                Ok(back) => back,
                Err(_) => return,
            };
        }
    }

    /// Looks at the files once; says whether there is a new value.
    pub fn look(&mut self) -> bool {
        let made = match read_all(&self.files) {
            Ok(now) if now == self.seen => return false,
            Ok(now) => {
                let made = (self.make)(&now);
                // Not asked about again until it changes again.
                self.seen = now;
                made
            }
            Err(why) => Err(why),
        };
        match made {
            Ok(value) => {
                metrics().security.reloaded(self.what, Reload::Taken);
                tracing::info!(what = self.what, "read anew");
                self.value.send_replace(Arc::new(value));
                true
            }
            Err(why) => {
                metrics().security.reloaded(self.what, Reload::Refused);
                tracing::error!(what = self.what, %why, "changed, but cannot be used: the last good one stays");
                false
            }
        }
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Vec<u8>>, Redacted> {
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<Vec<u8>, Redacted> {
    let contents = std::fs::metadata(file).and_then(|about| match about.len() {
        0..=FILE_AT_MOST => std::fs::read(file),
        _ => Err(io::Error::other("it is larger than 4 MiB")),
    });
    contents.map_err(|error| Redacted::of(&format!("{} cannot be read: {error}", file.display()), 300))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn number(files: &[Vec<u8>]) -> Result<u32, Redacted> {
        let text: Vec<_> = files.iter().map(|file| String::from_utf8_lossy(file)).collect();
        text.concat().trim().parse().map_err(|_| Redacted::of("is no number", 20))
    }

    #[test]
    fn a_changed_file_is_taken_and_one_that_cannot_be_used_is_not() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("number");
        std::fs::write(&file, "1")?;
        let (current, mut reloader) = Reloader::new("number", vec![file.clone()], number)?;
        assert_eq!(*current.get(), 1);
        assert!(!reloader.look(), "nothing changed");

        std::fs::write(&file, "2")?;
        assert!(reloader.look());
        assert_eq!(*current.get(), 2);

        std::fs::write(&file, "two")?;
        assert!(!reloader.look());
        std::fs::remove_file(&file)?;
        assert!(!reloader.look());
        assert_eq!(*current.get(), 2, "the last good one stays");

        std::fs::write(&file, "3")?;
        assert!(reloader.look());
        assert_eq!(*current.get(), 3);
        Ok(())
    }

    #[test]
    fn files_are_read_together() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let files = [folder.path().join("a"), folder.path().join("b")];
        std::fs::write(&files[0], "1")?;
        std::fs::write(&files[1], "2")?;
        let (current, mut reloader) = Reloader::new("number", files.to_vec(), number)?;
        std::fs::write(&files[0], "x")?;
        assert!(!reloader.look(), "half of a change is none");
        std::fs::write(&files[1], "1")?;
        std::fs::write(&files[0], "4")?;
        assert!(reloader.look());
        assert_eq!(*current.get(), 41);
        Ok(())
    }

    #[test]
    fn there_is_a_value_to_begin_with_or_an_error() {
        let missing = Reloader::new("number", vec!["/nowhere/number".into()], number).err();
        assert!(missing.is_some_and(|error| error.to_string().contains("cannot be read")));
    }
}
