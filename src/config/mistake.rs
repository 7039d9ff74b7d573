//! What is wrong with a configuration, where it was said and how to put it right.

use std::{fmt, path::PathBuf};

/// Where a value was given or, for a missing one, where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag, such as `--listen`.
    Flag(&'static str),
    /// An environment variable, such as `UNBLOCK_LISTEN`.
    Variable(String),
    /// A key of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The key, or the line where there is none.
        key: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, key } => write!(f, "{}: {key}", path.display()),
        }
    }
}

/// One thing that is wrong. Quotes no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub origin: Origin,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.origin, self.what, self.remedy)
    }
}

/// A configuration that cannot be used: every mistake in it, never only the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong; at least one.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => f.write_str("the configuration has a mistake:")?,
            count => write!(f, "the configuration has {count} mistakes:")?,
        }
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for ConfigError {}
