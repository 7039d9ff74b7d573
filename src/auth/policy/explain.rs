//! Why a caller may not do something, in words.

use super::{Environments, Policy, Who};
use crate::{auth::Scope, device::EnvironmentId, job::Caller};

impl Policy {
    /// Why `caller`, whose token holds `token_scopes`, does not have `scope` in `environment`, or where none is given, anywhere.
    /// Nothing where it has.
    #[must_use]
    pub fn why_not(
        &self,
        caller: &Caller,
        token_scopes: &[String],
        scope: Scope,
        environment: Option<EnvironmentId>,
    ) -> Option<String> {
        let has = |environments: Environments<'_>| match (environment, environments) {
            (Some(environment), environments) => environments.have(environment),
            (None, Environments::All) => true,
            (None, Environments::Only(some)) => !some.is_empty(),
        };
        if has(self.grants(caller, token_scopes).environments(scope)) {
            return None;
        }
        let mut theirs = self.entries_of(caller, token_scopes).peekable();
        if theirs.peek().is_none() {
            return Some(self.why_unknown(caller));
        }
        let mut elsewhere = Vec::new();
        for entry in theirs {
            match entry.environments(scope) {
                allowed if has(allowed) => {
                    return Some(format!(
                        "its token does not hold the scope {scope}, and narrows what is allowed"
                    ));
                }
                Environments::Only(some) => elsewhere.extend(some.iter().map(ToString::to_string)),
                Environments::All => {}
            }
        }
        Some(match elsewhere.as_slice() {
            [] => "no [[caller]] that is about it allows it".to_owned(),
            some => format!("it is allowed only in {}", some.join(", ")),
        })
    }

    fn why_unknown(&self, caller: &Caller) -> String {
        let issuer = caller.as_str().split_once('|').map(|(issuer, _)| issuer);
        let scopes: Vec<&str> = self
            .entries()
            .iter()
            .filter_map(|entry| match &entry.who {
                Who::Holding { issuer: of, token_scope } if Some(of.as_str()) == issuer => {
                    Some(token_scope.as_str())
                }
                Who::Holding { .. } | Who::Named(_) => None,
            })
            .collect();
        match scopes.as_slice() {
            [] => "no [[caller]] is about it".to_owned(),
            some => format!("no [[caller]] is about it, unless its token holds {}", some.join(" or ")),
        }
    }
}
