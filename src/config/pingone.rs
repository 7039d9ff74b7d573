//! The settings of PingOne: one credential for all environments, or one for some of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use toml::{Table, Value};

use super::{
    credential::{Scope, Where},
    file::{environment_prefix, limit_group_prefix},
    mistake::Origin,
    reader::{Reader, Wrong},
    values::{count, duration_in, quoted, rate},
};
use crate::{
    device::EnvironmentId,
    pingone::{ApiPath, Credential},
    store::Role,
};

/// How PingOne is reached, and how much of it is asked.
#[derive(Debug, Clone)]
pub struct PingOne {
    /// For every environment that has no credential of its own. Nothing only where each has, or for [`Role::Api`].
    pub access: Option<Access>,
    /// The limits of every environment that has none of its own.
    pub limits: Limits,
    /// The environments that `access` serves beside those of `own`; nothing: any.
    pub served: Option<BTreeSet<EnvironmentId>>,
    /// Environments with settings of their own.
    pub own: BTreeMap<EnvironmentId, Environment>,
    /// Licences whose rate several environments share: requests per second, by name.
    pub limit_groups: BTreeMap<String, f64>,
    /// How long one attempt may take in all: between 1 and 10 s.
    pub attempt_deadline: Duration,
    /// How long connecting may take of it.
    pub connect_timeout: Duration,
}

/// Where an API is and what to show there.
#[derive(Debug, Clone)]
pub struct Access {
    /// The base of the API.
    pub api: ApiPath,
    /// The credential.
    pub credential: Credential,
    /// The file that holds its secret or token, where one does: read anew when it changes.
    pub secret_file: Option<PathBuf>,
}

/// What one environment has of its own.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its own access; nothing: the common one.
    pub access: Option<Access>,
    /// Its limits.
    pub limits: Limits,
    /// The licence whose rate it shares: one of [`PingOne::limit_groups`].
    pub limit_group: Option<String>,
}

/// How much one environment is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests per second: 0.01 to 10000, or infinite.
    pub rate: f64,
    /// Requests at once: 1 to 10000.
    pub max_in_flight: u32,
}

/// A claim's lease of 20 s rests on the longest; under a second hardly any answer would be in time.
const ATTEMPT_DEADLINES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(10);
const CONNECT_TIMEOUTS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(10);

pub(super) fn read(reader: &mut Reader<'_>, role: Role) -> Option<PingOne> {
    // After a mistake any number will do: the whole is refused, but the rest must be looked at first.
    let limits = Limits {
        rate: reader.read("pingone_rate_limit", rate).unwrap_or(1.0),
        max_in_flight: reader.read("pingone_max_in_flight", count(1..=10_000)).unwrap_or(1),
    };
    let deadlines = deadlines(reader);
    let served = served(reader);
    let common = Scope::new(Where::Common, reader, None);
    let access = common.access(reader);
    let limit_groups = limit_groups(reader);
    let own = own(reader, limits, &common, served.as_ref(), &limit_groups);

    let relied_on = served.is_some()
        || reader.file.environments.is_empty()
        || own.values().any(|environment| environment.access.is_none());
    if role != Role::Api && relied_on && !common.has_credential() {
        let why = "PingOne needs a credential: this with PINGONE_CLIENT_SECRET and PINGONE_AUTH_ENVIRONMENT_ID, \
                   or PINGONE_ACCESS_TOKEN";
        reader.missing("pingone_client_id", why);
    }
    let (attempt_deadline, connect_timeout) = deadlines?;
    Some(PingOne { access, limits, served, own, limit_groups, attempt_deadline, connect_timeout })
}

fn deadlines(reader: &mut Reader<'_>) -> Option<(Duration, Duration)> {
    let attempt = reader.read("pingone_attempt_deadline", duration_in(ATTEMPT_DEADLINES));
    let connect = reader.read("pingone_connect_timeout", duration_in(CONNECT_TIMEOUTS));
    let (attempt, connect) = (attempt?, connect?);
    if connect > attempt {
        let origin = reader.origin("pingone_connect_timeout");
        let remedy = "let connecting take no longer than the attempt (PINGONE_ATTEMPT_DEADLINE)".to_owned();
        reader.mistake(origin, Wrong("longer than an attempt may take in all".to_owned(), remedy));
    }
    Some((attempt, connect))
}

fn served(reader: &mut Reader<'_>) -> Option<BTreeSet<EnvironmentId>> {
    let given = reader.given("pingone_environment_ids")?;
    let mut served = BTreeSet::new();
    for text in given.text.split(',').filter(|text| !text.trim().is_empty()) {
        if let Some(id) = reader.parse_part(&given.origin, text, environment_id)
            && !served.insert(id)
        {
            reader.mistake(given.origin.clone(), twice(id));
        }
    }
    if served.is_empty() {
        let remedy = "name an environment, or leave it out to serve any".to_owned();
        reader.mistake(given.origin, Wrong("no environment is named".to_owned(), remedy));
    }
    Some(served)
}

fn own(
    reader: &mut Reader<'_>,
    limits: Limits,
    common: &Scope,
    served: Option<&BTreeSet<EnvironmentId>>,
    limit_groups: &BTreeMap<String, f64>,
) -> BTreeMap<EnvironmentId, Environment> {
    let mut own = BTreeMap::new();
    let tables = std::mem::take(&mut reader.file.environments);
    for (index, table) in tables.iter().enumerate() {
        let prefix = environment_prefix(index);
        let environment = environment(reader, table, &prefix, limits, common, limit_groups);
        let origin = Origin::File { path: reader.file.path.clone(), key: format!("{prefix}id") };
        match (reader.given_in(table, &prefix, "id"), environment) {
            (None, _) if !table.contains_key("id") => {
                let remedy = "give the environment's UUID".to_owned();
                reader.mistake(origin, Wrong("missing".to_owned(), remedy));
            }
            (Some(given), Some(environment)) => {
                if let Some(id) = reader.parse(&given, environment_id) {
                    let in_list = served.is_some_and(|served| served.contains(&id));
                    if own.insert(id, environment).is_some() || in_list {
                        reader.mistake(origin, twice(id));
                    }
                }
            }
            (Some(given), None) => drop(reader.parse(&given, environment_id)),
            (None, _) => {}
        }
    }
    reader.file.environments = tables;
    own
}

/// None after a mistake.
fn environment(
    reader: &mut Reader<'_>,
    table: &Table,
    prefix: &str,
    limits: Limits,
    common: &Scope,
    limit_groups: &BTreeMap<String, f64>,
) -> Option<Environment> {
    let own_rate = reader.given_in(table, prefix, "rate_limit");
    let own_rate = own_rate.map_or(Some(limits.rate), |given| reader.parse(&given, rate));
    let max = reader.given_in(table, prefix, "max_in_flight");
    let max = max.map_or(Some(limits.max_in_flight), |given| reader.parse(&given, count(1..=10_000)));
    let access = match table.get("credential") {
        None => None,
        Some(Value::Table(credential)) => {
            let place = Where::Table(credential, format!("{prefix}credential."));
            let scope = Scope::new(place, reader, Some(common));
            if !scope.has_credential() {
                scope.missing(reader, "client_id", "a credential is a worker application or an access token");
            }
            Some(scope.access(reader)?)
        }
        Some(_) => {
            let origin = Origin::File { path: reader.file.path.clone(), key: format!("{prefix}credential") };
            let remedy = "write [environment.credential] and its keys below".to_owned();
            reader.mistake(origin, Wrong("this is not a table".to_owned(), remedy));
            return None;
        }
    };
    let limit_group = reader.given_in(table, prefix, "limit_group");
    if let Some(given) = limit_group.as_ref().filter(|given| !limit_groups.contains_key(&given.text)) {
        let remedy = "name one that a [[limit_group]] table sets up".to_owned();
        reader.mistake(
            given.origin.clone(),
            Wrong(format!("there is no limit group {}", quoted(&given.text)), remedy),
        );
    }
    let limit_group = limit_group.map(|given| given.text);
    Some(Environment { access, limits: Limits { rate: own_rate?, max_in_flight: max? }, limit_group })
}

fn limit_groups(reader: &mut Reader<'_>) -> BTreeMap<String, f64> {
    let mut groups = BTreeMap::new();
    let tables = std::mem::take(&mut reader.file.limit_groups);
    for (index, table) in tables.iter().enumerate() {
        let prefix = limit_group_prefix(index);
        let mut read = |key: &str, remedy: &str| {
            let given = reader.given_in(table, &prefix, key);
            if given.is_none() && !table.contains_key(key) {
                let origin = Origin::File { path: reader.file.path.clone(), key: format!("{prefix}{key}") };
                reader.mistake(origin, Wrong("missing".to_owned(), remedy.to_owned()));
            }
            given
        };
        let name = read("name", "give the licence a name of 1 to 100 characters");
        let limit = read("rate_limit", "write the requests per second that its environments share");
        let limit = limit.and_then(|given| reader.parse(&given, finite_rate));
        let Some(name) = name else { continue };
        if !(1..=100).contains(&name.text.chars().count()) {
            let remedy = "give the licence a name of 1 to 100 characters".to_owned();
            reader.mistake(name.origin, Wrong(format!("{} has another length", quoted(&name.text)), remedy));
        } else if groups.insert(name.text.clone(), limit.unwrap_or(1.0)).is_some() {
            let what = format!("limit group {} is listed twice", quoted(&name.text));
            reader.mistake(name.origin, Wrong(what, "list it once".to_owned()));
        }
    }
    reader.file.limit_groups = tables;
    groups
}

/// A limit that is shared is a limit.
fn finite_rate(text: &str) -> Result<f64, Wrong> {
    let finite = |rate: &f64| rate.is_finite();
    rate(text).ok().filter(finite).ok_or_else(|| {
        let remedy = "write requests per second from 0.01 to 10000";
        Wrong(format!("{} is out of range", quoted(text)), remedy.to_owned())
    })
}

pub(super) fn environment_id(text: &str) -> Result<EnvironmentId, Wrong> {
    EnvironmentId::parse(text.trim()).map_err(|error| {
        Wrong(error.to_string(), "copy the environment's ID from PingOne's console".to_owned())
    })
}

fn twice(id: EnvironmentId) -> Wrong {
    Wrong(format!("environment {id} is listed twice"), "list it once, here or there".to_owned())
}
