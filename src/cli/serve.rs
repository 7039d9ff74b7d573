//! `serve`: the server.

use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;

use super::{error::Error, exit::Exit, screen::Screen, signals};
use crate::{
    app::{App, AppError, Listeners, Settings},
    auth::ClientAuth,
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

/// The last traces and logs are given this long.
const LAST_TELEMETRY: Duration = Duration::from_secs(2);

impl Serve {
    pub(super) async fn run(self, _screen: &Screen) -> Result<Exit, Error> {
        let config = Config::load(&self.settings, |name| std::env::var_os(name))?;
        let telemetry = telemetry::init(&config.telemetry).map_err(Error::failed)?;
        let shutdown = signals::shutdown().map_err(Error::failed)?;
        warn_of_the_open(&config);
        let app = App::build(Settings::of(&config).map_err(unusable)?).await.map_err(Error::failed)?;
        let app = app.with_levels(telemetry.levels());
        let listeners = Listeners {
            grpc: bind(config.listen, "--listen").await?,
            admin: bind(config.admin_listen, "--admin-listen").await?,
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), grpc = %config.listen, tls = tls_mode(&config), admin = %config.admin_listen, "serving");
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

/// At every start, of what nobody would notice otherwise.
fn warn_of_the_open(config: &Config) {
    let listen = config.listen;
    if !config.knows_callers() {
        tracing::warn!(%listen, "callers are NOT authenticated: whoever reaches this port may unblock devices");
        if config.policy_file.is_some() {
            tracing::warn!(
                "the policy allows `anonymous` nothing: name an issuer or authorities for callers' certificates, or every call is refused"
            );
        }
    }
    if config.tls.is_some() || listen.ip().to_canonical().is_loopback() {
        return;
    }
    if config.oidc.is_empty() {
        tracing::warn!(%listen, "the gRPC port is NOT encrypted: whoever listens on the way reads and changes calls; set UNBLOCK_TLS_CERT and UNBLOCK_TLS_KEY");
    } else {
        tracing::warn!(%listen, "tokens come UNENCRYPTED to this port: whoever listens on the way may use them; set UNBLOCK_TLS_CERT and UNBLOCK_TLS_KEY, or have a proxy in front of it end TLS");
    }
}

fn tls_mode(config: &Config) -> &'static str {
    match config.tls.as_ref().map(|tls| tls.clients.as_ref().map(|(_, auth)| *auth)) {
        None => "off",
        Some(None) => "on",
        Some(Some(ClientAuth::Optional)) => "on, certificates of callers optional",
        Some(Some(ClientAuth::Required)) => "on, certificates of callers required",
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
