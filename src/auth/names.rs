//! The names in a client's certificate. Whether it may be trusted is not decided here.

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::Certificate;

const NAMES_AT_MOST: usize = 32;
const NAME_AT_MOST: usize = 256;

/// Why a certificate is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It says no name that could be an identity: the subject is none.
    #[error("the certificate has no subject alternative name that is a URI, a DNS name or an e-mail address")]
    Nameless,
    /// A name that could be taken for another one, in a log or a key.
    #[error("a name in the certificate is too long or has characters that no name may have")]
    Name,
    /// More names than anybody needs.
    #[error("the certificate has more than 32 names")]
    TooMany,
}

impl Certificate {
    /// What the certificate, DER, says about whose it is.
    ///
    /// # Errors
    /// [`Unfit`] when it says nothing, or something that is not fit to be written down.
    pub fn of(der: &[u8]) -> Result<Self, Unfit> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Unfit::Unreadable)?;
        if !rest.is_empty() {
            return Err(Unfit::Unreadable);
        }
        let extension = certificate.subject_alternative_name().map_err(|_| Unfit::Unreadable)?;
        let all = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        if all.len() > NAMES_AT_MOST {
            return Err(Unfit::TooMany);
        }
        let mut names: Vec<(u8, String)> = all.iter().filter_map(ranked).collect();
        if names.is_empty() {
            return Err(Unfit::Nameless);
        }
        if !names.iter().all(|(_, name)| is_fit(name)) {
            return Err(Unfit::Name);
        }
        names.sort_by_key(|(rank, _)| *rank);
        Ok(Self { names: names.into_iter().map(|(_, name)| name).collect() })
    }
}

/// A name as it is written, and how much it is preferred. What is broken stays, so that it is refused.
fn ranked(name: &GeneralName<'_>) -> Option<(u8, String)> {
    match name {
        GeneralName::URI(uri) => Some((0, if passes_for_another(uri) { "" } else { uri }.to_owned())),
        GeneralName::DNSName(name) => Some((1, format!("dns:{}", name.to_ascii_lowercase()))),
        GeneralName::RFC822Name(address) => Some((2, format!("email:{address}"))),
        GeneralName::Invalid(..) => Some((3, String::new())),
        GeneralName::OtherName(..)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_) => None,
    }
}

fn passes_for_another(uri: &str) -> bool {
    let kind = uri.split(':').next().unwrap_or_default();
    ["dns", "email"].iter().any(|other| kind.eq_ignore_ascii_case(other))
}

/// Printable ASCII; `|` separates names where they are joined.
fn is_fit(name: &str) -> bool {
    let after_kind = name.split_once(':').map_or("", |(_, rest)| rest);
    !after_kind.is_empty()
        && name.len() <= NAME_AT_MOST
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'|')
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};

    use super::*;

    type Outcome = Result<(), Box<dyn Error>>;

    fn with(names: Vec<SanType>) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        Ok(params.self_signed(&KeyPair::generate()?)?.der().to_vec())
    }

    #[test]
    fn names_come_by_preference_and_addresses_are_none() -> Outcome {
        let der = with(vec![
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::Rfc822Name("desk@example.com".try_into()?),
            SanType::DnsName("Desk.example.com".try_into()?),
            SanType::URI("spiffe://example.com/desk".try_into()?),
        ])?;
        let names = Certificate::of(&der)?.names;
        assert_eq!(names, ["spiffe://example.com/desk", "dns:desk.example.com", "email:desk@example.com"]);
        Ok(())
    }

    #[test]
    fn a_certificate_without_a_name_is_nobodys() -> Outcome {
        assert_eq!(Certificate::of(&with(vec![])?), Err(Unfit::Nameless));
        let address = with(vec![SanType::IpAddress([127, 0, 0, 1].into())])?;
        assert_eq!(Certificate::of(&address), Err(Unfit::Nameless));
        Ok(())
    }

    #[test]
    fn names_that_could_be_taken_for_others_are_refused() -> Outcome {
        for wrong in ["spiffe://a|b", "spiffe://a\nb", "spiffe://a b", "spiffe://a\0", "\u{1b}[31m", "plain"]
        {
            let der = with(vec![SanType::URI(wrong.try_into()?)])?;
            assert_eq!(Certificate::of(&der), Err(Unfit::Name), "{wrong:?}");
        }
        let long = format!("spiffe://{}", "a".repeat(300));
        assert_eq!(Certificate::of(&with(vec![SanType::URI(long.as_str().try_into()?)])?), Err(Unfit::Name));
        for kind in ["dns:desk", "email:desk@example.com"] {
            let der = with(vec![SanType::URI(kind.try_into()?)])?;
            assert_eq!(Certificate::of(&der), Err(Unfit::Name), "a URI is no {kind}");
        }
        let many = (0..33).map(|n| Ok(SanType::DnsName(format!("a{n}.example.com").try_into()?)));
        let many = many.collect::<Result<Vec<_>, rcgen::Error>>()?;
        assert_eq!(Certificate::of(&with(many)?), Err(Unfit::TooMany));
        Ok(())
    }

    #[test]
    fn what_is_broken_is_unreadable() -> Outcome {
        let mut der = with(vec![SanType::DnsName("desk.example.com".try_into()?)])?;
        assert_eq!(Certificate::of(&der[..der.len() - 1]), Err(Unfit::Unreadable));
        der.push(0);
        assert_eq!(Certificate::of(&der), Err(Unfit::Unreadable), "what follows it is no part of it");
        assert_eq!(Certificate::of(&[]), Err(Unfit::Unreadable));
        let mut params = CertificateParams::default();
        // Names that are no sequence.
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![4, 1, 0])];
        let der = params.self_signed(&KeyPair::generate()?)?.der().to_vec();
        assert_eq!(Certificate::of(&der), Err(Unfit::Unreadable));
        Ok(())
    }
}
