//! What a caller may do at all.

use std::fmt;

/// One kind of action. Each is granted in environments; nothing is granted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Have single devices unblocked; cancel and redrive such jobs.
    Unblock,
    /// Have batches of devices unblocked; pause, resume, cancel and retry them.
    Bulk,
    /// See jobs, batches, devices and environments.
    Read,
    /// See telephone numbers and e-mail addresses unmasked.
    Contacts,
    /// Pause and resume environments.
    Operate,
    /// Read the audit trail.
    Audit,
}

impl Scope {
    /// Every scope there is.
    pub const ALL: [Self; 6] =
        [Self::Unblock, Self::Bulk, Self::Read, Self::Contacts, Self::Operate, Self::Audit];

    /// Its name in policies and tokens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unblock => "unblock",
            Self::Bulk => "bulk",
            Self::Read => "read",
            Self::Contacts => "contacts",
            Self::Operate => "operate",
            Self::Audit => "audit",
        }
    }

    /// The scope of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether `scope` is among them.
    #[must_use]
    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it_and_nothing_else() {
        for scope in Scope::ALL {
            assert_eq!(Scope::named(scope.name()), Some(scope));
            let set: Scopes = [scope].into_iter().collect();
            for other in Scope::ALL {
                assert_eq!(set.has(other), other == scope);
                assert!(Scopes::all().has(other));
                assert!(!Scopes::default().has(other));
            }
        }
        assert_eq!(Scope::named("root"), None);
    }
}
