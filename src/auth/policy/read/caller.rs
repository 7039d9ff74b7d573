//! One `[[caller]]`: whom it is about and what it may do.

use toml::de::DeTable;

use super::{
    super::{Bounds, Entry, Who},
    allow, bounds,
    section::{Section, quoted},
};
use crate::job::Caller;

const KEYS: &[&str] =
    &["name", "issuer", "token_scope", "description", "narrowed_by_token", "allow", "bounds"];
/// Scopes that stand in tokens of everybody who signs in.
const EVERYBODYS: [&str; 6] = ["openid", "profile", "email", "address", "phone", "offline_access"];

/// The entry in `table`, with where it begins.
pub(super) fn read(
    file: &Section<'_>,
    at: usize,
    table: &DeTable<'_>,
    for_all: Bounds,
) -> Option<(usize, Entry)> {
    let section = Section::new(file.notes, at, table, KEYS);
    let who = who(&section);
    let description = section.get("description").map(|_| section.text("description"));
    let narrowed_by_token = section.truth("narrowed_by_token").unwrap_or_default();
    let mut granted = allow::read(&section);
    granted.bounds = bounds::of_caller(&section, for_all, &granted);
    let who = who?;
    if narrowed_by_token && !matches!(&who, Who::Named(name) if name.contains('|')) {
        let what = "narrowed_by_token is for one caller with a token, named by issuer|subject";
        section.notes.mistake(at, what, "leave it out here");
    }
    let description = description.flatten().map_or_else(String::new, |(_, text)| text.to_owned());
    Some((at, Entry { who, description, narrowed_by_token, granted: granted.into() }))
}

/// Whom it is about: `name`, or `issuer` and `token_scope`.
fn who(section: &Section<'_>) -> Option<Who> {
    let given = |key| section.get(key).is_some();
    match (given("name"), given("issuer"), given("token_scope")) {
        (true, false, false) => named(section),
        (false, true, true) => holding(section),
        _ => {
            let remedy = "write either name, or issuer and token_scope";
            section.notes.mistake(section.at, "this does not say in one way whom it is about", remedy);
            None
        }
    }
}

fn named(section: &Section<'_>) -> Option<Who> {
    let (at, name) = section.text("name")?;
    let mistake = |what: String, remedy: &str| {
        section.notes.mistake(at, what, remedy);
        None
    };
    if name == Caller::anonymous().as_str() {
        let what =
            "anonymous is whoever calls where authentication is off, and no policy is asked".to_owned();
        return mistake(what, "name a caller that is authenticated");
    }
    if name.contains('*') {
        return mistake(format!("{} has a *, but names are exact", quoted(name)), "write the whole name");
    }
    let of_token =
        name.split_once('|').is_some_and(|(issuer, subject)| is_issuer(issuer) && !subject.is_empty());
    let of_certificate = !name.contains('|')
        && (name.contains("://")
            || ["dns:", "email:"].iter().any(|kind| name.len() > kind.len() && name.starts_with(kind)));
    if Caller::named(name).is_none() || !(of_token || of_certificate) {
        let remedy =
            "write issuer|subject for a token, or a name of a certificate: spiffe://…, dns:…, email:…";
        return mistake(format!("{} is no caller's name", quoted(name)), remedy);
    }
    Some(Who::Named(name.to_owned()))
}

fn holding(section: &Section<'_>) -> Option<Who> {
    let (issuer, token_scope) = (section.text("issuer"), section.text("token_scope"));
    let issuer = issuer.and_then(|(at, issuer)| {
        let right = is_issuer(issuer);
        if !right {
            let remedy = "write the issuer as its tokens have it, such as https://auth.pingone.eu/…/as";
            section.notes.mistake(at, format!("{} is no issuer", quoted(issuer)), remedy);
        }
        right.then(|| issuer.to_owned())
    });
    let token_scope = token_scope.and_then(|(at, scope)| {
        let wrong = if scope.contains(['*', ' ']) {
            Some((format!("{} is not one scope", quoted(scope)), "write one scope, whole"))
        } else if EVERYBODYS.contains(&scope) {
            Some((
                format!("whoever signs in may hold {scope}"),
                "name a scope that only these callers are given",
            ))
        } else {
            None
        };
        if let Some((what, remedy)) = &wrong {
            section.notes.mistake(at, what.clone(), *remedy);
        }
        wrong.is_none().then(|| scope.to_owned())
    });
    Some(Who::Holding { issuer: issuer?, token_scope: token_scope? })
}

fn is_issuer(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty()) && !text.contains(['|', '*', ' '])
}
