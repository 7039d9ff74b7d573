//! Asks an issuer for its keys, once. Nothing is followed anywhere, and nothing is read without an end.

use std::{error::Error, time::Duration};

use reqwest::{Client, StatusCode, Url, header::ACCEPT, redirect::Policy};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{
    Algorithm, Issuer, JwksUrl,
    issuer::{Place, safe_url},
    jwk::KeySet,
    keys_error::KeysError,
};
use crate::redact::Redacted;

/// How long it may take in all.
const DEADLINE: Duration = Duration::from_secs(5);
const LARGEST: usize = 256 * 1024;
const USER_AGENT: &str = concat!("pingone-unblock/", env!("CARGO_PKG_VERSION"));

/// Where the keys of one issuer come from.
#[derive(Debug)]
pub(super) struct Source {
    http: Client,
    issuer: String,
    from: JwksUrl,
    algorithms: Vec<Algorithm>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// What keys are fetched with: without proxies that only the environment knows of.
pub(super) fn http_client() -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        // Minutes pass between two requests: the server's end of a connection would be gone.
        .pool_max_idle_per_host(0)
        .build()
}

impl Source {
    pub(super) fn new(http: Client, issuer: &Issuer) -> Self {
        let Issuer { issuer: name, jwks_url, algorithms, .. } = issuer;
        let algorithms = algorithms.iter().copied().collect();
        Self { http, issuer: name.clone(), from: jwks_url.clone(), algorithms }
    }

    /// The issuer's name.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The keys as they are published now.
    pub(super) async fn fetch(&self) -> Result<KeySet, KeysError> {
        let deadline = Instant::now() + DEADLINE;
        let keys = async {
            let document = match &self.from.0 {
                Place::Keys(url) => self.get(url.clone()).await?,
                Place::Discovery(url) => self.get(self.discover(url.clone()).await?).await?,
            };
            KeySet::read(&document, &self.algorithms)
        };
        timeout_at(deadline, keys).await.unwrap_or(Err(KeysError::Late))
    }

    /// Where the issuer says its keys are.
    async fn discover(&self, url: Url) -> Result<Url, KeysError> {
        let document = self.get(url).await?;
        let Discovery { issuer, jwks_uri } =
            serde_json::from_slice(&document).map_err(|_| KeysError::NotDiscovery)?;
        if issuer != self.issuer {
            return Err(KeysError::OtherIssuer);
        }
        safe_url(&jwks_uri).map_err(KeysError::Address)
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>, KeysError> {
        let request = self.http.get(url).header(ACCEPT, "application/json, application/jwk-set+json");
        let mut response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(KeysError::Redirect),
            status => return Err(KeysError::Status(status.as_u16())),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(KeysError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// What was at the bottom of it, such as `Connection refused`.
fn unreachable(error: reqwest::Error) -> KeysError {
    let error = error.without_url();
    let mut deepest: &dyn Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    KeysError::Unreachable(Redacted::of(&deepest.to_string(), 200))
}
