//! What one caller may do.

use std::{collections::BTreeSet, sync::Arc};

use super::Bounds;
use crate::{
    auth::{Scope, Scopes},
    device::EnvironmentId,
};

/// What one caller may do. Cheap to make and to clone.
#[derive(Debug, Clone)]
pub struct Grants {
    granted: Arc<Granted>,
    /// Of that, what the token bears out.
    within: Scopes,
}

/// Where a scope is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environments<'a> {
    /// In every environment, also in those that nobody has seen yet.
    All,
    /// In these; none of them is nowhere.
    Only(&'a BTreeSet<EnvironmentId>),
}

/// What an entry allows, within its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Granted {
    /// For each scope, in the order of [`Scope::ALL`].
    reaches: [Reach; Scope::ALL.len()],
    pub(super) bounds: Bounds,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Reach {
    everywhere: bool,
    only: BTreeSet<EnvironmentId>,
}

static NOWHERE: BTreeSet<EnvironmentId> = BTreeSet::new();

impl Grants {
    pub(super) fn of(granted: &Arc<Granted>) -> Self {
        Self { granted: Arc::clone(granted), within: Scopes::all() }
    }

    /// Of these, what `scopes` has too.
    pub(super) fn within(self, scopes: Scopes) -> Self {
        Self { within: scopes, ..self }
    }

    /// These and `others`; of the bounds the smaller.
    pub(super) fn and(&self, others: &Self) -> Self {
        let mut both = Granted::nothing(self.bounds().smaller(*others.bounds()));
        for scope in Scope::ALL {
            both.grant(scope, self.environments(scope));
            both.grant(scope, others.environments(scope));
        }
        Self { granted: Arc::new(both), within: Scopes::all() }
    }

    /// Whether `scope` is granted in any environment.
    #[must_use]
    pub fn anywhere(&self, scope: Scope) -> bool {
        match self.environments(scope) {
            Environments::All => true,
            Environments::Only(environments) => !environments.is_empty(),
        }
    }

    /// Whether `scope` is granted in every environment.
    #[must_use]
    pub fn everywhere(&self, scope: Scope) -> bool {
        self.environments(scope) == Environments::All
    }

    /// Whether `scope` is granted in `environment`.
    #[must_use]
    pub fn in_environment(&self, scope: Scope, environment: EnvironmentId) -> bool {
        self.environments(scope).have(environment)
    }

    /// Where `scope` is granted.
    #[must_use]
    pub fn environments(&self, scope: Scope) -> Environments<'_> {
        if self.within.has(scope) {
            self.granted.environments_of(scope)
        } else {
            Environments::Only(&NOWHERE)
        }
    }

    /// How much of it.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.granted.bounds
    }
}

impl Environments<'_> {
    /// Whether `environment` is one of them.
    #[must_use]
    pub fn have(&self, environment: EnvironmentId) -> bool {
        match self {
            Self::All => true,
            Self::Only(environments) => environments.contains(&environment),
        }
    }
}

impl Granted {
    pub(super) fn nothing(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Every scope in every environment, without bounds.
    pub(super) fn everything() -> Self {
        let mut granted = Self::default();
        Scope::ALL.into_iter().for_each(|scope| granted.grant(scope, Environments::All));
        granted
    }

    /// Grants `scope` in `environments` too.
    pub(super) fn grant(&mut self, scope: Scope, environments: Environments<'_>) {
        let reach = &mut self.reaches[scope as usize];
        match environments {
            Environments::All => reach.everywhere = true,
            Environments::Only(environments) => reach.only.extend(environments),
        }
    }

    pub(super) fn environments_of(&self, scope: Scope) -> Environments<'_> {
        match &self.reaches[scope as usize] {
            Reach { everywhere: true, .. } => Environments::All,
            Reach { only, .. } => Environments::Only(only),
        }
    }

    /// Whether it grants `scope` anywhere.
    pub(super) fn reaches(&self, scope: Scope) -> bool {
        self.environments_of(scope) != Environments::Only(&NOWHERE)
    }

    /// The environments it names.
    pub(super) fn environments(&self) -> impl Iterator<Item = EnvironmentId> {
        self.reaches.iter().flat_map(|reach| reach.only.iter().copied())
    }
}
