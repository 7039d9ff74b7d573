//! Finds out who calls, by a bearer token or by the certificate of the connection.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Peer, TokenError, Tokens, token::Kind};
use crate::job::Caller;

/// The scheme of a token, in any case (RFC 9110).
const BEARER: &str = "bearer ";

/// Who calls, as far as their credentials say it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `issuer|subject` of the token, or the certificate's name.
    pub caller: Caller,
    /// The person the caller acts for, by a claim of the token.
    pub acting_for: Option<Arc<str>>,
    /// What the token itself was given for; a certificate says nothing of it.
    pub token_scopes: Vec<String>,
}

/// Why nobody knows who calls. What is shown is for the caller: fixed sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// There are no credentials.
    #[error(
        "this service has to know who calls: send `authorization: Bearer TOKEN`, or show a client certificate, as its operator tells"
    )]
    Missing,
    /// There is a token, and no issuer whose tokens are accepted.
    #[error("tokens are not accepted here; show a client certificate, and send no token")]
    TokensNotAccepted,
    /// The certificate is good, and of nobody.
    #[error(
        "the client certificate names nobody; get one with a URI, DNS name or e-mail address as subject alternative name"
    )]
    Nameless,
    /// The token is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token is good; whom it names has a name that is too long to be kept.
    #[error("the token's issuer and subject are longer than 512 characters; get one with a shorter subject")]
    NameTooLong,
}

impl Unidentified {
    /// What the caller can do about it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Missing => Kind::Missing,
            Self::TokensNotAccepted | Self::Nameless | Self::NameTooLong => Kind::Invalid,
            Self::Token(error) => error.kind(),
        }
    }
}

/// Finds out who calls. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Authenticator {
    tokens: Option<Tokens>,
    certificates: bool,
}

impl Authenticator {
    /// By tokens of these issuers, by certificates, by either, or, with neither, not at all.
    #[must_use]
    pub const fn new(tokens: Option<Tokens>, certificates: bool) -> Self {
        Self { tokens, certificates }
    }

    /// Whether callers have to say who they are.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.tokens.is_some() || self.certificates
    }

    /// Keeps the issuers' keys fresh until `stopped`: one that an issuer takes back verifies nothing for long.
    pub async fn run(self, stopped: CancellationToken) {
        if let Some(tokens) = self.tokens {
            tokens.run(stopped).await;
        }
    }

    /// Who calls. A token says more than the connection it comes over: behind a proxy that is the proxy's.
    ///
    /// # Errors
    /// [`Unidentified`]
    pub async fn identify(
        &self,
        authorization: Option<&[u8]>,
        peer: &Peer,
    ) -> Result<Identity, Unidentified> {
        if !self.is_on() {
            return Ok(Identity { caller: Caller::anonymous(), acting_for: None, token_scopes: Vec::new() });
        }
        if let Some(given) = authorization {
            let tokens = self.tokens.as_ref().ok_or(Unidentified::TokensNotAccepted)?;
            return by_token(tokens, given).await;
        }
        let certificate = peer.certificate.as_ref().filter(|_| self.certificates);
        let certificate = certificate.ok_or(Unidentified::Missing)?;
        let name = certificate.names.first().and_then(|name| Caller::named(name));
        let caller = name.ok_or(Unidentified::Nameless)?;
        Ok(Identity { caller, acting_for: None, token_scopes: Vec::new() })
    }
}

async fn by_token(tokens: &Tokens, given: &[u8]) -> Result<Identity, Unidentified> {
    let given = std::str::from_utf8(given).map_err(|_| TokenError::Malformed)?;
    let scheme = given.get(..BEARER.len()).filter(|scheme| scheme.eq_ignore_ascii_case(BEARER));
    let token = scheme.map(|_| given[BEARER.len()..].trim()).ok_or(TokenError::Missing)?;
    let claims = tokens.verify(token).await?;
    let caller = claims.caller().ok_or(Unidentified::NameTooLong)?;
    Ok(Identity { caller, acting_for: claims.acting_for.map(Arc::from), token_scopes: claims.scopes })
}
