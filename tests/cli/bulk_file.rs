//! Files for `bulk`, and runs of it.

use std::{io, path::PathBuf, process::Stdio};

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{DEVICE, ENVIRONMENT, Ended, USER, binary};

pub(crate) const OTHER: &str = "bbfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
pub(crate) const HEADER: &str = "environment_id,user_id,device_id,reference";

/// A folder with a file in it.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    /// With `users.csv`, of these lines and the header.
    pub(crate) fn with(rows: impl IntoIterator<Item = String>) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let lines: Vec<String> = std::iter::once(HEADER.to_owned()).chain(rows).collect();
        std::fs::write(folder.path().join("users.csv"), lines.join("\n"))?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> io::Result<String> {
        std::fs::read_to_string(self.path(name))
    }

    /// What stands in the folder.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(self.folder.path())?;
        let mut names: Vec<String> = names
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    }

    /// `bulk users.csv --yes`, in the folder.
    pub(crate) async fn bulk(&self, url: &str, more: &[&str]) -> io::Result<Ended> {
        self.run(url, &[&["bulk", "users.csv", "--yes"], more].concat(), b"").await
    }

    /// Any command, in the folder.
    pub(crate) async fn run(&self, url: &str, arguments: &[&str], stdin: &[u8]) -> io::Result<Ended> {
        let mut command = binary(arguments);
        command.env("UNBLOCK_SERVER", url).current_dir(self.folder.path()).stdin(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            // Whoever does not read it has closed it.
            let _ = input.write_all(stdin).await;
        }
        let output = child.wait_with_output().await?;
        Ok(Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// A row of [`ENVIRONMENT`].
pub(crate) fn row(reference: &str) -> String {
    format!("{ENVIRONMENT},{USER},{DEVICE},{reference}")
}

/// So many rows, told apart by their reference.
pub(crate) fn rows(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|at| row(&at.to_string()))
}
