//! The issuers whose tokens callers show: one in the common settings, further ones in `[[oidc]]` tables.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use toml::Table;

use super::{
    file::oidc_prefix,
    mistake::Origin,
    reader::{Given, Reader, Wrong},
    settings::setting,
    values::{duration_in, non_empty, one_of, quoted},
};
use crate::auth::{
    Issuer,
    token::{Algorithm, IssuerError, JwksUrl, SubjectClaim, TokenType},
};

const SUBJECT_CLAIMS: &[(&str, SubjectClaim)] =
    &[("sub", SubjectClaim::Sub), ("client_id", SubjectClaim::ClientId)];
const TOKEN_TYPES: &[(&str, TokenType)] = &[("usual", TokenType::Usual), ("at+jwt", TokenType::AccessToken)];
/// A fetch may fail for a while; a key that was taken back must be gone some day.
const MAX_AGES: RangeInclusive<Duration> = Duration::from_secs(600)..=Duration::from_secs(7 * 24 * 3600);
/// It lengthens the life of every token.
const LEEWAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(120);

/// What was written of one issuer.
struct Written {
    issuer: Option<Given>,
    audience: Option<Given>,
    jwks_url: Option<Given>,
    subject_claim: Option<Given>,
    algorithms: Option<Given>,
    leeway: Option<Given>,
    token_type: Option<Given>,
    keys_max_age: Option<Given>,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Vec<Issuer>> {
    let keys_max_age = reader.read("oidc_keys_max_age", duration_in(MAX_AGES));
    let mut issuers = Vec::new();
    let common = Written {
        issuer: reader.given("oidc_issuer"),
        audience: reader.given("oidc_audience"),
        jwks_url: reader.given("oidc_jwks_url"),
        subject_claim: reader.given("oidc_subject_claim"),
        algorithms: None,
        leeway: None,
        token_type: None,
        keys_max_age: None,
    };
    let parts = [&common.audience, &common.jwks_url, &common.subject_claim];
    if common.issuer.is_some() || parts.iter().any(|part| part.is_some()) {
        let origin = |key: &str| Origin::Variable(setting(&format!("oidc_{key}")).variable.to_owned());
        issuers.push(issuer(reader, &common, keys_max_age, origin));
    }
    let tables = std::mem::take(&mut reader.file.oidc);
    for (index, table) in tables.iter().enumerate() {
        let prefix = oidc_prefix(index);
        let written = Written::in_table(reader, table, &prefix);
        let path = reader.file.path.clone();
        let origin = |key: &str| Origin::File { path: path.clone(), key: format!("{prefix}{key}") };
        issuers.push(issuer(reader, &written, keys_max_age, origin));
    }
    reader.file.oidc = tables;
    let issuers: Option<Vec<_>> = issuers.into_iter().collect();
    let issuers = issuers?;
    let mut names = BTreeSet::new();
    for Issuer { issuer, .. } in &issuers {
        if !names.insert(issuer) {
            let origin = reader.origin("oidc_issuer");
            let what = format!("the issuer {} is listed twice", quoted(issuer));
            reader.mistake(origin, Wrong(what, "list it once, here or in an [[oidc]] table".to_owned()));
        }
    }
    Some(issuers)
}

/// None after a mistake.
fn issuer(
    reader: &mut Reader<'_>,
    written: &Written,
    keys_max_age: Option<Duration>,
    origin: impl Fn(&str) -> Origin,
) -> Option<Issuer> {
    let name = needed(reader, &written.issuer, origin("issuer"), "tokens are from an issuer, their `iss`");
    let name = name.and_then(|given| reader.parse(given, issuer_name));
    let audience = "tokens for other services would be taken too";
    let audience = needed(reader, &written.audience, origin("audience"), audience);
    let audience =
        audience.and_then(|given| reader.parse(given, |text| list(text, |name| Some(name.to_owned()))));
    let jwks_url = match (&written.jwks_url, &name) {
        (Some(given), _) => reader.parse(given, |text| JwksUrl::parse(text).map_err(wrong)),
        (None, Some(name)) => {
            JwksUrl::of(name).map_err(|error| reader.mistake(origin("jwks_url"), wrong(error))).ok()
        }
        (None, None) => None,
    };
    let subject_claim =
        given_or(reader, &written.subject_claim, SubjectClaim::default(), one_of(SUBJECT_CLAIMS));
    let algorithms = given_or(reader, &written.algorithms, Algorithm::ALL.to_vec(), algorithms);
    let leeway = given_or(reader, &written.leeway, crate::auth::token::LEEWAY, duration_in(LEEWAYS));
    let token_type = given_or(reader, &written.token_type, TokenType::default(), one_of(TOKEN_TYPES));
    let keys_max_age = match &written.keys_max_age {
        Some(given) => reader.parse(given, duration_in(MAX_AGES)),
        None => keys_max_age,
    };
    Some(Issuer {
        issuer: name?,
        audience: audience?,
        jwks_url: jwks_url?,
        algorithms: algorithms?.into_iter().collect(),
        leeway: leeway?,
        keys_max_age: keys_max_age?,
        token_type: token_type?,
        subject_claim: subject_claim?,
    })
}

impl Written {
    fn in_table(reader: &mut Reader<'_>, table: &Table, prefix: &str) -> Self {
        let mut given = |key| reader.given_in(table, prefix, key);
        Self {
            issuer: given("issuer"),
            audience: given("audience"),
            jwks_url: given("jwks_url"),
            subject_claim: given("subject_claim"),
            algorithms: given("algorithms"),
            leeway: given("leeway"),
            token_type: given("token_type"),
            keys_max_age: given("keys_max_age"),
        }
    }
}

fn needed<'a>(
    reader: &mut Reader<'_>,
    given: &'a Option<Given>,
    origin: Origin,
    why: &str,
) -> Option<&'a Given> {
    if given.is_none() {
        reader.mistake(origin, Wrong(format!("not set, but {why}"), "set it".to_owned()));
    }
    given.as_ref()
}

fn given_or<T>(
    reader: &mut Reader<'_>,
    given: &Option<Given>,
    default: T,
    parse: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<T> {
    match given {
        Some(given) => reader.parse(given, parse),
        None => Some(default),
    }
}

fn issuer_name(text: &str) -> Result<String, Wrong> {
    let name = non_empty(text)?;
    Issuer::check_name(&name).map(|()| name).map_err(wrong)
}

fn algorithms(text: &str) -> Result<Vec<Algorithm>, Wrong> {
    list(text, Algorithm::named).map_err(|_| {
        let names: Vec<_> = Algorithm::ALL.iter().map(|algorithm| algorithm.name()).collect();
        Wrong(format!("{} means nothing here", quoted(text)), format!("write some of {}", names.join(", ")))
    })
}

/// One or more, separated by commas.
fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Wrong> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let all: Option<Vec<_>> = parts.map(parse).collect();
    let wrong = || Wrong("empty".to_owned(), "name one, or several separated by commas".to_owned());
    all.filter(|all| !all.is_empty()).ok_or_else(wrong)
}

/// The error says what is wrong, then after a semicolon what to write.
fn wrong(error: IssuerError) -> Wrong {
    let sentence = error.to_string();
    let (what, remedy) = sentence.split_once("; ").unwrap_or((&sentence, "correct it"));
    Wrong(what.to_owned(), remedy.to_owned())
}
