//! The settings of PingOne: one credential for all environments, or one for some of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use toml::{Table, Value};

use super::{
    credential::{Scope, Where},
    file::environment_prefix,
    mistake::Origin,
    reader::{Reader, Wrong},
    values::{count, duration_in, rate},
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
}

/// What one environment has of its own.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Its own access; nothing: the common one.
    pub access: Option<Access>,
    /// Its limits.
    pub limits: Limits,
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
    let own = own(reader, limits, &common, served.as_ref());

    let relied_on = served.is_some()
        || reader.file.environments.is_empty()
        || own.values().any(|environment| environment.access.is_none());
    if role != Role::Api && relied_on && !common.has_credential() {
        let why = "PingOne needs a credential: this with PINGONE_CLIENT_SECRET and PINGONE_AUTH_ENVIRONMENT_ID, \
                   or PINGONE_ACCESS_TOKEN";
        reader.missing("pingone_client_id", why);
    }
    let (attempt_deadline, connect_timeout) = deadlines?;
    Some(PingOne { access, limits, served, own, attempt_deadline, connect_timeout })
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
) -> BTreeMap<EnvironmentId, Environment> {
    let mut own = BTreeMap::new();
    let tables = std::mem::take(&mut reader.file.environments);
    for (index, table) in tables.iter().enumerate() {
        let prefix = environment_prefix(index);
        let environment = environment(reader, table, &prefix, limits, common);
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
    Some(Environment { access, limits: Limits { rate: own_rate?, max_in_flight: max? } })
}

pub(super) fn environment_id(text: &str) -> Result<EnvironmentId, Wrong> {
    EnvironmentId::parse(text.trim()).map_err(|error| {
        Wrong(error.to_string(), "copy the environment's ID from PingOne's console".to_owned())
    })
}

fn twice(id: EnvironmentId) -> Wrong {
    Wrong(format!("environment {id} is listed twice"), "list it once, here or there".to_owned())
}
