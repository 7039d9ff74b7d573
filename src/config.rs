//! What `serve` is set to do: from flags, variables and a file, parsed and checked once. Nobody below the app reads it.
//!
//! [`SETTINGS`] is the one list of settings; [`Config::load`] turns what was given into typed values, or into every mistake
//! there is.

mod args;
mod credential;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod mistake;
mod oidc;
mod pingone;
mod policy;
mod reader;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    auth::Issuer,
    job::RetryPolicy,
    store::{Role, SnapshotKeys},
    telemetry,
};

pub use args::{CONFIG_VARIABLE, ServeArgs};
pub use mistake::{ConfigError, Mistake, Origin};
pub use pingone::{Access, Environment, Limits, PingOne};
pub use policy::{PolicyError, policy_at};
pub use settings::{Flag, SETTINGS, Secrecy, Setting, Unset, markdown_table};

#[cfg(any(test, fuzzing))]
use file::File;
use reader::{Reader, Variable, Wrong};
use values::{address, count, duration_in, has_password, one_of, postgres_url, truth};

/// The configuration of `serve`: complete and valid.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which part of the work this process does.
    pub role: Role,
    /// Where jobs are kept.
    pub database: Database,
    /// Whether to bring the database up to date at the start.
    pub migrate: bool,
    /// The gRPC address; on this machine unless callers are authenticated, or `insecure_no_auth`.
    pub listen: SocketAddr,
    /// The address of `/livez`, `/readyz` and `/metrics`.
    pub admin_listen: SocketAddr,
    /// Whether callers from beyond this machine are let in though they are not authenticated.
    pub insecure_no_auth: bool,
    /// The file that says who may do what.
    pub policy_file: Option<PathBuf>,
    /// The issuers whose tokens callers may show; none: no token is good.
    pub oidc: Vec<Issuer>,
    /// Whether gRPC reflection is offered.
    pub reflection: bool,
    /// Calls answered at the same time at most.
    pub max_concurrent_calls: u32,
    /// How long a stop may take to finish what runs.
    pub shutdown_grace: Duration,
    /// Whether all sending is paused at the start.
    pub hold: bool,
    /// How long jobs are kept after their end: an hour or more.
    pub retention: Duration,
    /// How long entries of the audit trail are kept.
    pub audit_retention: Duration,
    /// When a job is tried again.
    pub retry: RetryPolicy,
    /// How many jobs may wait in one environment, interactive and bulk.
    pub queue_limits: (u32, u32),
    /// From this age on, a job's device is read before the unblock is sent.
    pub stale_after: Duration,
    /// How PingOne is reached.
    pub pingone: PingOne,
    /// What is logged and traced.
    pub telemetry: telemetry::Options,
}

/// Where jobs are kept.
#[derive(Debug, Clone)]
pub struct Database {
    /// The Postgres URL.
    pub url: SecretString,
    /// The URL for LISTEN and migrations, past any pooler.
    pub direct_url: SecretString,
    /// The files that hold the two, where files do: read anew when they change.
    pub url_files: [Option<PathBuf>; 2],
    /// Whether `url` leads to a transaction pooler.
    pub pooled: bool,
    /// Connections at most: 1 to 1000.
    pub connections: u32,
    /// What answers are encrypted with: the text of [`SnapshotKeys`], and its file, where one holds it.
    pub snapshot_keys: Option<(SecretString, Option<PathBuf>)>,
}

const ROLES: &[(&str, Role)] = &[("all", Role::All), ("api", Role::Api), ("worker", Role::Worker)];
const FORMATS: &[(&str, telemetry::Format)] =
    &[("text", telemetry::Format::Text), ("json", telemetry::Format::Json)];
const GRACES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);
/// A late answer, and whoever waits for a job, must find it: an hour is far more than an attempt and a call can last.
const RETENTIONS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3600)..=Duration::from_secs(3650 * 24 * 3600);
const AUDIT_RETENTIONS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(30 * 24 * 3600)..=Duration::from_secs(36_500 * 24 * 3600);
const STALE: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 24 * 3600);
const WAITS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

impl Config {
    /// Reads the configuration from the flags `args`, the variables (look up with [`std::env::var_os`]) and the file that
    /// either of them names. A variable that is empty counts as not set.
    ///
    /// # Errors
    /// [`ConfigError`] holds every mistake, not only the first.
    pub fn load(args: &ServeArgs, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let variable: Variable<'_> = &variable;
        let mut reader = Reader::new(args, variable);
        let config = read(&mut reader, variable);
        reader.finish(config)
    }
}

impl Database {
    /// Reads the settings of the database alone, for a command that needs no more. Otherwise as [`Config::load`].
    ///
    /// # Errors
    /// [`ConfigError`] holds every mistake in these settings, and every unknown key of the file.
    pub fn load(args: &ServeArgs, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(args, &variable);
        let database = database(&mut reader);
        reader.finish(database)
    }
}

/// Reads every part before any mistake ends it, so that all are found.
fn read(reader: &mut Reader<'_>, variable: Variable<'_>) -> Option<Config> {
    let role = reader.read("role", one_of(ROLES));
    let database = database(reader);
    let migrate = reader.read("migrate", truth);
    let policy_file = policy::file(reader);
    let oidc = oidc::read(reader);
    let known = oidc.as_ref().is_some_and(|issuers| !issuers.is_empty());
    let addresses = addresses(reader, known);
    let reflection = reader.read("reflection", truth);
    let max_concurrent_calls = reader.read("max_concurrent_calls", count(1..=100_000));
    let shutdown_grace = reader.read("shutdown_grace", duration_in(GRACES));
    let hold = reader.read("hold", truth);
    let retention = reader.read("retention", duration_in(RETENTIONS));
    let audit_retention = reader.read("audit_retention", duration_in(AUDIT_RETENTIONS));
    let retry = retry(reader);
    let queue_interactive = reader.read("queue_limit_interactive", count(1..=10_000_000));
    let queue_bulk = reader.read("queue_limit_bulk", count(1..=100_000_000));
    let stale_after = reader.read("stale_after", duration_in(STALE));
    let pingone = pingone::read(reader, role.unwrap_or(Role::All));
    let telemetry = telemetry(reader, variable);
    let (listen, admin_listen, insecure_no_auth) = addresses?;
    Some(Config {
        role: role?,
        database: database?,
        migrate: migrate?,
        listen,
        admin_listen,
        insecure_no_auth,
        policy_file: policy_file?,
        oidc: oidc?,
        reflection: reflection?,
        max_concurrent_calls: max_concurrent_calls?,
        shutdown_grace: shutdown_grace?,
        hold: hold?,
        retention: retention?,
        audit_retention: audit_retention?,
        retry: retry?,
        queue_limits: (queue_interactive?, queue_bulk?),
        stale_after: stale_after?,
        pingone: pingone?,
        telemetry: telemetry?,
    })
}

fn database(reader: &mut Reader<'_>) -> Option<Database> {
    let given = reader.given("database_url").or_else(|| reader.variable("DATABASE_URL"));
    if given.is_none() {
        reader.missing("database_url", "jobs are kept in Postgres");
    }
    let file = given.as_ref().and_then(reader::Given::file);
    let url = given.and_then(|given| database_url(reader, &given));
    let direct = reader.given("direct_database_url");
    let direct_file = direct.as_ref().map_or_else(|| file.clone(), reader::Given::file);
    let direct_url = direct.map_or_else(|| url.clone(), |given| database_url(reader, &given));
    let pooled = reader.read("database_pooled", truth);
    let connections = reader.read("database_connections", count(2..=1000));
    let snapshot_keys = match reader.given("snapshot_keys") {
        Some(given) => Some((snapshot_keys(reader, &given)?, given.file())),
        None => None,
    };
    Some(Database {
        url: url?,
        direct_url: direct_url?,
        url_files: [file, direct_file],
        pooled: pooled?,
        connections: connections?,
        snapshot_keys,
    })
}

fn database_url(reader: &mut Reader<'_>, given: &reader::Given) -> Option<SecretString> {
    let url = reader.secret(given)?;
    if let Err(wrong) = postgres_url(url.expose_secret()) {
        reader.mistake(given.origin.clone(), wrong);
    } else if given.stands_in_the_open() && has_password(url.expose_secret()) {
        let remedy = "leave it out here, or give the URL as a variable or in a file of its own (…_FILE)";
        reader.mistake(
            given.origin.clone(),
            Wrong("a password does not belong here".to_owned(), remedy.to_owned()),
        );
    }
    Some(url)
}

fn snapshot_keys(reader: &mut Reader<'_>, given: &reader::Given) -> Option<SecretString> {
    let text = reader.secret(given)?;
    let Err(error) = SnapshotKeys::parse(text.expose_secret()) else { return Some(text) };
    let sentence = error.to_string();
    let (what, remedy) = sentence.split_once("; ").unwrap_or((&sentence, "give each key a name of its own"));
    reader.mistake(given.origin.clone(), Wrong(what.to_owned(), remedy.to_owned()));
    None
}

fn addresses(reader: &mut Reader<'_>, known: bool) -> Option<(SocketAddr, SocketAddr, bool)> {
    let listen = reader.read("listen", address);
    let admin = reader.read("admin_listen", address);
    let insecure = reader.read("insecure_no_auth", truth);
    let (listen, admin, insecure) = (listen?, admin?, insecure?);
    if !insecure && !known && !listen.ip().to_canonical().is_loopback() {
        let what = format!("callers are not authenticated, and {listen} is open beyond this machine");
        let remedy = "name an issuer with UNBLOCK_OIDC_ISSUER, listen on 127.0.0.1, or accept it with --insecure-no-auth (UNBLOCK_INSECURE_NO_AUTH=true)";
        let origin = reader.origin("listen");
        reader.mistake(origin, Wrong(what, remedy.to_owned()));
    }
    if listen == admin && listen.port() != 0 {
        let origin = reader.origin("admin_listen");
        let wrong =
            Wrong("the same address as the gRPC address".to_owned(), "choose another port".to_owned());
        reader.mistake(origin, wrong);
    }
    Some((listen, admin, insecure))
}

fn retry(reader: &mut Reader<'_>) -> Option<RetryPolicy> {
    let first = reader.read("retry_first", duration_in(WAITS));
    let longest = reader.read("retry_longest", duration_in(WAITS));
    let attempts = reader.read("max_attempts", count(1..=100));
    let (first, longest) = (first?, longest?);
    let origin = reader.origin("retry_first");
    RetryPolicy::new(first, longest, attempts?)
        .map_err(|error| {
            let remedy = "correct it or the longest wait (UNBLOCK_RETRY_LONGEST)".to_owned();
            reader.mistake(origin, Wrong(error.to_string(), remedy));
        })
        .ok()
}

fn telemetry(reader: &mut Reader<'_>, variable: Variable<'_>) -> Option<telemetry::Options> {
    let filter = reader.read("log", |text| {
        telemetry::Filter::parse(text).map_err(|error| {
            Wrong(error.to_string(), "write a filter such as info or warn,pingone_unblock=debug".to_owned())
        })
    });
    let format = match reader.given("log_format") {
        None => Some(telemetry::Format::Auto),
        Some(given) => reader.parse(&given, one_of(FORMATS)),
    };
    let variable = |name: &str| variable(name)?.into_string().ok();
    let traces = telemetry::Traces::from_variables(variable);
    let metrics = telemetry::Metrics::from_variables(variable);
    let logs = telemetry::Logs::from_variables(variable);
    Some(telemetry::Options { filter: filter?, format: format?, traces, metrics, logs })
}
