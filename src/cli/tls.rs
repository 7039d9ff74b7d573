//! Why TLS with a server did not come about, in words and with what to do.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

/// How HTTP/2 understands the alert of a server that expects TLS: as the head of a frame of 1.4 MB.
const ALERT_AS_FRAME: &str = "frame with invalid size";

/// The words for the TLS error among the causes of `error`, if there is one.
pub(super) fn in_words(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()));
        if let Some(tls) = tls {
            return Some(words(tls));
        }
        let text = error.to_string();
        if let Some(alert) = alert_in(&text) {
            return Some(refused(alert));
        }
        if text.ends_with(ALERT_AS_FRAME) {
            return Some("what answers there expects TLS; name it with https:// in --server".to_owned());
        }
        // What an io::Error holds is not among its causes.
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// HTTP/2 keeps the words of what happened to its connection, and not the error.
fn alert_in(text: &str) -> Option<AlertDescription> {
    let mut alerts = (0..=u8::MAX).map(AlertDescription::from);
    alerts.find(|alert| text.ends_with(&rustls::Error::AlertReceived(*alert).to_string()))
}

fn words(error: &rustls::Error) -> String {
    use rustls::Error;
    match error {
        Error::InvalidCertificate(wrong) => of_server(wrong),
        Error::AlertReceived(alert) => refused(*alert),
        Error::InvalidMessage(_) => {
            "what answers there does not speak TLS; is it an http:// server?".to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

fn of_server(wrong: &CertificateError) -> String {
    match wrong {
        CertificateError::UnknownIssuer => "the server's certificate is by an authority that is not trusted \
            here; name that authority's certificate with --ca"
            .to_owned(),
        CertificateError::NotValidForNameContext { .. } | CertificateError::NotValidForName => {
            format!("the server's certificate is for another name; use that in --server: {wrong}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the server's certificate has expired: {wrong}")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the server's certificate is not valid yet; compare the clocks: {wrong}")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("the server's certificate is not for servers: {wrong}")
        }
        other => format!("the server's certificate cannot be used: {other}"),
    }
}

/// What the server says of this side.
fn refused(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::CertificateRequired => {
            "the server demands a client certificate; give it with --cert and --key"
        }
        AlertDescription::UnknownCA => {
            "the server does not know the authority of the client certificate (--cert)"
        }
        AlertDescription::CertificateExpired => {
            "the server says that the client certificate (--cert) has expired or is not valid yet"
        }
        AlertDescription::UnsupportedCertificate => "the client certificate (--cert) is not for clients",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRevoked
        | AlertDescription::DecryptError
        | AlertDescription::AccessDenied => "the server refuses the client certificate (--cert)",
        AlertDescription::HandshakeFailure => {
            "the server refuses: no common cipher, or it demands a client certificate (--cert and --key)"
        }
        AlertDescription::ProtocolVersion => "the server speaks no common version of TLS",
        other => return format!("the server refuses TLS: {other:?}"),
    };
    words.to_owned()
}
