//! TLS on the gRPC port: who is let in, as whom, and what is said to whom is not.

use std::time::Duration;

use pingone_unblock::{
    proto::v1::{
        ListAuditEventsRequest, UnblockRequest, audit_service_client::AuditServiceClient,
        device_service_client::DeviceServiceClient, job::State,
    },
    simulator,
};
use rcgen::ExtendedKeyUsagePurpose;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, transport::Channel};

use crate::{
    harness::{
        Result,
        authority::{AUTHORITIES, Authority, CERT, Files, KEY, Pair, params},
        database::Database,
        issuer::{AUDIENCE, Issuer},
        process::{command, configuration},
        secured::{DESK, READER, Secured},
        service::{PingOne, eventually, request, some_device, wire},
    },
    unblock::reason,
};

fn asked() -> Result<UnblockRequest> {
    Ok(request(wire(&some_device()?)))
}

async fn unblocks(channel: Channel) -> Result<()> {
    let job = DeviceServiceClient::new(channel).unblock(asked()?).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_over_tls_and_not_beside_it() -> Result<()> {
    let secured = Secured::start("none").await?;
    unblocks(secured.connect(None).await?).await?;
    assert!(unblocks(secured.process.channel()?).await.is_err(), "no plain text on this port");
    let stranger = Authority::new("another")?;
    let refused = stranger.connect(&secured.process.address().to_string(), None).await;
    assert!(refused.is_err(), "a certificate that its authority did not sign");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_demanded_where_it_is_required_and_not_where_it_is_optional() -> Result<()> {
    for (auth, cause) in [("required", None), ("optional", Some("CREDENTIALS_MISSING"))] {
        let secured = Secured::start(auth).await?;
        let pair = secured.authority.client(DESK)?;
        unblocks(secured.connect(Some(&pair)).await?).await?;
        let nobody = match secured.connect(None).await {
            Err(_) => None,
            Ok(channel) => {
                let refused = DeviceServiceClient::new(channel).unblock(asked()?).await.err();
                refused.filter(|status| status.code() == Code::Unauthenticated).map(|status| reason(&status))
            }
        };
        assert_eq!(nobody.as_deref(), cause, "{auth}");
        assert_eq!(secured.pingone.simulator.counts().posts, 1, "nothing was done for nobody");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_the_certificate_is_the_caller_and_may_do_what_the_policy_says() -> Result<()> {
    let secured = Secured::start("required").await?;
    let channel = async |uri: &str| secured.connect(Some(&secured.authority.client(uri)?)).await;
    let desk = channel(DESK).await?;
    let job = DeviceServiceClient::new(desk.clone()).unblock(asked()?).await?.into_inner().job;
    let job = job.ok_or("no job")?;
    assert_eq!(job.caller, DESK);

    for name in [READER, "spiffe://example.com/stranger", "spiffe://example.com/Desk"] {
        let refused = DeviceServiceClient::new(channel(name).await?).unblock(asked()?).await.err();
        let refused = refused.ok_or("it was let in")?;
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::PermissionDenied, "PERMISSION_MISSING")
        );
    }
    assert_eq!(secured.pingone.simulator.counts().posts, 1, "nothing was done for others");

    let of_job = ListAuditEventsRequest { job_id: job.job_id, ..ListAuditEventsRequest::default() };
    let trail = AuditServiceClient::new(desk).list_audit_events(of_job).await?.into_inner().events;
    assert!(!trail.is_empty() && trail.iter().any(|event| event.caller == DESK), "{trail:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_more_than_the_certificate_it_comes_with() -> Result<()> {
    let issuer = Issuer::start().await?;
    let service = format!("{}|svc", issuer.url);
    let policy = format!(
        "[[caller]]\nname = \"{service}\"\nallow = [{{ scopes = [\"unblock\"], environments = \"all\" }}]\n"
    );
    let settings = [("UNBLOCK_OIDC_ISSUER", issuer.url.as_str()), ("UNBLOCK_OIDC_AUDIENCE", AUDIENCE)];
    let secured = Secured::with("optional", &policy, &settings).await?;
    let bearing = |token: &str| -> Result<Request<UnblockRequest>> {
        let mut asked = Request::new(asked()?);
        asked.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        Ok(asked)
    };
    let token = issuer.token("svc");
    for shown in [None, Some(secured.authority.client(READER)?)] {
        let mut devices = DeviceServiceClient::new(secured.connect(shown.as_ref()).await?);
        let job = devices.unblock(bearing(&token)?).await?.into_inner().job.ok_or("no job")?;
        assert_eq!(job.caller, service);
        // A token that is not good is not mended by a certificate.
        let refused = devices.unblock(bearing("not-a-token")?).await.err().ok_or("it was let in")?;
        assert_eq!(reason(&refused), "CREDENTIALS_INVALID");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_tls_and_what_is_no_tls_are_refused() -> Result<()> {
    let secured = Secured::start("none").await?;
    // A hello of TLS 1.1, as RFC 4346 has it: version 3.2, a random, no session, one cipher, no compression.
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let length = u8::try_from(hello.len())?;
    let old = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat();
    for (sent, cause) in [(old, "tls_unsupported"), (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "handshake_broken")]
    {
        let mut stream = TcpStream::connect(secured.process.address()).await?;
        stream.write_all(&sent).await?;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        eventually(cause, async || Ok(secured.refused(cause).await? == 1.0)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_is_wrong_with_tls() -> Result<()> {
    let secured = Secured::start("required").await?;
    let authority = &secured.authority;
    let mine = Files::new(&authority.client(DESK)?, &authority.pem())?;
    let stranger = Authority::new("another")?;
    let unknown = Files::new(&stranger.client(DESK)?, &stranger.pem())?;
    let [ca, cert, key] = [AUTHORITIES, CERT, KEY].map(|name| mine.path(name));
    let [strange, other, other_key] = [AUTHORITIES, CERT, KEY].map(|name| unknown.path(name));
    let right = ["--ca", &ca, "--cert", &cert, "--key", &key];

    let listed = secured.lists(&right).await?;
    assert_eq!(listed.0, Some(0), "{listed:?}");
    for (options, code, words) in [
        (&["--ca", &ca][..], 3, "demands a client certificate; give it with --cert and --key"),
        (&["--ca", &strange, "--cert", &cert, "--key", &key], 3, "by an authority that is not trusted here"),
        (&["--ca", &ca, "--cert", &other, "--key", &other_key], 3, "the client certificate (--cert)"),
        (&["--ca", "/nowhere/ca.pem"], 2, "--ca /nowhere/ca.pem: "),
        (&["--ca", &ca, "--token-file", "/nowhere/token"], 2, "--token-file /nowhere/token: "),
    ] {
        // A connection that has ended before the call was made says only that it is closed: on a busy machine that may come first.
        let mut told = (None, String::new());
        let so = eventually(words, async || {
            told = secured.lists(options).await?;
            Ok(told.0 == Some(code) && told.1.contains(words))
        });
        so.await.map_err(|error| format!("{error}: {options:?}: {told:?}"))?;
        let said = told.1;
        // A call that was made on a connection which the server ends meanwhile is repeated; what is known to fail again is not.
        let again = said.lines().any(|line| line.contains(words) && line.contains("trying again"));
        assert!(!again, "TLS that failed fails again: {said}");
    }
    let (ended, said) = secured.lists_over("http", &[]).await?;
    assert!(ended == Some(3) && said.contains("expects TLS; name it with https://"), "{ended:?} {said}");
    let named: Pair =
        authority.sign(&params(&["elsewhere.example.com"], ExtendedKeyUsagePurpose::ServerAuth)?)?;
    secured.files.replace(&named)?;
    eventually("another name is told", async || {
        let (ended, said) = secured.lists(&right).await?;
        Ok(ended == Some(3) && said.contains("for another name") && said.contains("elsewhere.example.com"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_whose_the_certificate_is_and_how_long_it_is_good() -> Result<()> {
    let authority = Authority::new("of the test")?;
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let checked = async |pair: &Pair| -> Result<(Option<i32>, String)> {
        let files = Files::new(pair, &authority.pem())?;
        let mut check = command(&["check", "--tls-cert", &files.path(CERT), "--tls-key", &files.path(KEY)]);
        check.envs(configuration(database.url(), &pingone));
        let output = tokio::task::spawn_blocking(move || check.output()).await??;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
    };
    let names = &["unblock.example.com", "127.0.0.1"];
    let mut params = params(names, ExtendedKeyUsagePurpose::ServerAuth)?;
    params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(10 * 24 * 3600 + 3600);
    let good = authority.sign(&params)?;
    let (code, said) = checked(&good).await?;
    assert_eq!(code, Some(0), "{said}");
    let until = params.not_after.date();
    let told =
        format!("TLS certificate for unblock.example.com, 127.0.0.1, good until {until}: 10 days left");
    assert!(said.contains(&format!("ok      {told}\n")), "{said}");

    params.not_after = OffsetDateTime::now_utc() - Duration::from_secs(3600);
    let (code, said) = checked(&authority.sign(&params)?).await?;
    assert!(code == Some(1) && said.contains("WRONG   TLS certificate for unblock.example.com"), "{said}");
    assert!(said.contains("it has expired, and no caller will trust it"), "{said}");

    let (code, said) = checked(&Pair { key: authority.server()?.key, ..good }).await?;
    assert!(
        code == Some(1) && said.contains("WRONG   TLS: the key is not that of the certificate"),
        "{said}"
    );
    Ok(())
}
