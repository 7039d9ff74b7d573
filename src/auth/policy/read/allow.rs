//! `allow`: which scopes, in which environments.

use std::collections::BTreeSet;

use toml::{Spanned, de::DeValue};

use super::{
    super::{Environments, grants::Granted},
    section::{Section, quoted},
};
use crate::{auth::Scope, device::EnvironmentId, spelling};

const KEYS: &[&str] = &["scopes", "environments"];

/// Where the scopes of one `allow` reach.
enum Where {
    All,
    Only(BTreeSet<EnvironmentId>),
}

/// All that the `allow` of a caller grants.
pub(super) fn read(caller: &Section<'_>) -> Granted {
    let mut granted = Granted::default();
    let remedy = "write allow = [{ scopes = […], environments = […] }]";
    let items = caller.list("allow", "tables", remedy);
    if items.is_empty() {
        let is_list = caller.get("allow").is_none_or(|value| value.get_ref().is_array());
        if is_list {
            caller.notes.mistake(
                caller.at,
                "this caller is allowed nothing",
                format!("{remedy}, or leave it out"),
            );
        }
    }
    for item in items {
        let Some((at, table)) = caller.table_in(item) else { continue };
        let section = Section::new(caller.notes, at, table, KEYS);
        let (scopes, environments) = (scopes(&section), environments(&section));
        let Some(environments) = environments else { continue };
        for scope in scopes {
            if overlap(&granted, scope, &environments) {
                let what = format!("{scope} is allowed there already");
                section.notes.mistake(at, what, "say it once");
            }
            match &environments {
                Where::All => granted.grant(scope, Environments::All),
                Where::Only(ids) => granted.grant(scope, Environments::Only(ids)),
            }
        }
    }
    granted
}

/// Whether some of it was said before: whoever then takes one of the two away takes nothing away.
fn overlap(granted: &Granted, scope: Scope, environments: &Where) -> bool {
    match (granted.environments_of(scope), environments) {
        (Environments::All, _) => true,
        (Environments::Only(before), Where::All) => !before.is_empty(),
        (Environments::Only(before), Where::Only(now)) => !before.is_disjoint(now),
    }
}

fn scopes(section: &Section<'_>) -> Vec<Scope> {
    let names = Scope::ALL.map(Scope::name);
    let remedy = format!("write some of {}", names.join(", "));
    let items = section.list("scopes", "scopes", &remedy);
    if section.get("scopes").is_none_or(is_empty_list) {
        section.notes.mistake(section.at, "no scope is named", remedy);
    }
    let mut scopes = Vec::new();
    for item in items {
        let Some((at, name)) = section.text_in(item) else { continue };
        match Scope::named(name) {
            None => {
                let remedy =
                    format!("{}the scopes are {}", spelling::suggestion(name, &names), names.join(", "));
                section.notes.mistake(at, format!("there is no scope {}", quoted(name)), remedy);
            }
            Some(scope) if scopes.contains(&scope) => {
                section.notes.mistake(at, format!("{scope} stands here twice"), "say it once");
            }
            Some(scope) => scopes.push(scope),
        }
    }
    scopes
}

fn environments(section: &Section<'_>) -> Option<Where> {
    let remedy = "write environments = [\"…\"] with their UUIDs, or environments = \"all\"";
    let Some(value) = section.get("environments").filter(|value| !is_empty_list(value)) else {
        section.notes.mistake(section.at, "no environment is named", remedy);
        return None;
    };
    if value.get_ref().as_str() == Some("all") {
        return Some(Where::All);
    }
    let items = section.list("environments", "environments", remedy);
    let mut ids = BTreeSet::new();
    for item in items {
        let Some((at, text)) = section.text_in(item) else { continue };
        match EnvironmentId::parse(text) {
            Err(_) => section.notes.mistake(at, format!("{} is not a UUID", quoted(text)), remedy),
            Ok(id) if !ids.insert(id) => {
                section.notes.mistake(at, format!("the environment {id} stands here twice"), "say it once");
            }
            Ok(_) => {}
        }
    }
    Some(Where::Only(ids))
}

fn is_empty_list(value: &Spanned<DeValue<'_>>) -> bool {
    value.get_ref().as_array().is_some_and(|items| items.is_empty())
}
