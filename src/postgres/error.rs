//! Why there is no cluster, and the way out.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

/// Why a cluster did not start or stop. Each message says what is in the way, where, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// PostgreSQL's programs are not on this machine, or not where the caller said.
    #[error("{}", ways_out(.looked))]
    NotFound {
        /// The folders that were looked at.
        looked: Vec<PathBuf>,
    },
    /// A program is there and does not run.
    #[error("{} does not run as {user}: {source}", .program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The user it was run as.
        user: String,
        /// What the system says.
        source: io::Error,
    },
    /// The programs found are of other versions than needed.
    #[error("{}", versions(*.needed, .found))]
    Version {
        /// The major version the folder's cluster was made by; nothing where any from 14 on would do.
        needed: Option<u32>,
        /// The major versions found, with their folders.
        found: Vec<(u32, PathBuf)>,
    },
    /// Run by root on a system with neither a user `postgres` nor `nobody`.
    #[error("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")]
    NoAccount,
    /// The server's user reaches neither the folder nor the one in its stead.
    #[error("PostgreSQL runs as {user} here, who can not use {}: choose a folder that {user} owns", .folder.display())]
    Unreachable {
        /// The folder.
        folder: PathBuf,
        /// The user.
        user: String,
    },
    /// Another process runs the cluster of this folder.
    #[error("{} runs the cluster in {} already: end it, or choose another folder", owner(*.pid), .folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The process that holds it, where it said so.
        pid: Option<u32>,
    },
    /// The cluster is there, its password is not.
    #[error("{} is gone, so the cluster beside it can not be used: remove the folder to begin anew", .file.display())]
    PasswordLost {
        /// The file that held it.
        file: PathBuf,
    },
    /// `initdb` failed.
    #[error("initdb could not make a cluster in {}:\n{output}", .folder.display())]
    Initialise {
        /// The folder.
        folder: PathBuf,
        /// What it said.
        output: String,
    },
    /// The server ended instead of answering, or took too long.
    #[error("PostgreSQL did not start in {}; its last words:\n{log}", .folder.display())]
    Start {
        /// The folder.
        folder: PathBuf,
        /// The end of its log.
        log: String,
    },
    /// The server, this one or an earlier one of the folder, does not end.
    #[error("PostgreSQL (process {pid}) does not end")]
    Stuck {
        /// Its process.
        pid: u32,
    },
    /// The system refused something.
    #[error("could not {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl PostgresError {
    pub(super) fn io(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { doing, path: path.as_ref().to_owned(), source }
    }
}

fn ways_out(looked: &[PathBuf]) -> String {
    let mut text = "PostgreSQL's programs (initdb and postgres) were not found. Any one of these helps:
  install them            apt-get install postgresql          (Debian, Ubuntu)
                          dnf install postgresql-server       (Fedora, Red Hat)
                          apk add postgresql                  (Alpine)
                          brew install postgresql             (macOS)
  say where they are      PG_BIN_DIR=/path/to/postgresql/bin
  use a server you have   UNBLOCK_DATABASE_URL=postgres://user:password@host/database
  use containers          docker compose up"
        .to_owned();
    if let [first, rest @ ..] = looked {
        let _ = write!(text, "\nLooked in {}", first.display());
        rest.iter().for_each(|folder| {
            let _ = write!(text, ", {}", folder.display());
        });
    }
    text
}

fn versions(needed: Option<u32>, found: &[(u32, PathBuf)]) -> String {
    let found: Vec<_> =
        found.iter().map(|(major, folder)| format!("{major} ({})", folder.display())).collect();
    let found = found.join(", ");
    match needed {
        Some(needed) => format!(
            "the cluster was made by PostgreSQL {needed} and the programs found are of version {found}: \
             install PostgreSQL {needed}, or remove the folder to begin anew without its data"
        ),
        None => format!("PostgreSQL 14 or newer is needed, the programs found are of version {found}"),
    }
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_names_every_way_out() {
        let message = PostgresError::NotFound { looked: vec!["/opt/pg".into()] }.to_string();
        for way in ["apt-get", "dnf", "apk", "brew", "UNBLOCK_DATABASE_URL", "docker compose up", "/opt/pg"] {
            assert!(message.contains(way), "{way} is missing in {message}");
        }
    }
}
