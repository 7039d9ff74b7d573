//! From the configuration to what the server is made of.

use std::collections::HashMap;

use super::{AppError, Settings};
use crate::{
    api,
    config::{self, Config},
    engine::{self, Limits, Route, Routes},
    pingone::{self, Client},
    store::{self, Role},
};

impl Settings {
    /// Prepares what `config` describes. Nothing is sent yet.
    ///
    /// # Errors
    /// [`AppError::PingOne`] when no client can be made of a credential.
    pub fn of(config: &Config) -> Result<Self, AppError> {
        Ok(Self {
            access: access(&config.database),
            migrate: config.migrate,
            hold: config.hold,
            engine: engine::Settings {
                role: config.role,
                routes: Routes { elsewhere: config.role == Role::Api, ..routes(&config.pingone)? },
                policy: config.retry.clone(),
                grace: config.shutdown_grace,
                retention: config.retention,
            },
            api: api::Options {
                concurrent_calls: config.max_concurrent_calls as usize,
                reflection: config.reflection,
            },
        })
    }
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
    let mut own = HashMap::new();
    for (id, environment) in &pingone.own {
        let client = match &environment.access {
            Some(access) => Some(client(access)?),
            None => common.clone(),
        };
        if let Some(client) = client {
            own.insert(*id, Route { client, limits: limits(environment.limits) });
        }
    }
    Ok(Routes {
        own,
        default: common.map(|client| Route { client, limits: limits(pingone.limits) }),
        default_serves: pingone.served.as_ref().map(|served| served.iter().copied().collect()),
        elsewhere: false,
    })
}
