//! Whom the service itself connects to: Postgres and PingOne have to prove who they are.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::Output,
    sync::Arc,
};

use pingone_unblock::simulator;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{
    Result,
    authority::{Authority, Pair, params},
    cluster::OwnCluster,
    database::Database,
    process::{Process, command, configuration},
    service::{PingOne, eventually, request, some_device, wire},
};

fn elsewhere(authority: &Authority) -> Result<Pair> {
    authority.sign(&params(&["elsewhere.example.com"], ExtendedKeyUsagePurpose::ServerAuth)?)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `check` with these variables more.
async fn check(database: &str, pingone: &PingOne, more: &[(&str, &str)]) -> Result<Output> {
    let mut check = command(&["check"]);
    check.envs(configuration(database, pingone)).envs(more.iter().copied());
    Ok(tokio::task::spawn_blocking(move || check.output()).await??)
}

/// Has the server speak TLS with that certificate, or none.
async fn speak_tls(admin: &str, pair: Option<&Pair>) -> Result<()> {
    let mut connection = PgConnection::connect(admin).await?;
    if let Some(pair) = pair {
        let folder: String =
            sqlx::query_scalar("select current_setting('data_directory')").fetch_one(&mut connection).await?;
        let owner = fs::metadata(&folder)?;
        for (name, text) in [("server.crt", &pair.cert), ("server.key", &pair.key)] {
            let path = Path::new(&folder).join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    let ssl = if pair.is_some() { "on" } else { "off" };
    sqlx::raw_sql(AssertSqlSafe(format!("alter system set ssl = {ssl}"))).execute(&mut connection).await?;
    sqlx::raw_sql("select pg_reload_conf()").execute(&mut connection).await?;
    connection.close().await?;
    eventually("Postgres has heard of it", async || {
        let mut connection = PgConnection::connect(admin).await?;
        let now: String = sqlx::query_scalar("show ssl").fetch_one(&mut connection).await?;
        Ok(now == ssl)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_has_to_be_who_its_certificate_says() -> Result<()> {
    let (authority, stranger) = (Authority::new("of the test")?, Authority::new("another")?);
    let folder = crate::harness::cluster::folder()?;
    for (name, authority) in [("right.pem", &authority), ("wrong.pem", &stranger)] {
        fs::write(folder.path().join(name), authority.pem())?;
    }
    let cluster = OwnCluster::start().await?;
    let admin = cluster.running().ok_or("it runs")?.url("postgres");
    let by = |roots: &str| {
        let path = folder.path().join(roots);
        admin.replace("sslmode=disable", &format!("sslmode=verify-full&sslrootcert={}", path.display()))
    };
    let pingone = PingOne::start(simulator::Settings::default()).await?;

    speak_tls(&admin, Some(&authority.server()?)).await?;
    let right = check(&by("right.pem"), &pingone, &[]).await?;
    assert!(right.status.success(), "{}", said(&right));
    let process = Process::serve(&by("right.pem"), &pingone).await?;
    process.devices()?.unblock(request(wire(&some_device()?))).await?;
    let mut connection = PgConnection::connect(&admin).await?;
    let (plain, all): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where not ssl), count(*) from pg_stat_ssl join pg_stat_activity using (pid)
         where backend_type = 'client backend' and pid <> pg_backend_pid()",
    )
    .fetch_one(&mut connection)
    .await?;
    assert!(plain == 0 && all > 0, "{plain} of {all} connections are in plain text");
    drop(process);

    let wrong = check(&by("wrong.pem"), &pingone, &[]).await?;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        said(&wrong).contains("WRONG   Postgres: ") && said(&wrong).contains("UnknownIssuer"),
        "{}",
        said(&wrong)
    );
    speak_tls(&admin, Some(&elsewhere(&authority)?)).await?;
    let named = check(&by("right.pem"), &pingone, &[]).await?;
    assert_eq!(named.status.code(), Some(1));
    assert!(
        said(&named).contains("WRONG   Postgres: ") && said(&named).contains("not valid for name"),
        "{}",
        said(&named)
    );
    speak_tls(&admin, None).await?;
    let plain = check(&by("right.pem"), &pingone, &[]).await?;
    assert_eq!(plain.status.code(), Some(1), "it does not go on without: {}", said(&plain));
    assert!(said(&plain).contains("WRONG   Postgres: "), "{}", said(&plain));
    Ok(())
}

/// In front of the simulator, as PingOne's own end of TLS.
struct Front {
    address: SocketAddr,
    _running: DropGuard,
}

impl Front {
    async fn start(pair: &Pair, behind: SocketAddr) -> Result<Self> {
        let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut outside = acceptor.accept(stream).await?;
                    let mut inside = TcpStream::connect(behind).await?;
                    copy_bidirectional(&mut outside, &mut inside).await
                });
            }
        }));
        Ok(Self { address, _running: stop.drop_guard() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pingone_has_to_be_who_its_certificate_says_and_gets_no_secret_before() -> Result<()> {
    let (authority, stranger) = (Authority::new("of the test")?, Authority::new("another")?);
    let folder = crate::harness::cluster::folder()?;
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, authority.pem())?;
    let roots = roots.display().to_string();
    let database = Database::create().await?;
    for (what, pair, good) in [
        ("good", authority.server()?, true),
        ("of an unknown authority", stranger.server()?, false),
        ("for another name", elsewhere(&authority)?, false),
    ] {
        let pingone = PingOne::start(simulator::Settings::default()).await?;
        let front = Front::start(&pair, pingone.address).await?;
        let base = format!("https://localhost:{}", front.address.port());
        // The system's authorities, as far as this process is concerned.
        let settings =
            [("PINGONE_API_PATH", base.as_str()), ("PINGONE_AUTH_PATH", &base), ("SSL_CERT_FILE", &roots)];
        let checked = check(database.url(), &pingone, &settings).await?;
        assert_eq!(checked.status.success(), good, "{what}: {}", said(&checked));
        assert_eq!(said(&checked).contains("WRONG   PingOne credential: "), !good, "{}", said(&checked));
        let counts = pingone.simulator.counts();
        assert_eq!(counts.token_requests > 0, good, "{what}: it was sent the secret");
    }
    Ok(())
}
