//! What one look at the server found.

use std::time::Duration;

use time::OffsetDateTime;

use super::figures::Environments;

#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) server: String,
    pub(super) at: OffsetDateTime,
    pub(super) service: Service,
    pub(super) postgres: Postgres,
    /// Nothing where they were not told.
    pub(super) environments: Option<Environments>,
    /// Nothing where they were not told.
    pub(super) batches: Option<Batches>,
    /// When the server was away while it was watched.
    pub(super) away: Option<Away>,
}

/// Whether the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Service {
    /// It does not: "does not answer: Connection refused".
    Gone(String),
    /// It does, and says no: "refuses: too many calls at once".
    Refuses(String),
    NotServing(Duration),
    Serving(Duration),
}

/// Whether Postgres answers, as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Postgres {
    Unknown,
    /// So long took a list of the environments.
    Answers(Duration),
    Unavailable(String),
}

/// The server was not there since, until.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away {
    pub(super) since: OffsetDateTime,
    pub(super) until: Option<OffsetDateTime>,
}

/// Batches that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Batches {
    pub(super) uploading: u64,
    pub(super) running: u64,
    pub(super) paused: u64,
    pub(super) cancelling: u64,
    /// In how many environments was looked.
    pub(super) environments: u64,
}

impl Found {
    pub(super) fn new(server: &str, at: OffsetDateTime, service: Service) -> Self {
        Self {
            server: server.to_owned(),
            at,
            service,
            postgres: Postgres::Unknown,
            environments: None,
            batches: None,
            away: None,
        }
    }

    pub(super) const fn is_gone(&self) -> bool {
        matches!(self.service, Service::Gone(_))
    }
}

impl Batches {
    pub(super) const fn open(&self) -> u64 {
        self.uploading + self.running + self.paused + self.cancelling
    }
}
