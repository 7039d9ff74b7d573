//! Callers' tokens: what a good one says, and that nothing else is one.

use std::time::Duration;

use pingone_unblock::auth::{
    self, TokenError, Tokens,
    token::{Clock, SubjectClaim},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{
    Result,
    issuer::{Answer, Issuer, Subject, set},
    keys::SigningKey,
};

/// Tokens of `issuer`, by a clock that is put forward, not waited for.
pub(crate) fn trusting(issuer: &Issuer) -> Result<(Tokens, Clock)> {
    let clock = Clock::default();
    Ok((Tokens::with_clock(vec![issuer.trusted()], clock.clone())?, clock))
}

#[tokio::test]
async fn every_algorithm_that_is_accepted_is_verified() -> Result<()> {
    let keys =
        [SigningKey::rs256("a"), SigningKey::es256("b"), SigningKey::es384("c"), SigningKey::ed25519("d")];
    for key in keys {
        let algorithm = key.algorithm();
        let issuer = Issuer::start_with(key).await?;
        let claims = Tokens::new(vec![issuer.trusted()])?.verify(&issuer.token("helpdesk")).await;
        assert_eq!(claims.map(|claims| claims.subject), Ok("helpdesk".to_owned()), "{algorithm}");
    }
    // A key that does not say what it is for serves both ways of RSA.
    let issuer = Issuer::start_with(SigningKey::rs256("a")).await?;
    let mut jwk = issuer.key().jwk();
    jwk.as_object_mut().map(|jwk| jwk.remove("alg"));
    issuer.answer(Answer::Document(set(&[jwk])));
    let tokens = Tokens::new(vec![issuer.trusted()])?;
    for algorithm in ["RS256", "PS256"] {
        let token = issuer.token_with("helpdesk", |_, header| header["alg"] = json!(algorithm));
        assert!(tokens.verify(&token).await.is_ok(), "{algorithm}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_says_who_calls_for_whom_and_with_what() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, _) = trusting(&issuer)?;
    let plain = tokens.verify(&issuer.token(Subject::named("svc").granted("unblock  read"))).await?;
    assert_eq!((plain.subject.as_str(), plain.acting_for.as_deref()), ("svc", None));
    assert_eq!(plain.scopes, ["unblock", "read"]);
    let caller = plain.caller().ok_or("a caller")?;
    assert_eq!(caller.as_str(), format!("{}|svc", issuer.url));

    let delegated = tokens.verify(&issuer.token(Subject::named("svc").acting_for("jane"))).await?;
    assert_eq!((delegated.subject.as_str(), delegated.acting_for.as_deref()), ("svc", Some("jane")));
    assert_eq!(delegated.caller(), plain.caller(), "whoever it is for, the service calls");

    let earlier = issuer.token_with(Subject::named("svc").acting_for("jane"), |claims, _| {
        claims["act"]["act"] = json!({ "sub": "earlier" });
        claims["scope"] = Value::Null;
        claims["scp"] = json!(["bulk", "audit read"]);
    });
    let earlier = tokens.verify(&earlier).await?;
    assert_eq!((earlier.subject.as_str(), earlier.acting_for.as_deref()), ("svc", Some("jane")));
    assert_eq!(earlier.scopes, ["bulk", "audit", "read"]);

    let long = issuer.token("x".repeat(255).as_str());
    let shown = format!("{:?}", tokens.verify(&long).await?);
    assert!(!shown.contains("xxx") && !shown.contains("svc"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn services_without_a_subject_go_by_their_client_id_where_that_is_set_up() -> Result<()> {
    let issuer = Issuer::start().await?;
    let tokens =
        Tokens::new(vec![auth::Issuer { subject_claim: SubjectClaim::ClientId, ..issuer.trusted() }])?;
    let token = issuer.token_with("jane", |claims, _| claims["sub"] = Value::Null);
    assert_eq!(tokens.verify(&token).await?.subject, "a-client");
    let none = issuer.token_with("jane", |claims, _| claims["client_id"] = Value::Null);
    assert_eq!(tokens.verify(&none).await.err(), Some(TokenError::ClaimMissing("client_id")));
    Ok(())
}

/// Older releases of Keycloak write the nonce of a sign-in into its access token.
#[tokio::test]
async fn a_nonce_is_no_sign_of_an_id_token_where_the_token_says_it_is_a_bearers() -> Result<()> {
    let issuer = Issuer::start().await?;
    let tokens = Tokens::new(vec![issuer.trusted()])?;
    let of_type = |typ: &'static str| {
        issuer.token_with("jane", |claims, header| {
            header["typ"] = json!("JWT");
            claims["nonce"] = json!("n-0S6");
            claims["typ"] = json!(typ);
        })
    };
    assert_eq!(tokens.verify(&of_type("Bearer")).await?.subject, "jane");
    assert_eq!(tokens.verify(&of_type("ID")).await.err(), Some(TokenError::TypeWrong));
    Ok(())
}

#[tokio::test]
async fn clocks_may_disagree_by_the_leeway() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, clock) = trusting(&issuer)?;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let late = issuer.token_with("a", |claims, _| claims["exp"] = json!(now - 10));
    let early = issuer.token_with("a", |claims, _| claims["nbf"] = json!(now as f64 + 10.5));
    assert!(tokens.verify(&late).await.is_ok());
    assert!(tokens.verify(&early).await.is_ok());
    clock.advance(Duration::from_secs(30));
    assert_eq!(tokens.verify(&late).await.err(), Some(TokenError::Expired));
    Ok(())
}

/// What was verified is remembered, but no longer than the token lasts.
#[tokio::test]
async fn a_token_that_was_good_expires() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, clock) = trusting(&issuer)?;
    let token = issuer.token("a");
    for _ in 0..3 {
        assert!(tokens.verify(&token).await.is_ok());
    }
    clock.advance(Duration::from_secs(300 + 31));
    assert_eq!(tokens.verify(&token).await.err(), Some(TokenError::Expired));
    Ok(())
}

/// One byte is enough.
#[test]
fn no_mutation_of_a_token_is_a_token() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let issuer = runtime.block_on(Issuer::start_with(SigningKey::ed25519("a")))?;
    let (tokens, _) = trusting(&issuer)?;
    let good = issuer.token("a");
    runtime.block_on(tokens.verify(&good))?;
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4_u8);
    proptest!(ProptestConfig::with_cases(2000), |(changes in prop::collection::vec(change, 1..4))| {
        let mut bytes = good.clone().into_bytes();
        for (place, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] ^= (byte & 0x7f).max(1),
                1 => bytes.insert(at, byte & 0x7f),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mutant = String::from_utf8_lossy(&bytes).into_owned();
        if mutant != good {
            prop_assert!(runtime.block_on(tokens.verify(&mutant)).is_err(), "{}", mutant);
        }
    });
    Ok(())
}
