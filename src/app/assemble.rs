//! From the configuration to what the server is made of.

use std::{collections::HashMap, sync::Arc};

use super::{AppError, Reloads, Settings};
use crate::{
    api,
    auth::{Authenticator, Tokens},
    config::{self, Config},
    engine::{self, Limits, QueueLimits, Route, Routes},
    pingone::{self, Client},
    store::{self, Role, Store},
};

impl Settings {
    /// Prepares what `config` describes. Nothing is sent yet.
    ///
    /// # Errors
    /// [`AppError::PingOne`] when no client can be made of a credential, [`AppError::Reload`] when the policy cannot be used.
    pub fn of(config: &Config) -> Result<Self, AppError> {
        let mut reloads = Reloads::default();
        reloads.database(&config.database)?;
        let routes = reloading_routes(&config.pingone, &mut reloads)?;
        let (policy, reader) = super::policy(config.policy_file.as_deref())?;
        if let Some(reader) = reader {
            reloads.add(reader);
        }
        Ok(Self {
            access: access(&config.database),
            migrate: config.migrate,
            hold: config.hold,
            engine: engine::Settings {
                role: config.role,
                routes: Routes { elsewhere: config.role == Role::Api, ..routes },
                policy: config.retry.clone(),
                grace: config.shutdown_grace,
                queue: QueueLimits { interactive: config.queue_limits.0, bulk: config.queue_limits.1 },
                stale_after: config.stale_after,
                retention: config.retention,
                audit_retention: config.audit_retention,
            },
            api: api::Options {
                concurrent_calls: config.max_concurrent_calls as usize,
                reflection: config.reflection,
            },
            admission: api::Admission {
                authenticator: authenticator(config)?,
                policy,
                denials: api::Denials::default(),
            },
            reloads,
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

/// The store of the configuration, for commands that need no more.
///
/// # Errors
/// [`AppError`] when an address or a key cannot be used.
pub fn store(database: &config::Database) -> Result<Store, AppError> {
    let mut reloads = Reloads::default();
    reloads.database(database)?;
    Ok(reloads.applied_to(Store::new(&access(database))?).0)
}

/// How each configured environment is reached. A credential that serves several has one client.
///
/// # Errors
/// [`AppError::PingOne`] when no client can be made of a credential.
pub fn routes(pingone: &config::PingOne) -> Result<Routes, AppError> {
    reloading_routes(pingone, &mut Reloads::default())
}

/// The same; credentials that stand in files are read anew by `reloads`.
fn reloading_routes(pingone: &config::PingOne, reloads: &mut Reloads) -> Result<Routes, AppError> {
    let mut client = |access: &config::Access| -> Result<Client, AppError> {
        let mut settings = pingone::Settings::new(access.api.clone(), access.credential.clone());
        if let Some(file) = &access.secret_file {
            settings.secret = Some(reloads.credential(file.clone(), &access.credential)?);
        }
        settings.attempt_deadline = pingone.attempt_deadline;
        settings.connect_timeout = pingone.connect_timeout;
        Ok(Client::new(settings)?)
    };
    let limits = |limits: config::Limits| Limits { rate: limits.rate, max_in_flight: limits.max_in_flight };
    let common = pingone.access.as_ref().map(&mut client).transpose()?;
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
