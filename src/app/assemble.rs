//! From the configuration to what the server is made of.

use std::{collections::HashMap, sync::Arc};

use super::{AppError, Settings};
use crate::{
    api,
    auth::{Authenticator, Tokens},
    config::{self, Config},
    engine::{self, Limits, QueueLimits, Route, Routes},
    pingone::{self, Client},
    store::{self, Role},
};

impl Settings {
    /// Prepares what `config` describes. Nothing is sent yet.
    ///
    /// # Errors
    /// [`AppError::PingOne`] when no client can be made of a credential, [`AppError::Reload`] when the policy cannot be used.
    pub fn of(config: &Config) -> Result<Self, AppError> {
        let (policy, policy_reader) = super::policy(config.policy_file.as_deref())?;
        Ok(Self {
            access: access(&config.database),
            migrate: config.migrate,
            hold: config.hold,
            engine: engine::Settings {
                role: config.role,
                routes: Routes { elsewhere: config.role == Role::Api, ..routes(&config.pingone)? },
                policy: config.retry.clone(),
                grace: config.shutdown_grace,
                queue: QueueLimits { interactive: config.queue_limits.0, bulk: config.queue_limits.1 },
                stale_after: config.stale_after,
                retention: config.retention,
            },
            api: api::Options {
                concurrent_calls: config.max_concurrent_calls as usize,
                reflection: config.reflection,
            },
            admission: api::Admission { authenticator: authenticator(config)?, policy },
            policy_reader,
        })
    }
}

/// How callers say who they are.
///
/// # Errors
/// [`AppError::Tokens`] for issuers that no tokens can be verified of.
fn authenticator(config: &Config) -> Result<Authenticator, AppError> {
    let issuers = config.oidc.clone();
    let tokens = if issuers.is_empty() { None } else { Some(Tokens::new(issuers)?) };
    Ok(Authenticator::new(tokens, false))
}

/// Where Postgres is.
#[must_use]
pub fn access(database: &config::Database) -> store::Access {
    store::Access {
        url: database.url.clone(),
        direct_url: database.direct_url.clone(),
        pooled: database.pooled,
        connections: database.connections,
    }
}

/// How each configured environment is reached. A credential that serves several has one client.
///
/// # Errors
/// [`AppError::PingOne`] when no client can be made of a credential.
pub fn routes(pingone: &config::PingOne) -> Result<Routes, AppError> {
    let client = |access: &config::Access| {
        let mut settings = pingone::Settings::new(access.api.clone(), access.credential.clone());
        settings.attempt_deadline = pingone.attempt_deadline;
        settings.connect_timeout = pingone.connect_timeout;
        Client::new(settings)
    };
    let limits = |limits: config::Limits| Limits { rate: limits.rate, max_in_flight: limits.max_in_flight };
    let common = pingone.access.as_ref().map(client).transpose()?;
    let limit_groups: HashMap<Arc<str>, f64> =
        pingone.limit_groups.iter().map(|(name, rate)| (Arc::from(name.as_str()), *rate)).collect();
    let mut own = HashMap::new();
    for (id, environment) in &pingone.own {
        let client = match &environment.access {
            Some(access) => Some(client(access)?),
            None => common.clone(),
        };
        if let Some(client) = client {
            // The very name that the group is listed under.
            let of =
                |name: &String| limit_groups.get_key_value(name.as_str()).map(|(name, _)| Arc::clone(name));
            let limit_group = environment.limit_group.as_ref().and_then(of);
            own.insert(*id, Route { client, limits: limits(environment.limits), limit_group });
        }
    }
    Ok(Routes {
        own,
        default: common.map(|client| Route { client, limits: limits(pingone.limits), limit_group: None }),
        default_serves: pingone.served.as_ref().map(|served| served.iter().copied().collect()),
        limit_groups,
        elsewhere: false,
    })
}
