//! TLS on the gRPC port: what a handshake is made with, from files and read anew.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustls::{
    CertificateError, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use time::OffsetDateTime;

use super::certificate::OwnCertificate;
use crate::{
    auth::{Certificate, ClientAuth},
    redact::Redacted,
    reload::{Current, ReloadError, Reloader},
};

/// HTTP/2 for gRPC, HTTP/1.1 for gRPC-Web.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Its name where it is read anew.
const WHAT: &str = "tls";
const CERTIFICATE_FILE: &str = "the certificate file";

/// The files that TLS is made of, PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities for clients' certificates, where any are asked for.
    pub clients: Option<(PathBuf, ClientAuth)>,
}

impl TlsFiles {
    /// What handshakes are made with, and who keeps it up to date.
    ///
    /// # Errors
    /// [`ReloadError`] when these files cannot be used.
    pub fn load(&self) -> Result<(Current<ServerConfig>, Reloader<ServerConfig>), ReloadError> {
        let mut files = vec![self.cert.clone(), self.key.clone()];
        files.extend(self.clients.iter().map(|(file, _)| file.clone()));
        let auth = self.clients.as_ref().map(|(_, auth)| *auth);
        let first = AtomicBool::new(true);
        Reloader::new(WHAT, files, move |files| make(files, auth, first.swap(false, Ordering::Relaxed)))
    }

    /// What the certificate says, as it lies there now.
    ///
    /// # Errors
    /// [`ReloadError`] when the file holds none.
    pub fn certificate(&self) -> Result<OwnCertificate, ReloadError> {
        let read = std::fs::read(&self.cert).map_err(|error| wrong(&error.to_string()));
        let own = read.and_then(|pem| OwnCertificate::of(&certificates(&pem, CERTIFICATE_FILE)?[0]));
        own.map_err(|why| ReloadError { what: WHAT, why })
    }
}

fn make(files: &[Vec<u8>], auth: Option<ClientAuth>, first: bool) -> Result<ServerConfig, Redacted> {
    let [cert, key, authorities @ ..] = files else { return Err(wrong("a file is missing")) };
    let chain = certificates(cert, CERTIFICATE_FILE)?;
    check_time(&chain[0], first)?;
    // Not the error: it may quote the file.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| wrong("the key file holds no private key (PEM, not encrypted)"))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| wrong(&error.to_string()))?;
    let builder = match (auth, authorities) {
        (Some(auth), [authorities]) => {
            builder.with_client_cert_verifier(Arc::new(Named::new(provider, authorities, auth)?))
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => wrong("the key is not that of the certificate"),
        other => wrong(&format!("certificate and key cannot be used: {other}")),
    })?;
    config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
    if auth.is_some() {
        // A session that is resumed shows no certificate: one that has expired meanwhile would go on.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// An expired certificate does not replace another; at the start it is better than none, since jobs go on without callers.
fn check_time(leaf: &CertificateDer<'_>, first: bool) -> Result<(), Redacted> {
    let own = OwnCertificate::of(leaf)?;
    let now = OffsetDateTime::now_utc();
    match (own.not_after < now, first) {
        (true, false) => return Err(wrong("the certificate has expired")),
        (true, true) => tracing::error!("the TLS certificate has expired: no caller will trust it"),
        // A clock may be a little behind that of the authority.
        _ if own.not_before > now => {
            let seconds = (own.not_before - now).whole_seconds();
            tracing::warn!(seconds, "the TLS certificate is not valid yet");
        }
        _ => {}
    }
    Ok(())
}

fn certificates(pem: &[u8], which: &str) -> Result<Vec<CertificateDer<'static>>, Redacted> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        Ok(_) => Err(wrong(&format!("{which} holds no certificate (PEM)"))),
        Err(_) => Err(wrong(&format!("{which} is not well formed PEM"))),
    }
}

fn wrong(why: &str) -> Redacted {
    Redacted::of(why, 300)
}

/// Takes certificates that an authority stands for, that are for clients, and that say whose they are.
#[derive(Debug)]
struct Named {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Named {
    fn new(provider: Arc<CryptoProvider>, authorities: &[u8], auth: ClientAuth) -> Result<Self, Redacted> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities, "the file of authorities for clients")? {
            roots.add(authority).map_err(|_| wrong("an authority for clients is no usable certificate"))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = match auth {
            ClientAuth::Optional => builder.allow_unauthenticated(),
            ClientAuth::Required => builder,
        };
        Ok(Self { verifier: builder.build().map_err(|error| wrong(&error.to_string()))? })
    }
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        Certificate::of(end_entity)
            .map_err(|unfit| CertificateError::Other(rustls::OtherError(Arc::new(unfit))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
