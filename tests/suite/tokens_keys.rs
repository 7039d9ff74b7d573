//! The keys of issuers: fetched, kept, replaced, and gone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use pingone_unblock::auth::{
    self, TokenError, Tokens,
    token::{IssuerError, JwksUrl, KeysError, TokensError},
};
use serde_json::{Value, json};

use crate::{
    harness::{
        Result,
        issuer::{AUDIENCE, Answer, Issuer, set},
        keys::SigningKey,
    },
    tokens::trusting,
};

const PAUSE: Duration = Duration::from_secs(10);
const REFRESH: Duration = Duration::from_secs(5 * 60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A token that outlasts any clock of these tests.
fn lasting(issuer: &Issuer) -> String {
    issuer.token_with("helpdesk", |claims, _| claims["exp"] = json!(4_000_000_000_u64))
}

#[tokio::test]
async fn starting_asks_nobody_and_the_first_token_waits_for_the_keys() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, _) = trusting(&issuer)?;
    assert_eq!(issuer.fetches(), 0);
    issuer.hold();
    let token = issuer.token("a");
    let verifying = tokio::spawn(async move { tokens.verify(&token).await });
    issuer.asked(1).await;
    assert!(!verifying.is_finished());
    issuer.release();
    assert!(verifying.await?.is_ok());
    assert_eq!(issuer.fetches(), 1);
    Ok(())
}

#[tokio::test]
async fn a_thousand_made_up_keys_are_one_question() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, clock) = trusting(&issuer)?;
    assert!(tokens.verify(&issuer.token("a")).await.is_ok());
    clock.advance(PAUSE);
    issuer.hold();
    let mut attack = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let token = issuer.token_with("a", |_, header| header["kid"] = json!(format!("made up {number}")));
        let tokens = tokens.clone();
        attack.spawn(async move { tokens.verify(&token).await.err() });
    }
    issuer.asked(2).await;
    // Whoever has a good token does not wait.
    assert!(tokens.verify(&issuer.token("b")).await.is_ok());
    issuer.release();
    for refused in attack.join_all().await {
        assert_eq!(refused, Some(TokenError::KeyUnknown));
    }
    assert_eq!(issuer.fetches(), 2);
    // The answer stands for a while.
    let again = issuer.token_with("a", |_, header| header["kid"] = json!("made up"));
    assert_eq!(tokens.verify(&again).await.err(), Some(TokenError::KeyUnknown));
    assert_eq!(issuer.fetches(), 2);
    clock.advance(PAUSE);
    assert_eq!(tokens.verify(&again).await.err(), Some(TokenError::KeyUnknown));
    assert_eq!(issuer.fetches(), 3);
    Ok(())
}

#[tokio::test]
async fn keys_change_under_load_and_no_token_fails() -> Result<()> {
    let issuer = Arc::new(Issuer::start().await?);
    let (tokens, clock) = trusting(&issuer)?;
    let old = lasting(&issuer);
    tokens.verify(&old).await?;
    let (phase, phases) = tokio::sync::watch::channel(0);
    let mut load = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let (tokens, issuer, old, phases) =
            (tokens.clone(), Arc::clone(&issuer), old.clone(), phases.clone());
        load.spawn(async move {
            let mut verified = BTreeSet::new();
            loop {
                let now = *phases.borrow();
                if now == 2 {
                    return Ok::<_, TokenError>(verified);
                }
                // Old and new at the same time, each token another.
                tokens.verify(&old).await?;
                let token = issuer.token(format!("caller {caller}").as_str());
                tokens.verify(&token).await?;
                verified.insert((now, issuer.key().id.clone()));
                tokio::task::yield_now().await;
            }
        });
    }
    clock.advance(PAUSE);
    issuer.rotate(SigningKey::es384("second"));
    tokens.verify(&issuer.token("the first to use it")).await?;
    phase.send_replace(1);
    clock.advance(REFRESH);
    tokens.refresh().await;
    tokens.verify(&old).await?;
    phase.send_replace(2);
    for verified in load.join_all().await {
        assert!(verified?.iter().any(|(_, key)| key == "second"), "each caller met the new key");
    }

    issuer.retire_old_keys();
    clock.advance(REFRESH);
    tokens.refresh().await;
    assert_eq!(tokens.verify(&old).await.err(), Some(TokenError::KeyUnknown), "also one seen a moment ago");
    assert!(tokens.verify(&lasting(&issuer)).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn keys_are_fetched_anew_before_they_get_old() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, clock) = trusting(&issuer)?;
    let token = lasting(&issuer);
    tokens.refresh().await;
    tokens.refresh().await;
    assert_eq!(issuer.fetches(), 1);
    clock.advance(REFRESH);
    issuer.hold();
    // Nobody waits for that, not even for a token that is looked up.
    assert!(tokens.verify(&token).await.is_ok());
    assert!(tokens.verify(&token).await.is_ok());
    issuer.asked(2).await;
    issuer.release();
    tokens.refresh().await;
    assert_eq!(issuer.fetches(), 2);
    Ok(())
}

#[tokio::test]
async fn while_the_issuer_is_down_its_known_keys_serve_for_a_day() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, clock) = trusting(&issuer)?;
    let known = lasting(&issuer);
    let unknown = issuer.token_with("a", |claims, header| {
        claims["exp"] = json!(4_000_000_000_u64);
        header["kid"] = json!("the next one");
    });
    tokens.verify(&known).await?;
    issuer.go_down();
    clock.advance(PAUSE);
    assert_eq!(tokens.verify(&unknown).await.err(), Some(TokenError::KeysUnavailable));
    assert_eq!(tokens.verify(&unknown).await.err(), Some(TokenError::KeysUnavailable), "at once");
    assert!(tokens.verify(&known).await.is_ok());

    clock.advance(DAY - PAUSE - Duration::from_secs(60));
    tokens.refresh().await;
    assert!(tokens.verify(&known).await.is_ok());
    clock.advance(Duration::from_secs(60));
    assert_eq!(tokens.verify(&known).await.err(), Some(TokenError::KeysUnavailable));

    issuer.come_up().await?;
    assert_eq!(tokens.verify(&known).await.err(), Some(TokenError::KeysUnavailable), "it was just asked");
    clock.advance(PAUSE);
    assert!(tokens.verify(&known).await.is_ok());
    assert_eq!(tokens.verify(&unknown).await.err(), Some(TokenError::KeyUnknown));
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_no_set_of_keys_changes_nothing() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, clock) = trusting(&issuer)?;
    let known = lasting(&issuer);
    tokens.verify(&known).await?;
    let mut weak = SigningKey::rs256("first").jwk();
    weak["n"] = json!("3q2-7w");
    let mut encrypts = issuer.key().jwk();
    encrypts["use"] = json!("enc");
    let mut private = issuer.key().jwk();
    private["d"] = json!("c2VjcmV0");
    let shared = json!({ "kty": "oct", "kid": "first", "k": "c2VjcmV0", "alg": "HS256" });
    for (answer, error) in [
        (Answer::Status(500), KeysError::Status(500)),
        (Answer::Status(204), KeysError::Status(204)),
        (Answer::Redirect, KeysError::Redirect),
        (Answer::Html, KeysError::NotKeys),
        (Answer::Oversized, KeysError::TooLarge),
        (Answer::Document("{}".to_owned()), KeysError::NotKeys),
        (Answer::Document(set(&[])), KeysError::NoKey),
        (Answer::Document(set(&[weak])), KeysError::NoKey),
        (Answer::Document(set(&[encrypts])), KeysError::NoKey),
        (Answer::Document(set(&[private])), KeysError::NoKey),
        (Answer::Document(set(&[shared])), KeysError::NoKey),
        (Answer::Document(set(&vec![issuer.key().jwk(); 101])), KeysError::TooLarge),
    ] {
        issuer.answer(answer);
        let found = tokens.check().await;
        assert_eq!(found, [(issuer.url.clone(), Err(error.clone()))]);
        clock.advance(REFRESH);
        tokens.refresh().await;
        assert!(tokens.verify(&known).await.is_ok(), "{error}");
    }
    issuer.answer(Answer::Keys);
    assert_eq!(tokens.check().await, [(issuer.url.clone(), Ok(1))]);
    Ok(())
}

/// By a clock that jumps to the deadline as soon as nothing else can happen.
#[tokio::test(start_paused = true)]
async fn an_issuer_that_does_not_answer_is_not_waited_for() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, _) = trusting(&issuer)?;
    for answer in [Answer::Never, Answer::CutShort] {
        issuer.answer(answer);
        assert_eq!(tokens.check().await, [(issuer.url.clone(), Err(KeysError::Late))]);
    }
    assert_eq!(tokens.verify(&issuer.token("a")).await.err(), Some(TokenError::KeysUnavailable));
    Ok(())
}

#[tokio::test]
async fn keys_are_told_apart_however_they_are_published() -> Result<()> {
    let issuer = Issuer::start().await?;
    let (tokens, clock) = trusting(&issuer)?;
    let (mine, other) = (issuer.key().jwk(), SigningKey::es256("first").jwk());
    let (mut nameless, mut others_nameless) = (mine.clone(), other.clone());
    for key in [&mut nameless, &mut others_nameless] {
        key.as_object_mut().map(|key| key.remove("kid"));
    }
    let named = lasting(&issuer);
    let unnamed = issuer.token_with("a", |claims, header| {
        claims["exp"] = json!(4_000_000_000_u64);
        header["kid"] = Value::Null;
    });
    let unknown = Some(TokenError::KeyUnknown);
    for (what, keys, for_named, for_unnamed) in [
        ("two of one id", vec![other.clone(), mine.clone()], None, unknown),
        ("one without an id", vec![nameless.clone()], unknown, None),
        ("two without an id", vec![nameless, others_nameless], unknown, unknown),
        (
            "one, and junk",
            vec![json!(7), json!({}), json!({ "kty": "EC", "crv": "P-521" }), mine],
            None,
            None,
        ),
    ] {
        issuer.answer(Answer::Document(set(&keys)));
        clock.advance(REFRESH);
        tokens.refresh().await;
        assert_eq!(tokens.verify(&named).await.err(), for_named, "{what}");
        assert_eq!(tokens.verify(&unnamed).await.err(), for_unnamed, "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_configuration_of_another_issuer_is_not_followed() -> Result<()> {
    let issuer = Issuer::start().await?;
    // The same server, by another name.
    let alias = issuer.url.replace("127.0.0.1", "localhost");
    let trusted = auth::Issuer::new(&alias, AUDIENCE, JwksUrl::of(&alias)?);
    let found = Tokens::new(vec![trusted])?.check().await;
    assert_eq!(found, [(alias.clone(), Err(KeysError::OtherIssuer))]);
    // Given the address of its keys, nothing is asked for it.
    let trusted = auth::Issuer::new(&alias, AUDIENCE, JwksUrl::parse(&issuer.jwks_url())?);
    let tokens = Tokens::new(vec![trusted])?;
    assert!(tokens.verify(&issuer.token_with("a", |claims, _| claims["iss"] = json!(alias))).await.is_ok());
    assert_eq!(JwksUrl::parse("http://login.example.com/jwks"), Err(IssuerError::NotHttps));
    Ok(())
}

#[tokio::test]
async fn issuers_that_cannot_be_told_apart_are_none() -> Result<()> {
    let issuer = Issuer::start().await?;
    let twice = Tokens::new(vec![issuer.trusted(), issuer.trusted()]);
    assert!(matches!(twice, Err(TokensError::Twice(_))));
    let for_anybody = Tokens::new(vec![auth::Issuer { audience: Vec::new(), ..issuer.trusted() }]);
    assert!(matches!(for_anybody, Err(TokensError::NoAudience(_))));
    Ok(())
}
