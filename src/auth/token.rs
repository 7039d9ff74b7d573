//! Bearer tokens: signed JWTs of trusted issuers (RFC 9068), verified here with the keys the issuers publish.

mod algorithm;
mod claims;
mod clock;
mod error;
mod fetch;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod issuer;
mod jwk;
mod keys;
mod keys_error;
mod parse;
mod seen;

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics;

use fetch::{Source, http_client};
use keys::Keys;
use seen::{Seen, fingerprint};

pub use algorithm::Algorithm;
pub use claims::Claims;
pub use clock::Clock;
pub use error::{Kind, TokenError};
pub use issuer::{Issuer, IssuerError, JwksUrl, KEYS_MAX_AGE, LEEWAY, SubjectClaim, TokenType};
pub use keys_error::KeysError;
use parse::parse;

/// How often [`Tokens::run`] looks whether keys are to be fetched.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Verifies the bearer tokens of some issuers. Cheap to clone; clones share keys.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trusted: Vec<Trusted>,
    clock: Clock,
    seen: Seen,
}

#[derive(Debug)]
struct Trusted {
    issuer: Issuer,
    keys: Keys,
}

/// Issuers that no tokens can be verified of.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// Two issuers of one name.
    #[error("the issuer {0} is listed twice")]
    Twice(String),
    /// An issuer whose tokens would be good whoever they are for.
    #[error("the issuer {0} needs an audience")]
    NoAudience(String),
    /// No HTTP client, most often for want of trusted certificates.
    #[error("cannot prepare TLS; are the system's trusted certificates installed (ca-certificates)?")]
    Tls(#[source] reqwest::Error),
}

impl Tokens {
    /// Asks nobody anything yet: keys are fetched by [`Tokens::run`], and when they are first needed.
    ///
    /// # Errors
    /// [`TokensError`] for issuers that cannot be told apart, or without an audience.
    pub fn new(issuers: Vec<Issuer>) -> Result<Self, TokensError> {
        Self::with_clock(issuers, Clock::default())
    }

    /// The same, by another clock: for tests.
    ///
    /// # Errors
    /// As [`Tokens::new`].
    pub fn with_clock(issuers: Vec<Issuer>, clock: Clock) -> Result<Self, TokensError> {
        let http = http_client().map_err(TokensError::Tls)?;
        let mut trusted: Vec<Trusted> = Vec::new();
        for issuer in issuers {
            if issuer.audience.is_empty() {
                return Err(TokensError::NoAudience(issuer.issuer));
            }
            if trusted.iter().any(|other| other.issuer.issuer == issuer.issuer) {
                return Err(TokensError::Twice(issuer.issuer));
            }
            let source = Source::new(http.clone(), &issuer);
            let keys = Keys::new(source, clock.clone(), issuer.keys_max_age);
            trusted.push(Trusted { issuer, keys });
        }
        Ok(Self(Arc::new(Inner { trusted, clock, seen: Seen::default() })))
    }

    /// What `token` says, if it is good: the text after `Bearer `.
    ///
    /// # Errors
    /// [`TokenError`] says why it is not, and what to do about it.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let verified = self.0.verify(token).await;
        metrics().security.token_verified(verified.as_ref().map_or_else(|error| error.name(), |_| "ok"));
        verified.map(Arc::unwrap_or_clone)
    }

    /// Keeps the keys of all issuers fresh until `stopped`.
    pub async fn run(self, stopped: CancellationToken) {
        while stopped.run_until_cancelled(self.refresh()).await.is_some() {
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Fetches those keys that are to be fetched by now.
    pub async fn refresh(&self) {
        for trusted in &self.0.trusted {
            trusted.keys.refresh().await;
        }
    }

    /// Asks every issuer for its keys: how many can be used, or why they cannot be had.
    pub async fn check(&self) -> Vec<(String, Result<usize, KeysError>)> {
        let mut found = Vec::new();
        for trusted in &self.0.trusted {
            found.push((trusted.keys.issuer().to_owned(), trusted.keys.check().await));
        }
        found
    }
}

impl Inner {
    async fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        let unverified = parse(token)?;
        let print = fingerprint(token);
        let current = |issuer: usize| self.trusted.get(issuer)?.keys.current();
        if let Some(claims) = self.seen.get(&print, self.clock.now(), current) {
            return Ok(claims);
        }
        let named = match &unverified.payload.iss {
            None => return Err(TokenError::ClaimMissing("iss")),
            Some(Value::String(name)) => name,
            Some(_) => return Err(TokenError::ClaimWrong("iss")),
        };
        let place = self.trusted.iter().position(|trusted| trusted.issuer.issuer == *named);
        let place = place.ok_or(TokenError::IssuerUnknown)?;
        let Trusted { issuer, keys } = &self.trusted[place];
        if !issuer.algorithms.contains(&unverified.header.algorithm) {
            return Err(TokenError::AlgorithmNotAllowed);
        }
        let keys = keys.verify(&unverified).await?;
        let now = self.clock.now();
        let claims = Arc::new(Claims::read(&unverified.header, &unverified.payload, issuer, now)?);
        self.seen.put(print, &claims, place, &keys, now);
        Ok(claims)
    }
}
