//! The service as a process that speaks TLS: its own log, metrics and memory; and clients that show it any certificate.

use std::{fs, path::PathBuf, sync::Arc};

use pingone_unblock::simulator;
use rustls::{
    ClientConfig, RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Channel;

use super::{
    Result,
    authority::{AUTHORITIES, Authority, CERT, Files, KEY, Pair},
    database::Database,
    process::{Process, command},
    service::{ENVIRONMENT, PingOne, eventually},
};

/// May unblock and read.
pub(crate) const DESK: &str = "spiffe://example.com/desk";
/// May read.
pub(crate) const READER: &str = "spiffe://example.com/reader";

const POLICY: &str = r#"
[[caller]]
name = "spiffe://example.com/desk"
allow = [{ scopes = ["unblock", "read", "audit"], environments = "all" }]
[[caller]]
name = "spiffe://example.com/reader"
allow = [{ scopes = ["read"], environments = "all" }]
"#;

/// A certificate with those that stand for it, DER, and a key.
pub(crate) type Shown = (Vec<CertificateDer<'static>>, String);

/// A running `serve` with TLS.
pub(crate) struct Secured {
    pub(crate) process: Process,
    pub(crate) authority: Authority,
    pub(crate) files: Files,
    pub(crate) pingone: PingOne,
    folder: TempDir,
    _database: Database,
}

impl Secured {
    /// Callers' certificates are `required`, `optional`, or not asked for: `none`.
    pub(crate) async fn start(auth: &str) -> Result<Self> {
        Self::with(auth, POLICY, &[]).await
    }

    /// With another policy, and settings more.
    pub(crate) async fn with(auth: &str, policy: &str, more: &[(&str, &str)]) -> Result<Self> {
        let authority = Authority::new("of the test")?;
        let files = Files::new(&authority.server()?, &authority.pem())?;
        let (database, folder) = (Database::create().await?, super::cluster::folder()?);
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        fs::write(folder.path().join("policy.toml"), policy)?;
        let policy = folder.path().join("policy.toml").display().to_string();
        let [cert, key, ca] = [CERT, KEY, AUTHORITIES].map(|name| files.path(name));
        let mut settings = vec![
            ("UNBLOCK_TLS_CERT", cert.as_str()),
            ("UNBLOCK_TLS_KEY", &key),
            ("UNBLOCK_LOG", "warn,pingone_unblock=debug"),
        ];
        if auth != "none" {
            settings.extend([("UNBLOCK_TLS_CLIENT_CA", ca.as_str()), ("UNBLOCK_TLS_CLIENT_AUTH", auth)]);
            settings.push(("UNBLOCK_POLICY_FILE", &policy));
        }
        settings.extend(more);
        let log = folder.path().join("log");
        let started = Process::serve_writing(database.url(), &pingone, &settings, fs::File::create(&log)?);
        let process = started
            .await
            .map_err(|error| format!("{error}: {}", fs::read_to_string(&log).unwrap_or_default()))?;
        Ok(Self { process, authority, files, pingone, folder, _database: database })
    }

    /// A caller that shows this certificate, over a connection of its own.
    pub(crate) async fn connect(&self, shown: Option<&Pair>) -> Result<Channel> {
        self.authority.connect(&self.process.address().to_string(), shown).await
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How often something was counted, `name{label="value"}`, as the process tells Prometheus.
    pub(crate) async fn counted(&self, series: &str) -> Result<f64> {
        counted(&self.process, series).await
    }

    pub(crate) async fn refused(&self, cause: &str) -> Result<f64> {
        self.counted(&format!("unblock_connections_refused_total{{unblock_cause=\"{cause}\"}}")).await
    }

    /// Waits until that has been logged.
    pub(crate) async fn logged(&self, words: &str) -> Result<()> {
        eventually(words, async || Ok(self.log().contains(words)))
            .await
            .map_err(|error| format!("{error}: {}", self.log()).into())
    }

    /// `job list` as a user would run it, with these options more: its exit code and what it said.
    pub(crate) async fn lists(&self, options: &[&str]) -> Result<(Option<i32>, String)> {
        self.lists_over("https", options).await
    }

    /// The same, by that scheme.
    pub(crate) async fn lists_over(&self, scheme: &str, options: &[&str]) -> Result<(Option<i32>, String)> {
        let server = format!("{scheme}://localhost:{}", self.process.address().port());
        let mut list = command(&["job", "list", "--environment", ENVIRONMENT, "--server", &server]);
        list.args(options);
        let output = tokio::task::spawn_blocking(move || list.output()).await??;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Shakes hands showing that, and waits until the server has said what it thinks of it: what it says first, its settings.
    pub(crate) async fn shows(&self, shown: Option<&Shown>) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
                let key = provider.key_provider.load_private_key(key)?;
                // Not asked whether the two fit.
                let pair = Arc::new(CertifiedKey::new(chain.clone(), key));
                builder.with_client_cert_resolver(Arc::new(Shows(pair)))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.process.address()).await?;
        let name = ServerName::try_from("localhost")?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        // With TLS 1.3 a client hears of a refusal only now.
        let mut first = [0; 9];
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
        stream.read_exact(&mut first).await?;
        Ok(stream)
    }
}

/// How often something was counted by `process`.
pub(crate) async fn counted(process: &Process, series: &str) -> Result<f64> {
    let text = reqwest::get(process.admin_url("metrics")).await?.error_for_status()?.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(value.ok_or_else(|| format!("nothing is called {series}"))?.parse()?)
}

/// Shows a certificate with any key.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
