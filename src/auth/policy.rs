//! Who may do what: a TOML file, read whole or not at all. Nothing is allowed that it does not say. docs/policy.md has the keys.

mod bounds;
mod demands;
mod entry;
mod explain;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod grants;
mod mistake;
mod read;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{device::EnvironmentId, job::Caller};

pub use bounds::{Bounds, DeviceBound};
pub use demands::Demands;
pub use entry::{Entry, Who};
pub use grants::{Environments, Grants};
pub use mistake::{Mistake, Mistakes};

use grants::Granted;

/// What is allowed, to whom, within which bounds, and what has to be said.
#[derive(Debug)]
pub struct Policy {
    version: Arc<str>,
    entries: Vec<Entry>,
    /// The places in `entries`, by the caller's name.
    named: HashMap<String, usize>,
    /// The same by issuer, for those who hold a scope of a token.
    holding: HashMap<String, Vec<usize>>,
    /// What everybody else may do: nothing.
    nobody: Arc<Granted>,
    /// What `anonymous` may do: nothing, or all where authentication is off.
    anonymous: Arc<Granted>,
    demands: Demands,
    own_demands: BTreeMap<EnvironmentId, Demands>,
    device_bound: Option<DeviceBound>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`Mistakes`]: every one there is, each with its line.
    pub fn parse(text: &[u8]) -> Result<Self, Mistakes> {
        read::policy(text)
    }

    /// What holds where authentication is off: `anonymous` may do everything. The bound on each device holds still.
    #[must_use]
    pub fn open() -> Self {
        Self {
            version: Arc::from("none"),
            entries: Vec::new(),
            named: HashMap::new(),
            holding: HashMap::new(),
            nobody: Arc::new(Granted::default()),
            anonymous: Arc::new(Granted::everything()),
            demands: Demands::default(),
            own_demands: BTreeMap::new(),
            device_bound: Some(DeviceBound::default()),
        }
    }

    /// The same, with any device unblocked as often as anybody likes: for simulated ones.
    #[must_use]
    pub fn without_device_bound(self) -> Self {
        Self { device_bound: None, ..self }
    }

    /// The first 12 digits of the SHA-256 of the file, in hexadecimal; `none` where authentication is off.
    #[must_use]
    pub const fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// What `caller` may do, whose token holds `token_scopes`: all that the entries allow together that are theirs. Of their
    /// bounds the smallest holds.
    #[must_use]
    pub fn grants(&self, caller: &Caller, token_scopes: &[String]) -> Grants {
        if *caller == Caller::anonymous() {
            return Grants::of(&self.anonymous);
        }
        let theirs = self.entries_of(caller, token_scopes).map(|entry| entry.grants(token_scopes));
        theirs.reduce(|all, more| all.and(&more)).unwrap_or_else(|| Grants::of(&self.nobody))
    }

    /// The entries that are about `caller`, whose token holds `token_scopes`.
    pub fn entries_of<'a>(
        &'a self,
        caller: &Caller,
        token_scopes: &'a [String],
    ) -> impl Iterator<Item = &'a Entry> {
        let named = self.named.get(caller.as_str());
        let issuer = caller.as_str().split_once('|').map(|(issuer, _)| issuer);
        let holding = issuer.and_then(|issuer| self.holding.get(issuer)).into_iter().flatten();
        let held = holding.filter(move |at| self.entries[**at].who.is_held_in(token_scopes));
        named.into_iter().chain(held).map(|at| &self.entries[*at])
    }

    /// What has to be said for an unblock in `environment`.
    #[must_use]
    pub fn demands(&self, environment: EnvironmentId) -> &Demands {
        self.own_demands.get(&environment).unwrap_or(&self.demands)
    }

    /// The same where an environment says nothing of its own.
    #[must_use]
    pub const fn demands_elsewhere(&self) -> &Demands {
        &self.demands
    }

    /// How often one device may be unblocked, whoever asks.
    #[must_use]
    pub const fn device_bound(&self) -> Option<DeviceBound> {
        self.device_bound
    }

    /// Its entries, in the order of the file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The environments that it names, for what they allow or demand.
    #[must_use]
    pub fn environments(&self) -> BTreeSet<EnvironmentId> {
        let granted = self.entries.iter().flat_map(|entry| entry.granted.environments());
        granted.chain(self.own_demands.keys().copied()).collect()
    }
}
