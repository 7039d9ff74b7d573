//! Why the keys of an issuer cannot be had, as whoever set it up is told.

use super::IssuerError;
use crate::redact::Redacted;

/// Why the keys of an issuer cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No connection, or one that broke.
    #[error("it cannot be reached ({0}); is the address right, and does the network let it through?")]
    Unreachable(Redacted),
    /// No answer in time.
    #[error("it did not answer within 5 s")]
    Late,
    /// Another place, where keys would not be those of the issuer.
    #[error("it answers with a redirect, which is not followed; give the address it leads to")]
    Redirect,
    /// No success.
    #[error("it answers with status {0}; is the address right?")]
    Status(u16),
    /// More than keys are.
    #[error("it answers with more than 256 KiB or 100 keys")]
    TooLarge,
    /// No discovery document.
    #[error("it answers with no OpenID Connect configuration; give the address of the keys")]
    NotDiscovery,
    /// The configuration of somebody else.
    #[error(
        "its configuration is that of another issuer; copy the issuer from a token's `iss`, to the letter"
    )]
    OtherIssuer,
    /// A configuration that leads to where no keys may be fetched.
    #[error("its configuration leads to keys that must not be fetched: {0}")]
    Address(IssuerError),
    /// No JSON Web Key Set.
    #[error("it answers with no set of keys (JWKS)")]
    NotKeys,
    /// A set without a key that can be used.
    #[error(
        "it publishes no key that can be used: RSA of 2048 bits or more, P-256, P-384 or Ed25519, for signing"
    )]
    NoKey,
}

impl KeysError {
    /// Its name in metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Late => "timeout",
            Self::Redirect => "redirect",
            Self::Status(_) => "status",
            Self::TooLarge => "too_large",
            Self::NotDiscovery | Self::OtherIssuer | Self::Address(_) => "discovery",
            Self::NotKeys => "not_keys",
            Self::NoKey => "no_key",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::telemetry::metrics;

    #[test]
    fn every_outcome_is_counted_from_0_on() {
        let errors = [
            KeysError::Unreachable(Redacted::default()),
            KeysError::Late,
            KeysError::Redirect,
            KeysError::Status(500),
            KeysError::TooLarge,
            KeysError::NotDiscovery,
            KeysError::OtherIssuer,
            KeysError::Address(IssuerError::NotHttps),
            KeysError::NotKeys,
            KeysError::NoKey,
        ];
        let names: BTreeSet<_> = errors.iter().map(KeysError::name).chain(["ok"]).collect();
        assert_eq!(names, metrics::FETCHES.into());
    }
}
