//! What a client needs to know: addresses, credential, deadlines. Prints no secret.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::{device::EnvironmentId, reload::Current};

use super::{ApiPath, AuthPath, token::bearer};

/// How a client reaches PingOne.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The base of the API.
    pub api: ApiPath,
    /// What to show there.
    pub credential: Credential,
    /// Its secret or token as it is now, where it may change. Whoever makes it asks [`Credential::accepts`].
    pub secret: Option<Current<SecretString>>,
    /// How long an attempt may take with everything in it: token, connection, TLS, the answer's body.
    pub attempt_deadline: Duration,
    /// How long a connection may take, TLS included.
    pub connect_timeout: Duration,
    /// How many unused connections are kept open.
    pub idle_connections: usize,
}

impl Settings {
    /// The documented defaults: 10 s for an attempt, 3 s of it to connect.
    #[must_use]
    pub const fn new(api: ApiPath, credential: Credential) -> Self {
        Self {
            api,
            credential,
            secret: None,
            attempt_deadline: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            idle_connections: 64,
        }
    }
}

/// What PingOne knows us by.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A worker application, which gets itself tokens (OAuth 2 client credentials).
    ClientSecret {
        /// The base of the token endpoint.
        auth: AuthPath,
        /// The environment the application lives in.
        environment: EnvironmentId,
        /// Its client id.
        client_id: String,
        /// Its secret.
        client_secret: SecretString,
        /// Where the secret goes, as the application is set up.
        method: ClientAuth,
    },
    /// A token that somebody else got; good until it ends.
    AccessToken(SecretString),
}

impl Credential {
    /// Its secret, or the token itself.
    pub(crate) const fn secret(&self) -> &SecretString {
        match self {
            Self::ClientSecret { client_secret, .. } => client_secret,
            Self::AccessToken(token) => token,
        }
    }

    /// Whether `secret` could stand in the place of its secret or token.
    #[must_use]
    pub fn accepts(&self, secret: &SecretString) -> bool {
        match self {
            Self::ClientSecret { .. } => !secret.expose_secret().is_empty(),
            Self::AccessToken(_) => bearer(secret).is_some(),
        }
    }
}

/// How a worker application shows its secret. PingOne refuses the other way than the one it is set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// In the `Authorization` header: `CLIENT_SECRET_BASIC`.
    Basic,
    /// In the form: `CLIENT_SECRET_POST`.
    Post,
}

/// Settings no client can be made of.
#[derive(Debug, thiserror::Error)]
pub enum PingOneError {
    /// A fixed token that is no token.
    #[error(
        "the access token is empty or holds characters no token has; is there a line break or a quote in it?"
    )]
    AccessToken,
    /// A worker application without id or secret.
    #[error("the client id and the client secret must not be empty")]
    EmptyCredential,
    /// Deadlines nothing could meet.
    #[error(
        "the attempt deadline and the connect timeout must be more than zero, the latter no longer than the former"
    )]
    Deadlines,
    /// No HTTP client, most often for want of trusted certificates.
    #[error("cannot prepare TLS; are the system's trusted certificates installed (ca-certificates)?")]
    Tls(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn settings_print_no_secret() -> Result<(), Box<dyn Error>> {
        let api = ApiPath::parse("https://api.pingone.eu")?;
        let worker = Credential::ClientSecret {
            auth: AuthPath::parse("https://auth.pingone.eu")?,
            environment: EnvironmentId::parse("abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6")?,
            client_id: "the-client".to_owned(),
            client_secret: SecretString::from("hunter2"),
            method: ClientAuth::Basic,
        };
        let printed = format!("{:?}", Settings::new(api.clone(), worker));
        assert!(printed.contains("the-client") && !printed.contains("hunter2"), "{printed}");
        let printed =
            format!("{:?}", Settings::new(api, Credential::AccessToken(SecretString::from("hunter2"))));
        assert!(!printed.contains("hunter2"), "{printed}");
        Ok(())
    }
}
