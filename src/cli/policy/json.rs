//! A policy as JSON for programs.

use serde_json::{Map, Value, json};

use super::explain::Explained;
use crate::{
    auth::{Bounds, DeviceBound, Entry, Environments, Policy, Scope},
    duration,
};

pub(super) fn policy(policy: &Policy) -> Value {
    let demands: Map<String, Value> = policy
        .environments()
        .into_iter()
        .map(|id| (id.to_string(), json!(policy.demands(id).by_key())))
        .chain([("elsewhere".to_owned(), json!(policy.demands_elsewhere().by_key()))])
        .collect();
    json!({
        "version": &**policy.version(),
        "callers": policy.entries().iter().map(entry).collect::<Vec<_>>(),
        "unblocksPerDevice": policy.device_bound().map(device_bound),
        "demands": demands,
    })
}

pub(super) fn explained(explained: &Explained<'_>) -> Value {
    let Explained { policy, caller, environment, token_scopes } = explained;
    let grants = policy.grants(caller, token_scopes);
    let (mut may, mut refused) = (Map::new(), Map::new());
    for scope in Scope::ALL {
        let name = scope.name().to_owned();
        match explained.why_not(scope) {
            Some(why) => refused.insert(name, json!(why)),
            None => may.insert(name, place(grants.environments(scope))),
        };
    }
    json!({
        "version": &**policy.version(),
        "caller": caller.as_str(),
        "environment": environment.map(|id| id.to_string()),
        "may": may,
        "refused": refused,
        "demands": environment.map(|id| policy.demands(id).by_key()),
        "bounds": bounds(grants.bounds()),
        "unblocksPerDevice": policy.device_bound().map(device_bound),
    })
}

fn entry(entry: &Entry) -> Value {
    let allowed = Scope::ALL.into_iter().map(|scope| (scope.name(), entry.environments(scope)));
    let allow: Map<String, Value> = allowed
        .filter(|(_, environments)| !matches!(environments, Environments::Only(none) if none.is_empty()))
        .map(|(name, environments)| (name.to_owned(), place(environments)))
        .collect();
    json!({
        "caller": entry.who.to_string(),
        "description": entry.description,
        "narrowedByToken": entry.narrowed_by_token,
        "allow": allow,
        "bounds": bounds(entry.bounds()),
    })
}

fn place(environments: Environments<'_>) -> Value {
    match environments {
        Environments::All => json!("all"),
        Environments::Only(some) => some.iter().map(ToString::to_string).collect(),
    }
}

fn bounds(bounds: &Bounds) -> Value {
    let set = bounds.by_key().into_iter().filter_map(|(key, bound)| Some((camel(key), json!(bound?))));
    Value::Object(set.collect())
}

fn device_bound(bound: DeviceBound) -> Value {
    json!({ "count": bound.count, "within": duration::write(bound.within) })
}

/// `calls_per_second` as `callsPerSecond`.
fn camel(key: &str) -> String {
    let mut words = key.split('_').map(str::to_owned);
    let first = words.next().unwrap_or_default();
    words.fold(first, |text, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        text + &head.to_uppercase() + tail
    })
}
