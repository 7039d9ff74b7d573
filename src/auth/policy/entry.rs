//! One `[[caller]]` of the file.

use std::{fmt, sync::Arc};

use super::{
    Bounds, Environments,
    grants::{Granted, Grants},
};
use crate::auth::{Scope, Scopes};

/// One `[[caller]]` of the file.
#[derive(Debug)]
pub struct Entry {
    /// Whom it is about.
    pub who: Who,
    /// Who that is, for people.
    pub description: String,
    /// Whether a scope counts only where the caller's token has a scope of the same name.
    pub narrowed_by_token: bool,
    pub(super) granted: Arc<Granted>,
}

/// Whom an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The caller of exactly this name.
    Named(String),
    /// Every caller with a token of this issuer that holds this scope.
    Holding {
        /// Who issued the token.
        issuer: String,
        /// What it holds.
        token_scope: String,
    },
}

impl Entry {
    /// What it allows a caller whose token holds `token_scopes`.
    pub(super) fn grants(&self, token_scopes: &[String]) -> Grants {
        let grants = Grants::of(&self.granted);
        if !self.narrowed_by_token {
            return grants;
        }
        let held: Scopes = token_scopes.iter().filter_map(|name| Scope::named(name)).collect();
        grants.within(held)
    }

    /// Where it allows `scope`, before a token narrows it.
    #[must_use]
    pub fn environments(&self, scope: Scope) -> Environments<'_> {
        self.granted.environments_of(scope)
    }

    /// How much of it.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.granted.bounds
    }
}

impl Who {
    pub(super) fn is_held_in(&self, token_scopes: &[String]) -> bool {
        match self {
            Self::Named(_) => false,
            Self::Holding { token_scope, .. } => token_scopes.contains(token_scope),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Holding { issuer, token_scope } => write!(f, "{issuer} with the token scope {token_scope}"),
        }
    }
}
