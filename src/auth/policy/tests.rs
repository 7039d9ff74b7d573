//! Policies as their authors meet them: text in, rights or mistakes out.

mod granted;
mod mistakes;

use std::error::Error;

use super::*;
use crate::auth::Scope;

type Outcome = Result<(), Box<dyn Error>>;

const HERE: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
const THERE: &str = "6697f628-7712-4e71-b52b-920ba0635020";
const ISSUER: &str = "https://auth.example.com/as";
const DESK: &str = "https://auth.example.com/as|desk";

fn policy(text: &str) -> Result<Policy, Mistakes> {
    Policy::parse(text.as_bytes())
}

fn id(text: &str) -> Result<EnvironmentId, crate::device::InvalidId> {
    EnvironmentId::parse(text)
}

fn named(name: &str) -> Result<Caller, &'static str> {
    Caller::named(name).ok_or("no caller's name")
}

fn held(scopes: &[&str]) -> Vec<String> {
    scopes.iter().map(|scope| (*scope).to_owned()).collect()
}

/// What the grants allow in that environment, in words.
fn scopes_in(grants: &Grants, environment: EnvironmentId) -> Vec<&'static str> {
    let granted = Scope::ALL.into_iter().filter(|scope| grants.in_environment(*scope, environment));
    granted.map(Scope::name).collect()
}
