//! Where each environment's requests go, and within which limits.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{device::EnvironmentId, pingone::Client};

/// How fast an environment may be sent to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests per second; above zero, infinite: no limit.
    pub rate: f64,
    /// Requests at once; at least one.
    pub max_in_flight: u32,
}

/// How an environment is reached.
#[derive(Debug, Clone)]
pub struct Route {
    /// With its credential.
    pub client: Client,
    /// Within its limits.
    pub limits: Limits,
    /// The licence whose rate it shares with others: one of [`Routes::limit_groups`].
    pub limit_group: Option<Arc<str>>,
}

/// The environments that are served.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// Environments with settings of their own.
    pub own: HashMap<EnvironmentId, Route>,
    /// How all others are reached, if they are.
    pub default: Option<Route>,
    /// Which others; nothing: any.
    pub default_serves: Option<HashSet<EnvironmentId>>,
    /// The licences whose rate several environments share: requests per second.
    pub limit_groups: HashMap<Arc<str>, f64>,
    /// Whether other replicas send for environments that have no route here: this one only records their jobs.
    pub elsewhere: bool,
}

impl Routes {
    /// How `environment` is reached; nothing when it is not served.
    #[must_use]
    pub fn find(&self, environment: EnvironmentId) -> Option<&Route> {
        self.own.get(&environment).or_else(|| self.default.as_ref().filter(|_| self.by_default(environment)))
    }

    /// Whether jobs of `environment` are taken.
    #[must_use]
    pub fn serves(&self, environment: EnvironmentId) -> bool {
        self.find(environment).is_some() || (self.elsewhere && self.by_default(environment))
    }

    /// Every client, once.
    pub(super) fn clients(&self) -> Vec<Client> {
        let mut clients: Vec<Client> = Vec::new();
        for route in self.own.values().chain(&self.default) {
            if !clients.iter().any(|known| known.is(&route.client)) {
                clients.push(route.client.clone());
            }
        }
        clients
    }

    fn by_default(&self, environment: EnvironmentId) -> bool {
        self.default_serves.as_ref().is_none_or(|served| served.contains(&environment))
    }
}
