//! TLS on the gRPC port: who is let in, who is not and why, and certificates that change.

use std::{path::Path, sync::Arc, time::Duration};

use pingone_unblock::{
    auth::ClientAuth,
    proto::v1::{device_service_client::DeviceServiceClient, job::State},
    simulator,
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    RootCertStore, SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use crate::harness::{
    Result,
    authority::{Authority, Files, Pair, client, params},
    database::Database,
    process::{Process, command},
    service::{ENVIRONMENT, PingOne, Service, Variant, eventually, request, some_device, wire},
};

/// A replica with TLS, and whoever signed its certificate and those of its callers.
struct Secured {
    service: Service,
    authority: Authority,
    files: Files,
    _pingone: PingOne,
    _database: Database,
}

impl Secured {
    async fn start(auth: Option<ClientAuth>) -> Result<Self> {
        let authority = Authority::new("of the test")?;
        let files = Files::new(&authority.server()?, &authority.pem())?;
        let database = Database::create().await?;
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let variant = Variant { tls: Some(files.tls(auth)), ..Variant::default() };
        let service = Service::start(database.url(), &pingone, variant).await?;
        Ok(Self { service, authority, files, _pingone: pingone, _database: database })
    }

    async fn connect(&self, shown: Option<&Pair>) -> Result<Channel> {
        self.authority.connect(&self.service.address.to_string(), shown).await
    }
}

async fn unblocks(channel: Channel) -> Result<()> {
    let asked = request(wire(&some_device()?));
    let job = DeviceServiceClient::new(channel).unblock(asked).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_over_tls_and_not_beside_it() -> Result<()> {
    let secured = Secured::start(None).await?;
    unblocks(secured.connect(None).await?).await?;
    let plain = Channel::from_shared(format!("http://{}", secured.service.address))?.connect_lazy();
    assert!(unblocks(plain).await.is_err(), "no plain text on this port");
    let stranger = Authority::new("another")?;
    let refused = stranger.connect(&secured.service.address.to_string(), None).await;
    assert!(refused.is_err(), "a certificate that its authority did not sign");
    assert!(secured.files.folder().exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_demanded_where_it_is_required_and_not_where_it_is_optional() -> Result<()> {
    for (auth, without) in [(ClientAuth::Required, false), (ClientAuth::Optional, true)] {
        let secured = Secured::start(Some(auth)).await?;
        let pair = secured.authority.client("spiffe://example.com/desk")?;
        unblocks(secured.connect(Some(&pair)).await?).await?;
        let nobody = match secured.connect(None).await {
            Ok(channel) => unblocks(channel).await,
            Err(error) => Err(error),
        };
        assert_eq!(nobody.is_ok(), without, "{auth:?}: {nobody:?}");
    }
    Ok(())
}

/// How often connections were refused for `cause`, as the process tells Prometheus.
async fn refused(process: &Process, cause: &str) -> Result<f64> {
    let text = reqwest::get(process.admin_url("metrics")).await?.error_for_status()?.text().await?;
    let line = format!("unblock_connections_refused_total{{unblock_cause=\"{cause}\"}} ");
    let value = text.lines().find_map(|shown| shown.strip_prefix(&line)).ok_or("no such cause")?;
    Ok(value.parse()?)
}

/// A process with TLS: its own metrics, its own memory.
struct Served {
    process: Process,
    authority: Authority,
    files: Files,
    _pingone: PingOne,
    _database: Database,
}

impl Served {
    async fn start(auth: &str) -> Result<Self> {
        let authority = Authority::new("of the test")?;
        let files = Files::new(&authority.server()?, &authority.pem())?;
        let database = Database::create().await?;
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let [cert, key, ca] = ["cert.pem", "key.pem", "authorities.pem"].map(|name| files.path(name));
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or("a path in UTF-8");
        let (cert, key, ca) = (text(&cert)?, text(&key)?, text(&ca)?);
        let mut settings = vec![("UNBLOCK_TLS_CERT", cert.as_str()), ("UNBLOCK_TLS_KEY", &key)];
        if auth != "none" {
            settings.extend([("UNBLOCK_TLS_CLIENT_CA", ca.as_str()), ("UNBLOCK_TLS_CLIENT_AUTH", auth)]);
        }
        let process = Process::serve_with(database.url(), &pingone, &settings).await?;
        Ok(Self { process, authority, files, _pingone: pingone, _database: database })
    }

    /// `job list` as a user would run it, with these options more: its exit code and what it said.
    async fn lists(&self, options: &[&str], variables: &[(&str, &str)]) -> Result<(Option<i32>, String)> {
        let server = format!("https://localhost:{}", self.process.address().port());
        let mut list = command(&["job", "list", "--environment", ENVIRONMENT, "--server", &server]);
        list.args(options).envs(variables.iter().copied());
        let output = tokio::task::spawn_blocking(move || list.output()).await??;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// Shakes hands showing `chain`, whose key is `key`, and waits for what becomes of it.
    async fn shows(&self, shown: Option<(Vec<CertificateDer<'static>>, &str)>) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).map_err(told)?;
        roots.add(own).map_err(told)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(told)?
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(told)?;
                let key = provider.key_provider.load_private_key(key).map_err(told)?;
                // Not asked whether the two fit.
                let pair = Arc::new(CertifiedKey::new(chain, key));
                builder.with_client_cert_resolver(Arc::new(Shows(pair)))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.process.address()).await.map_err(told)?;
        let name = ServerName::try_from("localhost").map_err(told)?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(told)?;
        // With TLS 1.3 a client hears of a refusal only now. A server that took it says its settings.
        let mut first = [0; 9];
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.map_err(told)?;
        stream.read_exact(&mut first).await.map(drop).map_err(told)
    }
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

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn der(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    Ok(vec![CertificateDer::from_pem_slice(pem.as_bytes())?])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_certificate_is_refused_and_its_reason_counted() -> Result<()> {
    let served = Served::start("required").await?;
    let authority = &served.authority;
    let good = authority.client("spiffe://example.com/desk")?;
    served.shows(Some((der(&good.cert)?, &good.key))).await?;

    let now = OffsetDateTime::now_utc();
    let of = |change: &dyn Fn(&mut CertificateParams)| -> Result<Pair> {
        let mut params = client("spiffe://example.com/desk")?;
        change(&mut params);
        authority.sign(&params)
    };
    let minute = Duration::from_secs(60);
    let named = |uri: &str| -> Result<Pair> { authority.client(uri) };
    let own_key = KeyPair::generate()?;
    let own = client("spiffe://example.com/desk")?.self_signed(&own_key)?;
    let stranger = Authority::new("of the test")?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.subject_alt_names = client("spiffe://example.com/desk")?.subject_alt_names;
    let mut cut = der(&good.cert)?[0].to_vec();
    cut.truncate(cut.len() / 2);
    let mut flipped = der(&good.cert)?[0].to_vec();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let another = KeyPair::generate()?.serialize_pem();

    let bad: Vec<(&str, Option<(Vec<CertificateDer<'static>>, String)>, &str)> = vec![
        ("none at all", None, "certificate_missing"),
        (
            "of an authority unknown here, of the same name",
            {
                let pair = stranger.client("spiffe://example.com/desk")?;
                Some((der(&pair.cert)?, pair.key))
            },
            "certificate_authority",
        ),
        ("signed by itself", Some((der(&own.pem())?, own_key.serialize_pem())), "certificate_authority"),
        ("expired", pair(of(&|params| params.not_after = now - minute))?, "certificate_expired"),
        (
            "of tomorrow",
            pair(of(&|params| params.not_before = now + 60 * minute))?,
            "certificate_not_yet_valid",
        ),
        (
            "for servers",
            pair(of(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]))?,
            "certificate_purpose",
        ),
        ("of an authority, shown as a caller's", pair(authority.sign(&ca))?, "certificate_invalid"),
        ("another's: without its key", Some((der(&good.cert)?, another)), "certificate_signature"),
        ("without a name", pair(of(&|params| params.subject_alt_names.clear()))?, "certificate_name"),
        ("with a name of two", pair(named("spiffe://a|spiffe://b"))?, "certificate_name"),
        ("with a line break in its name", pair(named("spiffe://a\nb"))?, "certificate_name"),
        ("with a URI that passes for a DNS name", pair(named("dns:desk.example.com"))?, "certificate_name"),
        ("cut off", Some((vec![cut.into()], good.key.clone())), "certificate_invalid"),
        ("changed by a bit", Some((vec![flipped.into()], good.key.clone())), "certificate_authority"),
    ];
    for (what, shown, cause) in bad {
        let before = refused(&served.process, cause).await?;
        let ended = served.shows(shown.as_ref().map(|(chain, key)| (chain.clone(), key.as_str()))).await;
        assert!(ended.is_err(), "a certificate {what} was taken");
        eventually(&format!("{what} is counted as {cause}"), async || {
            Ok(refused(&served.process, cause).await? == before + 1.0)
        })
        .await?;
    }
    served.shows(Some((der(&good.cert)?, &good.key))).await?;
    Ok(())
}

fn pair(pair: Result<Pair>) -> Result<Option<(Vec<CertificateDer<'static>>, String)>> {
    let pair = pair?;
    Ok(Some((der(&pair.cert)?, pair.key)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_tls_and_what_is_no_tls_are_refused() -> Result<()> {
    let served = Served::start("none").await?;
    // A hello of TLS 1.1, as RFC 4346 has it: version 3.2, a random, no session, one cipher, no compression.
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let length = u8::try_from(hello.len())?;
    let old = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    for (sent, cause) in [(old, "tls_unsupported"), (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "handshake_broken")]
    {
        let mut stream = TcpStream::connect(served.process.address()).await?;
        stream.write_all(&sent).await?;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        eventually(cause, async || Ok(refused(&served.process, cause).await? == 1.0)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_is_wrong_with_tls() -> Result<()> {
    let served = Served::start("required").await?;
    let folder = Files::new(&served.authority.client("spiffe://example.com/desk")?, &served.authority.pem())?;
    let stranger = Authority::new("another")?;
    folder.write("stranger.pem", &stranger.pem())?;
    let unknown = stranger.client("spiffe://example.com/desk")?;
    folder.write("unknown.pem", &unknown.cert)?;
    folder.write("unknown.key", &unknown.key)?;
    let paths = ["authorities.pem", "cert.pem", "key.pem", "stranger.pem", "unknown.pem", "unknown.key"]
        .map(|name| folder.path(name).display().to_string());
    let [ca, cert, key, strange, unknown, unknown_key] = paths.each_ref().map(String::as_str);

    let right = served.lists(&["--ca", ca, "--cert", cert, "--key", key], &[]).await?;
    assert_eq!(right.0, Some(0), "{right:?}");
    for (options, code, words) in [
        (&["--ca", ca][..], 3, "demands a client certificate; give it with --cert and --key"),
        (&["--ca", strange, "--cert", cert, "--key", key], 3, "by an authority that is not trusted here"),
        (&["--ca", ca, "--cert", unknown, "--key", unknown_key], 3, "the client certificate (--cert)"),
        (&["--ca", "/nowhere/ca.pem"], 2, "--ca /nowhere/ca.pem: "),
        (&["--ca", ca, "--token-file", "/nowhere/token"], 2, "--token-file /nowhere/token: "),
    ] {
        let (ended, said) = served.lists(options, &[]).await?;
        assert!(ended == Some(code) && said.contains(words), "{options:?}: {ended:?} {said}");
        assert!(!said.contains("trying again"), "TLS that failed fails again: {said}");
    }
    served.files.replace(
        &served.authority.sign(&params(&["elsewhere.example.com"], ExtendedKeyUsagePurpose::ServerAuth)?)?,
    )?;
    eventually("another name is told", async || {
        let (ended, said) = served.lists(&["--ca", ca, "--cert", cert, "--key", key], &[]).await?;
        Ok(ended == Some(3) && said.contains("for another name") && said.contains("elsewhere.example.com"))
    })
    .await?;
    Ok(())
}
