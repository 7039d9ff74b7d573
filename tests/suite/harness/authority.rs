//! Certificates made for a test, and clients that show them.

use std::{
    collections::BTreeMap,
    os::unix::fs::symlink,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::Result;

pub(crate) const CERT: &str = "cert.pem";
pub(crate) const KEY: &str = "key.pem";
pub(crate) const AUTHORITIES: &str = "authorities.pem";

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

    /// Itself, as who signs.
    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.0
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

/// The files of a server's TLS, as Kubernetes mounts them: all are replaced at once, by a link to another folder.
pub(crate) struct Files {
    folder: TempDir,
    now: Mutex<(usize, BTreeMap<&'static str, String>)>,
}

impl Files {
    pub(crate) fn new(pair: &Pair, authorities: &str) -> Result<Self> {
        let files = Self { folder: super::cluster::folder()?, now: Mutex::default() };
        files.change(&[(CERT, &pair.cert), (KEY, &pair.key), (AUTHORITIES, authorities)])?;
        Ok(files)
    }

    /// Puts another pair in the place of this one.
    pub(crate) fn replace(&self, pair: &Pair) -> Result<()> {
        self.change(&[(CERT, &pair.cert), (KEY, &pair.key)])
    }

    /// Changes these files, and leaves the others as they are.
    pub(crate) fn change(&self, files: &[(&'static str, &str)]) -> Result<()> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.0 += 1;
        now.1.extend(files.iter().map(|(name, text)| (*name, (*text).to_owned())));
        let (folder, link) = (self.folder.path(), self.folder.path().join("next"));
        let version = folder.join(now.0.to_string());
        std::fs::create_dir(&version)?;
        for (name, text) in &now.1 {
            std::fs::write(version.join(name), text)?;
        }
        symlink(&version, &link)?;
        Ok(std::fs::rename(link, folder.join("live"))?)
    }

    /// Where the file is, whatever it leads to.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join("live").join(name).display().to_string()
    }
}
