//! Certificates made for a test, and clients that show them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use pingone_unblock::{api::TlsFiles, auth::ClientAuth};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::Result;

/// Whoever signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, PEM, as they were made.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate, PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn sign(&self, params: &CertificateParams) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.0)?;
        Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// For a server on this machine.
    pub(crate) fn server(&self) -> Result<Pair> {
        self.sign(&params(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth)?)
    }

    /// For a client of that name.
    pub(crate) fn client(&self, uri: &str) -> Result<Pair> {
        self.sign(&client(uri)?)
    }

    /// A caller that trusts this authority, over a connection of its own.
    pub(crate) async fn connect(&self, address: &str, shown: Option<&Pair>) -> Result<Channel> {
        Ok(self.endpoint(address, shown)?.connect().await?)
    }

    /// Where such a caller connects to.
    pub(crate) fn endpoint(&self, address: &str, shown: Option<&Pair>) -> Result<Endpoint> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem()));
        if let Some(pair) = shown {
            tls = tls.identity(Identity::from_pem(&pair.cert, &pair.key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
        Ok(endpoint.tls_config(tls)?.connect_timeout(Duration::from_secs(30)))
    }
}

/// A certificate of these names for that purpose, valid now.
pub(crate) fn params(names: &[&str], purpose: ExtendedKeyUsagePurpose) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.extended_key_usages = vec![purpose];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::from_secs(3600);
    params.not_after = now + Duration::from_secs(24 * 3600);
    Ok(params)
}

/// A client's certificate with that name.
pub(crate) fn client(uri: &str) -> Result<CertificateParams> {
    let mut params = params(&[], ExtendedKeyUsagePurpose::ClientAuth)?;
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    Ok(params)
}

/// The files of a server's TLS.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new(pair: &Pair, authorities: &str) -> Result<Self> {
        let files = Self { folder: super::cluster::folder()? };
        files.write("authorities.pem", authorities)?;
        files.replace(pair)?;
        Ok(files)
    }

    /// Puts another pair in the place of this one.
    pub(crate) fn replace(&self, pair: &Pair) -> Result<()> {
        self.write("cert.pem", &pair.cert)?;
        self.write("key.pem", &pair.key)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.path(name), text)?)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn tls(&self, auth: Option<ClientAuth>) -> TlsFiles {
        TlsFiles {
            cert: self.path("cert.pem"),
            key: self.path("key.pem"),
            clients: auth.map(|auth| (self.path("authorities.pem"), auth)),
        }
    }
}
