//! An issuer that is trusted, and what its tokens must be.

use std::{collections::BTreeSet, fmt, time::Duration};

use reqwest::Url;

use super::Algorithm;

/// How far clocks may disagree.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// How long keys are used that cannot be fetched anew.
pub const KEYS_MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// What OpenID Connect adds to an issuer.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// An issuer that is trusted, and what its tokens must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its name: the claim `iss`, to the letter.
    pub issuer: String,
    /// The names of this service: one of them must be in `aud`.
    pub audience: Vec<String>,
    /// Where its keys are.
    pub jwks_url: JwksUrl,
    /// The algorithms it may sign with; each key only with its own.
    pub algorithms: BTreeSet<Algorithm>,
    /// How far its clock may disagree with ours.
    pub leeway: Duration,
    /// How long its keys are used when they cannot be fetched anew.
    pub keys_max_age: Duration,
    /// What its tokens must say they are.
    pub token_type: TokenType,
    /// Which claim names the caller.
    pub subject_claim: SubjectClaim,
}

/// Which claim names the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubjectClaim {
    /// `sub`.
    #[default]
    Sub,
    /// `client_id`: for issuers that leave `sub` out of the tokens of services (client credentials). Then all users of an
    /// application are one caller.
    ClientId,
}

/// What the header `typ` must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TokenType {
    /// `at+jwt`, `JWT` or nothing; ID tokens are known by their audience and their claims.
    #[default]
    Usual,
    /// `at+jwt` alone (RFC 9068).
    AccessToken,
}

/// Where the keys of an issuer are: over https, or on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksUrl(pub(super) Place);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The keys themselves.
    Keys(Url),
    /// The document that says where they are (OpenID Connect Discovery 1.0).
    Discovery(Url),
}

/// An address that keys must not be fetched from, or an issuer that cannot be one; with what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// No URL.
    #[error("this is not a URL; write one such as https://auth.pingone.eu/ENVIRONMENT/as/jwks")]
    NotAUrl,
    /// Neither https nor http to this machine.
    #[error(
        "keys come only over https; begin it with https:// (http:// is for addresses of this machine alone)"
    )]
    NotHttps,
    /// A user name or password before the host, or a fragment.
    #[error("leave out a name before the @ and what follows a #; keys are public")]
    Extra,
    /// An issuer that is no URL, and no address of its keys.
    #[error("the issuer is no https URL to ask for its keys' address; give that too")]
    NoDiscovery,
    /// An issuer that would be confused with another's callers.
    #[error("an issuer is 1 to 255 printable characters without spaces and |; copy it from a token's `iss`")]
    Name,
}

impl Issuer {
    /// An issuer with the usual rules.
    #[must_use]
    pub fn new(issuer: &str, audience: &str, jwks_url: JwksUrl) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audience: vec![audience.to_owned()],
            jwks_url,
            algorithms: Algorithm::ALL.into(),
            leeway: LEEWAY,
            keys_max_age: KEYS_MAX_AGE,
            token_type: TokenType::default(),
            subject_claim: SubjectClaim::default(),
        }
    }

    /// Whether `name` can be an issuer: callers are called `issuer|subject`.
    ///
    /// # Errors
    /// [`IssuerError::Name`]
    pub fn check_name(name: &str) -> Result<(), IssuerError> {
        let fits = (1..=255).contains(&name.len());
        let plain = name.chars().all(|c| c.is_ascii_graphic() && c != '|');
        if fits && plain { Ok(()) } else { Err(IssuerError::Name) }
    }
}

impl JwksUrl {
    /// The address of the keys themselves.
    ///
    /// # Errors
    /// [`IssuerError`] says what is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, IssuerError> {
        safe_url(text).map(|url| Self(Place::Keys(url)))
    }

    /// Wherever the issuer says at `{issuer}/.well-known/openid-configuration`.
    ///
    /// # Errors
    /// [`IssuerError::NoDiscovery`] where the issuer is no https URL.
    pub fn of(issuer: &str) -> Result<Self, IssuerError> {
        let url = safe_url(&format!("{}{DISCOVERY}", issuer.trim_end_matches('/')));
        url.map(|url| Self(Place::Discovery(url))).map_err(|_| IssuerError::NoDiscovery)
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Place::Keys(url) | Place::Discovery(url)) = &self.0;
        url.fmt(f)
    }
}

/// A URL that cannot be tampered with on the way.
pub(super) fn safe_url(text: &str) -> Result<Url, IssuerError> {
    let url = Url::parse(text.trim()).map_err(|_| IssuerError::NotAUrl)?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(IssuerError::NotAUrl)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) => {}
        _ => return Err(IssuerError::NotHttps),
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(IssuerError::Extra);
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for right in [
            "https://login.example.com/keys?v=2",
            "http://127.0.0.1:8080/k",
            "http://[::1]/k",
            "http://localhost/k",
        ] {
            assert!(JwksUrl::parse(right).is_ok(), "{right}");
        }
        for (wrong, error) in [
            ("http://login.example.com/keys", IssuerError::NotHttps),
            ("http://127.0.0.1.example.com/", IssuerError::NotHttps),
            ("http://10.0.0.1/keys", IssuerError::NotHttps),
            ("file:///etc/passwd", IssuerError::NotAUrl),
            ("ftp://127.0.0.1/", IssuerError::NotHttps),
            ("https://me@example.com/keys", IssuerError::Extra),
            ("https://example.com/keys#1", IssuerError::Extra),
            ("keys", IssuerError::NotAUrl),
        ] {
            assert_eq!(JwksUrl::parse(wrong), Err(error), "{wrong}");
        }
    }

    #[test]
    fn an_issuer_says_itself_where_its_keys_are() -> Result<(), IssuerError> {
        for issuer in ["https://auth.pingone.eu/6697f628/as", "https://auth.pingone.eu/6697f628/as/"] {
            let expected = "https://auth.pingone.eu/6697f628/as/.well-known/openid-configuration";
            assert_eq!(JwksUrl::of(issuer)?.to_string(), expected);
        }
        for wrong in ["accounts.example.com", "http://login.example.com"] {
            assert_eq!(JwksUrl::of(wrong), Err(IssuerError::NoDiscovery), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn no_issuer_can_be_mistaken_for_another_with_part_of_a_subject() {
        assert_eq!(Issuer::check_name("https://auth.pingone.eu/6697f628/as"), Ok(()));
        for wrong in ["", "a|b", "a b", "a\n", "é", &"a".repeat(256)] {
            assert_eq!(Issuer::check_name(wrong), Err(IssuerError::Name), "{wrong:?}");
        }
    }
}
