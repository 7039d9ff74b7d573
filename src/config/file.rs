//! The configuration file: reads TOML and finds every key that means nothing. Knows keys, not values.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{
    mistake::{Mistake, Origin},
    settings::{SETTINGS, Secrecy},
};
use crate::spelling;

/// The keys of an `[[environment]]` table.
const ENVIRONMENT_KEYS: &[&str] = &["id", "credential", "rate_limit", "max_in_flight", "limit_group"];
/// The keys of a `[[limit_group]]` table.
const LIMIT_GROUP_KEYS: &[&str] = &["name", "rate_limit"];
/// The keys of an `[[oidc]]` table.
const OIDC_KEYS: &[&str] = &[
    "issuer",
    "audience",
    "jwks_url",
    "subject_claim",
    "algorithms",
    "leeway",
    "token_type",
    "keys_max_age",
];
/// The keys of an environment's `credential`.
const CREDENTIAL_KEYS: &[&str] = &[
    "region",
    "api_path",
    "auth_path",
    "auth_environment_id",
    "client_id",
    "client_secret_file",
    "client_auth",
    "access_token_file",
];

/// A configuration file, or nothing where none was named.
#[derive(Default)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) table: Table,
    /// The `[[environment]]` tables, in their order.
    pub(super) environments: Vec<Table>,
    /// The `[[limit_group]]` tables, in their order.
    pub(super) limit_groups: Vec<Table>,
    /// The `[[oidc]]` tables, in their order.
    pub(super) oidc: Vec<Table>,
}

impl File {
    /// Reads `path`, which `named_by` named.
    pub(super) fn read(path: PathBuf, named_by: Origin, mistakes: &mut Vec<Mistake>) -> Self {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                mistakes.push(Mistake {
                    origin: named_by,
                    what: format!("{} cannot be read: {error}", path.display()),
                    remedy: "name a readable TOML file".to_owned(),
                });
                return Self { path, ..Self::default() };
            }
        };
        Self::parse(path, &text, mistakes)
    }

    /// Reads `text`, which stands in `path`.
    pub(super) fn parse(path: PathBuf, text: &str, mistakes: &mut Vec<Mistake>) -> Self {
        match text.parse::<Table>() {
            Ok(table) => Self::checked(path, table, mistakes),
            Err(error) => {
                // Only the sentence: the error's own display quotes the line, which may hold a secret.
                let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
                mistakes.push(Mistake {
                    origin: Origin::File { path: path.clone(), key: format!("line {line}") },
                    what: format!("this is not TOML: {}", error.message()),
                    remedy: "correct the line".to_owned(),
                });
                Self { path, ..Self::default() }
            }
        }
    }

    fn checked(path: PathBuf, mut table: Table, mistakes: &mut Vec<Mistake>) -> Self {
        let environments = table.remove("environment");
        let limit_groups = table.remove("limit_group");
        let oidc = table.remove("oidc");
        let tables = ["environment", "limit_group", "oidc"].map(str::to_owned);
        let keys: Vec<String> = SETTINGS.iter().flat_map(keys_of).chain(tables).collect();
        unknown_keys(&path, "", &table, &keys, mistakes);
        let environments = list_of_tables(&path, "environment", environments, mistakes);
        let limit_groups = list_of_tables(&path, "limit_group", limit_groups, mistakes);
        let oidc = list_of_tables(&path, "oidc", oidc, mistakes);
        for (index, group) in limit_groups.iter().enumerate() {
            let known: Vec<String> = LIMIT_GROUP_KEYS.iter().map(|key| (*key).to_owned()).collect();
            unknown_keys(&path, &limit_group_prefix(index), group, &known, mistakes);
        }
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        for (index, issuer) in oidc.iter().enumerate() {
            unknown_keys(&path, &oidc_prefix(index), issuer, &owned(OIDC_KEYS), mistakes);
        }
        for (index, environment) in environments.iter().enumerate() {
            let prefix = environment_prefix(index);
            unknown_keys(&path, &prefix, environment, &owned(ENVIRONMENT_KEYS), mistakes);
            if let Some(Value::Table(credential)) = environment.get("credential") {
                let prefix = format!("{prefix}credential.");
                unknown_keys(&path, &prefix, credential, &owned(CREDENTIAL_KEYS), mistakes);
            }
        }
        Self { path, table, environments, limit_groups, oidc }
    }

    /// `file`, as this file means it: beside this file unless absolute.
    pub(super) fn beside(&self, file: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(file)
    }
}

/// What the keys of the environment at `index` begin with in messages, counted from 1 as people do.
pub(super) fn environment_prefix(index: usize) -> String {
    format!("[[environment]] no. {}: ", index + 1)
}

/// The same for the limit group at `index`.
pub(super) fn limit_group_prefix(index: usize) -> String {
    format!("[[limit_group]] no. {}: ", index + 1)
}

/// The same for the issuer at `index`.
pub(super) fn oidc_prefix(index: usize) -> String {
    format!("[[oidc]] no. {}: ", index + 1)
}

fn list_of_tables(path: &Path, key: &str, value: Option<Value>, mistakes: &mut Vec<Mistake>) -> Vec<Table> {
    match value.map(Value::try_into::<Vec<Table>>) {
        None => Vec::new(),
        Some(Ok(tables)) => tables,
        Some(Err(_)) => {
            mistakes.push(Mistake {
                origin: Origin::File { path: path.to_owned(), key: key.to_owned() },
                what: "this is not a list of tables".to_owned(),
                remedy: format!("begin each {} with [[{key}]]", key.replace('_', " ")),
            });
            Vec::new()
        }
    }
}

/// A single value, or a list of them separated by commas, as text.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(values) => {
            let texts: Option<Vec<_>> = values.iter().map(|value| value.as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

fn keys_of(setting: &super::Setting) -> Vec<String> {
    let plain = setting.key.to_owned();
    let file = format!("{plain}_file");
    match setting.secrecy {
        Secrecy::Open => vec![plain],
        Secrecy::WithPassword => vec![plain, file],
        Secrecy::Secret => vec![file],
    }
}

fn unknown_keys(path: &Path, prefix: &str, table: &Table, known: &[String], mistakes: &mut Vec<Mistake>) {
    for key in table.keys().filter(|key| !known.contains(key)) {
        let file_form = format!("{key}_file");
        let (what, remedy) = if known.contains(&file_form) {
            (
                "a secret does not belong here".to_owned(),
                format!("put it in a file of its own and name that with {file_form}"),
            )
        } else {
            let suggestion = spelling::suggestion(key, known);
            ("no such key".to_owned(), format!("{suggestion}the keys are {}", known.join(", ")))
        };
        let origin = Origin::File { path: path.to_owned(), key: format!("{prefix}{key}") };
        mistakes.push(Mistake { origin, what, remedy });
    }
}
