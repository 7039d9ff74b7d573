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
        for exposure in exposures(&config) {
            tracing::warn!(listen = %config.listen, "{exposure}");
        }
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

/// What nobody would notice otherwise; said at every start.
fn exposures(config: &Config) -> Vec<&'static str> {
    let mut said = Vec::new();
    if !config.knows_callers() {
        said.push("callers are NOT authenticated: whoever reaches this port may unblock devices");
        if config.policy_file.is_some() {
            said.push(
                "the policy allows `anonymous` nothing: name an issuer or authorities for callers' certificates, or every call is refused",
            );
        }
    }
    let on_the_network = config.tls.is_none() && !config.listen.ip().to_canonical().is_loopback();
    if on_the_network && config.oidc.is_empty() {
        said.push("the gRPC port is NOT encrypted: whoever listens on the way reads and changes calls; set UNBLOCK_TLS_CERT and UNBLOCK_TLS_KEY");
    } else if on_the_network {
        said.push("tokens come UNENCRYPTED to this port: whoever listens on the way may use them; set UNBLOCK_TLS_CERT and UNBLOCK_TLS_KEY, or have a proxy in front of it end TLS");
    }
    said
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, error::Error, ffi::OsString};

    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    const ISSUER: &[(&str, &str)] = &[
        ("UNBLOCK_OIDC_ISSUER", "https://auth.pingone.eu/one/as"),
        ("UNBLOCK_OIDC_AUDIENCE", "one"),
        ("UNBLOCK_POLICY_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/policy.toml")),
    ];
    /// They are there, and that is all that is asked of them here.
    const TLS: &[(&str, &str)] = &[("UNBLOCK_TLS_CERT", "/etc/passwd"), ("UNBLOCK_TLS_KEY", "/etc/passwd")];
    const ABROAD: &[(&str, &str)] = &[("UNBLOCK_LISTEN", "192.0.2.1:50051")];
    const ACCEPTED: &[(&str, &str)] = &[("UNBLOCK_INSECURE_NO_AUTH", "true")];

    fn said(given: &[&[(&str, &str)]]) -> Result<Vec<String>, Box<dyn Error>> {
        let least =
            [("UNBLOCK_DATABASE_URL", "postgres://u@localhost/unblock"), ("PINGONE_ACCESS_TOKEN", "a.b.c")];
        let variables: BTreeMap<&str, OsString> = given
            .iter()
            .copied()
            .flatten()
            .chain(&least)
            .map(|(name, value)| (*name, value.into()))
            .collect();
        let command = ServeArgs::augment_args(Command::new("serve").no_binary_name(true));
        let args = ServeArgs::from_arg_matches(&command.try_get_matches_from([""; 0])?)?;
        let config = Config::load(&args, |name| variables.get(name).cloned())?;
        let first = |said: &&str| said.split(':').next().unwrap_or_default().to_owned();
        Ok(exposures(&config).iter().map(first).collect())
    }

    #[test]
    fn what_is_open_is_said_and_nothing_where_nothing_is() -> Result<(), Box<dyn Error>> {
        let (anybody, plain) = ("callers are NOT authenticated", "the gRPC port is NOT encrypted");
        let tokens = "tokens come UNENCRYPTED to this port";
        let policy = "the policy allows `anonymous` nothing";
        for (given, expected) in [
            (&[][..], &[anybody][..]),
            (&[TLS], &[anybody]),
            (&[&ISSUER[2..]], &[anybody, policy]),
            (&[ABROAD, ACCEPTED], &[anybody, plain]),
            (&[ABROAD, ACCEPTED, TLS], &[anybody]),
            (&[ISSUER], &[]),
            (&[ABROAD, ISSUER], &[tokens]),
            (&[ABROAD, ISSUER, TLS], &[]),
        ] {
            assert_eq!(said(given)?, expected, "{given:?}");
        }
        Ok(())
    }
}
