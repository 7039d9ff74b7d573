//! What can go wrong between us and Postgres.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{redact::Redacted, telemetry};

/// Why a statement did not do its work. Keeps no error of sqlx: those quote the values of rows.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres cannot be reached, is starting or stopping, or gave up on a statement: the same call may work soon.
    #[error("Postgres is not available: {0}")]
    Unavailable(Redacted),
    /// Postgres refused the statement: a defect of ours or a damaged database.
    #[error("Postgres refused a statement: {0}")]
    Refused(Redacted),
    /// The audit trail cannot be written: nothing is done that would not be in it.
    #[error("the audit trail cannot be written: {0}")]
    Trail(Redacted),
    /// A row that no version of this service writes.
    #[error("the database holds what it should not: {0}")]
    Corrupt(String),
    /// What is encrypted cannot be read, or nothing can be encrypted, for want of the right snapshot key.
    #[error("encrypted answers: {0}")]
    Sealed(String),
    /// The address is no Postgres URL.
    #[error("the database URL cannot be used: {0}")]
    Address(Redacted),
    /// The migrations could not be run.
    #[error("the database could not be migrated: {0}")]
    Migration(Redacted),
    /// The database is older than this binary.
    #[error("the database lacks migration {missing}: run `pingone-unblock migrate` first")]
    SchemaOlder {
        /// The first that is missing.
        missing: i64,
    },
    /// The database is newer than this binary.
    #[error("the database has migration {unknown}, which this version does not know: run a newer version")]
    SchemaNewer {
        /// The one that is unknown.
        unknown: i64,
    },
    /// The database was laid out for another number of lanes.
    #[error(
        "the database was laid out for {found} lanes, this version for 256: it is another service's database"
    )]
    Lanes {
        /// What the database says.
        found: String,
    },
}

impl StoreError {
    /// Whether the same statement may work when it is tried again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Trail(_))
    }
}

impl telemetry::spans::Kind for StoreError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Refused(_) => "refused",
            Self::Trail(_) => "trail",
            Self::Corrupt(_) => "corrupt",
            Self::Sealed(_) => "sealed",
            Self::Address(_) => "address",
            Self::Migration(_) | Self::SchemaOlder { .. } | Self::SchemaNewer { .. } | Self::Lanes { .. } => {
                "schema"
            }
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let (transient, why) = (is_transient(&error), why(&error));
        if !transient && is_of_trail(&error) {
            telemetry::metrics().postgres.failed("refused");
            telemetry::metrics().security.trail_failed();
            if TOLD.is_due() {
                tracing::error!(error = %why, "the audit trail cannot be written: nothing is done until it can");
            }
            return Self::Trail(why);
        }
        telemetry::metrics().postgres.failed(if transient { "unavailable" } else { "refused" });
        if transient { Self::Unavailable(why) } else { Self::Refused(why) }
    }
}

const LONGEST: usize = 300;

/// What sqlx or Postgres says, less the values of a row: Postgres has them in the detail, which stays behind, and where it cannot
/// read a value (class 22) in the message too.
pub(super) fn why(error: &sqlx::Error) -> Redacted {
    match error {
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            match code.starts_with("22") {
                true => Redacted::unquoted(refusal.message(), LONGEST),
                false => Redacted::of(refusal.message(), LONGEST),
            }
        }
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => {
            Redacted::unquoted(&error.to_string(), LONGEST)
        }
        // Of an address: it may quote a part of it.
        sqlx::Error::Configuration(cause) => Redacted::unquoted(&cause.to_string(), LONGEST),
        other => Redacted::of(&other.to_string(), LONGEST),
    }
}

/// Each statement meets it anew.
static TOLD: OncePer = OncePer::new(Duration::from_secs(60));

/// Says at most once in so long that something is due.
struct OncePer {
    apart: Duration,
    last: Mutex<Option<Instant>>,
}

impl OncePer {
    const fn new(apart: Duration) -> Self {
        Self { apart, last: Mutex::new(None) }
    }

    fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= self.apart);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Whether a statement failed for the trail in it: the table, or what writes it, is not there, not ours to write, or takes no such
/// entry. Messages of these classes name tables, columns and functions, and no value.
fn is_of_trail(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(refusal) = error else { return false };
    let named =
        refusal.code().is_some_and(|code| code.starts_with("42")) && refusal.message().contains("audit");
    named || refusal.table() == Some("audit")
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        // 08 connection, 40 rollback (serialization, deadlock), 53 resources, 55P03 lock timeout, 57 operator intervention
        // (statement timeout, shutdown, starting up), 58 system, 25006 read-only (fail-over), XX000 lost node of a cluster.
        sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| {
            ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
                || matches!(&*code, "55P03" | "25006" | "XX000")
        }),
        _ => false,
    }
}
