//! Certificates that change while calls come: new connections meet the new one, no call fails, and what cannot be used changes
//! nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use pingone_unblock::proto::v1::{device_service_client::DeviceServiceClient, job::State};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::harness::{
    Result,
    authority::{AUTHORITIES, Authority, CERT, KEY, Pair, params},
    note,
    secured::{DESK, Secured, Shown},
    service::{eventually, request, some_device, wire},
};

const CALLERS: usize = 3;
const TAKEN: &str = "unblock_reloads_total{unblock_outcome=\"taken\",unblock_reload_what=\"tls\"}";
const REFUSED: &str = "unblock_reloads_total{unblock_outcome=\"refused\",unblock_reload_what=\"tls\"}";

async fn unblocks(channel: Channel) -> Result<()> {
    let asked = request(wire(&some_device()?));
    let job = DeviceServiceClient::new(channel).unblock(asked).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    Ok(())
}

fn shown(pair: &Pair) -> Result<Shown> {
    Ok((vec![CertificateDer::from_pem_slice(pair.cert.as_bytes())?], pair.key.clone()))
}

/// Whether a new connection of `caller` meets `server`'s certificate.
async fn meets(secured: &Secured, caller: &Pair, server: &Pair) -> Result<bool> {
    let stream = secured.shows(Some(&shown(caller)?)).await?;
    let met = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).ok_or("no certificate")?;
    Ok(*met == CertificateDer::from_pem_slice(server.cert.as_bytes())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_met_by_new_connections_and_no_call_fails() -> Result<()> {
    let secured = Arc::new(Secured::start("required").await?);
    let caller = secured.authority.client(DESK)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut calling = JoinSet::new();
    for _ in 0..CALLERS {
        let (secured, caller, stop) = (Arc::clone(&secured), caller.clone(), Arc::clone(&stop));
        calling.spawn(async move {
            let kept = secured.connect(Some(&caller)).await?;
            let mut calls = 0;
            while !stop.load(Ordering::Relaxed) {
                unblocks(kept.clone()).await?;
                unblocks(secured.connect(Some(&caller)).await?).await?;
                calls += 2;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(calls)
        });
    }
    for renewed in 1..=2 {
        let pair = secured.authority.server()?;
        secured.files.replace(&pair)?;
        eventually("new connections meet the new one", async || meets(&secured, &caller, &pair).await)
            .await?;
        assert_eq!(secured.counted(TAKEN).await?, f64::from(renewed));
    }
    stop.store(true, Ordering::Relaxed);
    let calls = calling.join_all().await.into_iter().collect::<Result<Vec<u32>>>()?;
    note(&format!("{calls:?} calls, none failed"));
    assert!(calls.iter().all(|calls| *calls > 0), "{calls:?}");
    assert_eq!(secured.counted(REFUSED).await?, 0.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_leaves_the_last_good_certificate() -> Result<()> {
    let secured = Secured::start("required").await?;
    let caller = secured.authority.client(DESK)?;
    let good = secured.authority.server()?;
    secured.files.replace(&good)?;
    eventually("the good one is met", async || meets(&secured, &caller, &good).await).await?;

    let mut over = params(&["localhost"], ExtendedKeyUsagePurpose::ServerAuth)?;
    over.not_after = OffsetDateTime::now_utc() - time::Duration::MINUTE;
    let expired = secured.authority.sign(&over)?;
    let another = secured.authority.server()?.key;
    let bad: [(&str, Vec<(&'static str, &str)>); 4] = [
        ("the key is not that of the certificate", vec![(KEY, &another)]),
        ("the certificate file holds no certificate (PEM)", vec![(CERT, "nothing")]),
        ("the certificate has expired", vec![(CERT, &expired.cert), (KEY, &expired.key)]),
        (
            "the file of authorities for clients holds no certificate",
            vec![(CERT, &good.cert), (KEY, &good.key), (AUTHORITIES, "")],
        ),
    ];
    for (number, (why, files)) in (1_u32..).zip(bad) {
        secured.files.change(&files)?;
        eventually("it is counted", async || Ok(secured.counted(REFUSED).await? == f64::from(number)))
            .await?;
        secured.logged(why).await?;
        assert_eq!(secured.log().matches("the last good one stays").count(), usize::try_from(number)?);
        assert!(meets(&secured, &caller, &good).await?, "{why}: the last good one is gone");
    }
    unblocks(secured.connect(Some(&caller)).await?).await?;

    let next = secured.authority.server()?;
    let authorities = secured.authority.pem();
    secured.files.change(&[(CERT, &next.cert), (KEY, &next.key), (AUTHORITIES, &authorities)])?;
    eventually("a good one is taken again", async || meets(&secured, &caller, &next).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_for_callers_comes_and_goes() -> Result<()> {
    let secured = Secured::start("required").await?;
    let next = Authority::new("the next")?;
    let (old, new) = (shown(&secured.authority.client(DESK)?)?, shown(&next.client(DESK)?)?);
    assert!(secured.shows(Some(&old)).await.is_ok() && secured.shows(Some(&new)).await.is_err());
    let both = secured.authority.pem() + &next.pem();
    secured.files.change(&[(AUTHORITIES, &both)])?;
    eventually("both are known", async || Ok(secured.shows(Some(&new)).await.is_ok())).await?;
    assert!(secured.shows(Some(&old)).await.is_ok());
    secured.files.change(&[(AUTHORITIES, &next.pem())])?;
    eventually("the old one is not", async || Ok(secured.shows(Some(&old)).await.is_err())).await?;
    assert!(secured.shows(Some(&new)).await.is_ok());
    Ok(())
}
