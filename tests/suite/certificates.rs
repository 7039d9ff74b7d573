//! Callers' certificates that are no good: each is refused before a request is read, and its reason is counted and logged.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;

use crate::harness::{
    Result,
    authority::{Authority, Pair, client},
    secured::{DESK, Secured, Shown},
    service::eventually,
};

const MINUTE: Duration = Duration::from_secs(60);

fn der(pem: &str) -> Result<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_slice(pem.as_bytes())?)
}

fn alone(pair: Pair) -> Result<Shown> {
    Ok((vec![der(&pair.cert)?], pair.key))
}

/// One that is good but for this.
fn but(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Result<Shown> {
    let mut params = client(DESK)?;
    change(&mut params);
    alone(authority.sign(&params)?)
}

/// A certificate by an authority that stands below this one, and the authority's own.
fn below(authority: &Authority, is_ca: IsCa) -> Result<[Shown; 2]> {
    let mut between = client("spiffe://example.com/between")?;
    between.is_ca = is_ca;
    between.extended_key_usages.clear();
    between.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let between = CertifiedIssuer::signed_by(between, KeyPair::generate()?, authority.issuer())?;
    let key = KeyPair::generate()?;
    let leaf = client(DESK)?.signed_by(&key, &between)?;
    let (leaf, key) = (leaf.der().clone(), key.serialize_pem());
    Ok([(vec![leaf.clone()], key.clone()), (vec![leaf, between.der().clone()], key)])
}

/// What is wrong with each, what is shown, and how that is counted.
fn bad(authority: &Authority) -> Result<Vec<(&'static str, Option<Shown>, &'static str)>> {
    let now = OffsetDateTime::now_utc();
    let good = authority.client(DESK)?;
    let own_key = KeyPair::generate()?;
    let own = client(DESK)?.self_signed(&own_key)?;
    let whole = der(&good.cert)?.to_vec();
    let cut = whole[..whole.len() / 2].to_vec();
    let mut flipped = whole.clone();
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let [without_between, _] = below(authority, IsCa::Ca(BasicConstraints::Unconstrained))?;
    let [_, by_a_caller] = below(authority, IsCa::ExplicitNoCa)?;
    let purpose = |purpose| move |params: &mut CertificateParams| params.extended_key_usages = vec![purpose];
    let named = |uri: &str| alone(authority.client(uri)?);
    Ok(vec![
        ("none at all", None, "certificate_missing"),
        (
            "of an authority unknown here",
            Some(alone(Authority::new("another")?.client(DESK)?)?),
            "certificate_authority",
        ),
        (
            "of an authority unknown here, of the same name",
            Some(alone(Authority::new("of the test")?.client(DESK)?)?),
            "certificate_signature",
        ),
        (
            "signed by itself",
            Some((vec![own.der().clone()], own_key.serialize_pem())),
            "certificate_authority",
        ),
        ("without the one between", Some(without_between), "certificate_authority"),
        ("signed by a caller", Some(by_a_caller), "certificate_invalid"),
        ("expired", Some(but(authority, |params| params.not_after = now - MINUTE)?), "certificate_expired"),
        (
            "of tomorrow",
            Some(but(authority, |params| params.not_before = now + 60 * MINUTE)?),
            "certificate_not_yet_valid",
        ),
        (
            "for servers",
            Some(but(authority, purpose(ExtendedKeyUsagePurpose::ServerAuth))?),
            "certificate_purpose",
        ),
        (
            "for signing code",
            Some(but(authority, purpose(ExtendedKeyUsagePurpose::CodeSigning))?),
            "certificate_purpose",
        ),
        (
            "of an authority, shown as a caller's",
            Some(but(authority, |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            })?),
            "certificate_invalid",
        ),
        (
            "another's: without its key",
            Some((vec![der(&good.cert)?], KeyPair::generate()?.serialize_pem())),
            "certificate_signature",
        ),
        (
            "without a name",
            Some(but(authority, |params| params.subject_alt_names.clear())?),
            "certificate_name",
        ),
        ("with a name of two", Some(named("spiffe://a|spiffe://b")?), "certificate_name"),
        ("with a line break in its name", Some(named("spiffe://a\nb")?), "certificate_name"),
        ("with a URI that passes for a DNS name", Some(named("dns:desk.example.com")?), "certificate_name"),
        ("cut off", Some((vec![cut.into()], good.key.clone())), "certificate_invalid"),
        ("changed by a bit", Some((vec![flipped.into()], good.key)), "certificate_signature"),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_certificate_is_refused_and_its_reason_counted_and_logged() -> Result<()> {
    let secured = Secured::start("required").await?;
    let good = alone(secured.authority.client(DESK)?)?;
    secured.shows(Some(&good)).await?;
    let [_, with_between] = below(&secured.authority, IsCa::Ca(BasicConstraints::Unconstrained))?;
    secured.shows(Some(&with_between)).await?;

    for (what, shown, cause) in bad(&secured.authority)? {
        let logged = format!("\"cause\":\"{cause}\"");
        let (before, lines) = (secured.refused(cause).await?, secured.log().matches(&logged).count());
        assert!(secured.shows(shown.as_ref()).await.is_err(), "a certificate {what} was taken");
        let counted = eventually("it is counted and logged", async || {
            let now = secured.log().matches(&logged).count();
            Ok(secured.refused(cause).await? == before + 1.0 && now == lines + 1)
        });
        counted.await.map_err(|error| format!("{what}, {cause}: {error}\n{}", secured.log()))?;
    }
    assert_eq!(secured.pingone.simulator.counts().requests, 0, "nothing was done for any of them");
    secured.shows(Some(&good)).await?;
    Ok(())
}
