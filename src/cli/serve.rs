//! `serve`: the server.

use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;

use super::{error::Error, exit::Exit, screen::Screen, signals};
use crate::{
    app::{App, AppError, Listeners, Settings},
    config::{Config, ServeArgs},
    store::StoreError,
    telemetry,
};

/// Runs the server: answers calls, sends to PingOne
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: ServeArgs,
}

const NO_POLICY: &str = "UNBLOCK_POLICY_FILE: callers are known by their tokens, and nothing says what they may do: name a policy, \
                         as docs/policy.md shows";
/// The last traces and logs are given this long.
const LAST_TELEMETRY: Duration = Duration::from_secs(2);

impl Serve {
    pub(super) async fn run(self, _screen: &Screen) -> Result<Exit, Error> {
        let config = Config::load(&self.settings, |name| std::env::var_os(name))?;
        if !config.oidc.is_empty() && config.policy_file.is_none() {
            return Err(Error::Unusable(NO_POLICY.to_owned()));
        }
        let telemetry = telemetry::init(&config.telemetry).map_err(Error::failed)?;
        let shutdown = signals::shutdown().map_err(Error::failed)?;
        if config.oidc.is_empty() {
            tracing::warn!(listen = %config.listen, "callers are NOT authenticated: whoever reaches this port may unblock devices");
            if config.policy_file.is_some() {
                tracing::warn!(
                    "the policy allows `anonymous` nothing: name an issuer, or every call is refused"
                );
            }
        } else if !config.listen.ip().to_canonical().is_loopback() {
            tracing::warn!(listen = %config.listen, "tokens come unencrypted to this port: have a proxy in front of it end TLS");
        }
        let app = App::build(Settings::of(&config).map_err(unusable)?).await.map_err(Error::failed)?;
        let app = app.with_levels(telemetry.levels());
        let listeners = Listeners {
            grpc: bind(config.listen, "--listen").await?,
            admin: bind(config.admin_listen, "--admin-listen").await?,
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), grpc = %config.listen, admin = %config.admin_listen, "serving");
        let ended = app.run(listeners, shutdown).await;
        telemetry.shutdown(LAST_TELEMETRY).await;
        match ended {
            Ok(()) => Ok(Exit::Done),
            // Another database is what has to be configured.
            Err(AppError::Store(
                error @ (StoreError::SchemaNewer { .. } | StoreError::Lanes { .. } | StoreError::Address(_)),
            )) => Err(Error::Unusable(error.to_string())),
            Err(error) => Err(Error::failed(error)),
        }
    }
}

fn unusable(error: AppError) -> Error {
    match error {
        AppError::Reload(error) => Error::Unusable(error.to_string()),
        other => Error::failed(other),
    }
}

async fn bind(address: std::net::SocketAddr, flag: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::Unusable(format!("cannot listen on {address}: {error}; choose another with {flag}"))
    })
}
