//! How the program ends. The table in `--help` is made from this one.

use std::{fmt::Write as _, process::ExitCode};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    Unreachable,
    NotPermitted,
    Pending,
    Configuration,
    Interrupted,
}

impl Exit {
    const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Unreachable,
        Self::NotPermitted,
        Self::Pending,
        Self::Configuration,
        Self::Interrupted,
    ];

    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotPermitted => 4,
            Self::Pending => 5,
            Self::Configuration => 78,
            Self::Interrupted => 130,
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed: the job, some rows of a file, or a request refused for another reason",
            Self::Usage => "wrong usage, also in the server's eyes",
            Self::Unreachable => "server not reachable, or no answer in time",
            Self::NotPermitted => "not permitted",
            Self::Pending => "timed out while the job is still pending; it goes on",
            Self::Configuration => "bad configuration",
            Self::Interrupted => "interrupted; a job or batch already recorded goes on",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The exit codes as `--help` shows them.
pub(super) fn help() -> String {
    Exit::ALL.into_iter().fold("Exit codes:".to_owned(), |mut text, exit| {
        let _ = write!(text, "\n  {:>3}  {}", exit.code(), exit.meaning());
        text
    })
}
