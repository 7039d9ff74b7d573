//! The server's own certificate: whose it is, and how long it is good.

use std::{fmt, net::IpAddr};

use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::redact::Redacted;

const NAMES_SHOWN: usize = 5;

/// What a certificate says of the server that shows it.
#[derive(Debug, Clone)]
pub struct OwnCertificate {
    /// The names that callers may reach the server by.
    pub names: Vec<String>,
    /// From when it is good.
    pub not_before: OffsetDateTime,
    /// Until when it is good.
    pub not_after: OffsetDateTime,
}

impl OwnCertificate {
    pub(super) fn of(leaf: &CertificateDer<'_>) -> Result<Self, Redacted> {
        let wrong = |why: &str| Redacted::of(why, 100);
        let (_, leaf) = X509Certificate::from_der(leaf)
            .map_err(|_| wrong("the certificate file holds no certificate"))?;
        let names = leaf.subject_alternative_name();
        let names = names.map_err(|_| wrong("the names in the certificate cannot be read"))?;
        Ok(Self {
            names: names.iter().flat_map(|names| &names.value.general_names).filter_map(name).collect(),
            not_before: leaf.validity().not_before.to_datetime(),
            not_after: leaf.validity().not_after.to_datetime(),
        })
    }

    /// Whole days until it is over at `now`; fewer than none once it is.
    #[must_use]
    pub fn days_left(&self, now: OffsetDateTime) -> i64 {
        (self.not_after - now).whole_seconds().div_euclid(Duration::DAY.whole_seconds())
    }
}

impl fmt::Display for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.names.iter().take(NAMES_SHOWN).map(String::as_str).collect();
        let names = if shown.is_empty() { "no name".to_owned() } else { shown.join(", ") };
        let more = if self.names.len() > NAMES_SHOWN { " and others" } else { "" };
        write!(f, "certificate for {names}{more}, good until {}", self.not_after.date())
    }
}

/// What is printed where operators look.
fn name(name: &GeneralName<'_>) -> Option<String> {
    let text = match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => IpAddr::from([a, b, c, d]).to_string(),
            ref bytes => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string(),
        },
        _ => return None,
    };
    text.bytes().all(|byte| byte.is_ascii_graphic()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn names_and_the_days_that_are_left_are_told() -> Result<(), Box<dyn Error>> {
        let mut params = CertificateParams::new(vec!["unblock.example.com".to_owned(), "::1".to_owned()])?;
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000)?;
        params.not_before = now - Duration::HOUR;
        params.not_after = now + Duration::DAY * 30 + Duration::HOUR;
        let der = params.self_signed(&KeyPair::generate()?)?;
        let own = OwnCertificate::of(der.der()).map_err(|why| why.to_string())?;
        assert_eq!(own.to_string(), "certificate for unblock.example.com, ::1, good until 2027-02-14");
        assert_eq!(own.not_before, params.not_before);
        assert_eq!(own.days_left(now), 30);
        assert_eq!(own.days_left(own.not_after), 0);
        assert_eq!(own.days_left(own.not_after + Duration::SECOND), -1);
        assert!(OwnCertificate::of(&CertificateDer::from_slice(b"no certificate")).is_err());
        Ok(())
    }
}
