//! Tokens that are refused, each for its own reason.

use pingone_unblock::auth::{
    Issuer as Trusted, TokenError, Tokens,
    token::{Kind, TokenType},
};
use serde_json::{Value, json};

use crate::harness::{
    Result,
    issuer::{Issuer, Subject, encode},
    keys::SigningKey,
};

pub(crate) type Change = fn(&mut Value, &mut Value);

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

/// What is done to a good token's claims and header, and why it is refused then.
pub(crate) fn changes() -> Vec<(&'static str, Change, TokenError)> {
    use TokenError::{
        AlgorithmNotAllowed, AudienceWrong, ClaimMissing, ClaimWrong, Expired, ExtensionUnknown,
        IssuerUnknown, KeyUnknown, Malformed, NotYetValid, TypeWrong,
    };
    vec![
        ("no algorithm", |_, header| header["alg"] = json!("none"), AlgorithmNotAllowed),
        ("none, shouted", |_, header| header["alg"] = json!("NONE"), AlgorithmNotAllowed),
        ("HMAC with the public key", |_, header| header["alg"] = json!("HS256"), AlgorithmNotAllowed),
        ("RSA with another hash", |_, header| header["alg"] = json!("RS512"), AlgorithmNotAllowed),
        (
            "an algorithm of another kind of key",
            |_, header| header["alg"] = json!("ES256"),
            AlgorithmNotAllowed,
        ),
        ("not the key's own algorithm", |_, header| header["alg"] = json!("PS256"), AlgorithmNotAllowed),
        ("the header names no algorithm", |_, header| *header = json!({ "kid": "rsa" }), Malformed),
        ("extensions", |_, header| header["crit"] = json!(["exp"]), ExtensionUnknown),
        ("a key nobody published", |_, header| header["kid"] = json!("made up"), KeyUnknown),
        ("a key id that is a path", |_, header| header["kid"] = json!("../../dev/null"), KeyUnknown),
        ("a key id that is no text", |_, header| header["kid"] = json!(7), Malformed),
        ("a logout token", |_, header| header["typ"] = json!("logout+jwt"), TypeWrong),
        (
            "an ID token with a nonce",
            |claims, header| {
                header["typ"] = json!("JWT");
                claims["nonce"] = json!("n-0S6");
            },
            TypeWrong,
        ),
        (
            "an ID token with a hash",
            |claims, header| {
                header["typ"] = json!("JWT");
                claims["at_hash"] = json!("77QmUPtjPfzWtF2AnpK9RQ");
            },
            TypeWrong,
        ),
        (
            "an ID token of Keycloak",
            |claims, header| {
                header["typ"] = json!("JWT");
                claims["typ"] = json!("ID");
            },
            TypeWrong,
        ),
        ("no issuer", |claims, _| claims["iss"] = Value::Null, ClaimMissing("iss")),
        ("an issuer that is no text", |claims, _| claims["iss"] = json!(["a"]), ClaimWrong("iss")),
        ("another issuer", |claims, _| claims["iss"] = json!("https://login.example.com"), IssuerUnknown),
        (
            "almost the issuer",
            |claims, _| {
                claims["iss"] = json!(format!("{}/", claims["iss"].as_str().unwrap_or_default()));
            },
            IssuerUnknown,
        ),
        ("no audience", |claims, _| claims["aud"] = Value::Null, ClaimMissing("aud")),
        ("nobody's", |claims, _| claims["aud"] = json!([]), AudienceWrong),
        ("somebody else's", |claims, _| claims["aud"] = json!("https://api.pingone.com"), AudienceWrong),
        (
            "almost ours",
            |claims, _| claims["aud"] = json!(["pingone-unblock2", "PINGONE-UNBLOCK"]),
            AudienceWrong,
        ),
        (
            "an audience that is no text",
            |claims, _| claims["aud"] = json!({ "pingone-unblock": 1 }),
            ClaimWrong("aud"),
        ),
        ("no end", |claims, _| claims["exp"] = Value::Null, ClaimMissing("exp")),
        ("an end that is a text", |claims, _| claims["exp"] = json!("2999-01-01"), ClaimWrong("exp")),
        ("an end beyond all time", |claims, _| claims["exp"] = json!(1e300), ClaimWrong("exp")),
        ("an end before all time", |claims, _| claims["exp"] = json!(-1), ClaimWrong("exp")),
        ("over", |claims, _| claims["exp"] = json!(now() - 31), Expired),
        ("over for long", |claims, _| claims["exp"] = json!(0), Expired),
        ("not begun", |claims, _| claims["nbf"] = json!(now() + 60), NotYetValid),
        ("from the future", |claims, _| claims["iat"] = json!(now() + 60), NotYetValid),
        ("no subject", |claims, _| claims["sub"] = Value::Null, ClaimMissing("sub")),
        ("an empty subject", |claims, _| claims["sub"] = json!(""), ClaimWrong("sub")),
        ("a subject of two lines", |claims, _| claims["sub"] = json!("a\nb"), ClaimWrong("sub")),
        ("a subject that is a number", |claims, _| claims["sub"] = json!(1), ClaimWrong("sub")),
        ("an actor without a name", |claims, _| claims["act"] = json!({}), ClaimWrong("act")),
        ("an actor that is a text", |claims, _| claims["act"] = json!("service"), ClaimWrong("act")),
        (
            "an actor of another issuer",
            |claims, _| {
                claims["act"] = json!({ "sub": "a", "iss": "https://login.example.com" });
            },
            ClaimWrong("act"),
        ),
        (
            "an actor for nobody",
            |claims, _| {
                claims["sub"] = Value::Null;
                claims["act"] = json!({ "sub": "a" });
            },
            ClaimMissing("sub"),
        ),
        ("scopes that are numbers", |claims, _| claims["scope"] = json!([1]), ClaimWrong("scope")),
        (
            "bound to a key nobody showed",
            |claims, _| {
                claims["cnf"] = json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" });
            },
            ClaimWrong("cnf"),
        ),
        ("claims that are no object", |claims, _| *claims = json!(["a"]), Malformed),
    ]
}

#[tokio::test]
async fn a_bad_token_is_refused_for_its_own_reason() -> Result<()> {
    let issuer = Issuer::start_with(SigningKey::rs256("rsa")).await?;
    let tokens = Tokens::new(vec![issuer.trusted()])?;
    let changes = changes();
    assert!(changes.len() >= 25);
    for (what, change, error) in changes {
        let token = issuer.token_with("helpdesk", change);
        assert_eq!(tokens.verify(&token).await.err(), Some(error), "{what}");
        // Refused once is refused twice: nothing was remembered.
        assert_eq!(tokens.verify(&token).await.err(), Some(error), "{what}, again");
    }
    assert!(tokens.verify(&issuer.token("helpdesk")).await.is_ok(), "and a good one is good");
    Ok(())
}

#[tokio::test]
async fn a_token_that_was_tampered_with_is_refused() -> Result<()> {
    let issuer = Issuer::start_with(SigningKey::rs256("rsa")).await?;
    let tokens = Tokens::new(vec![issuer.trusted()])?;
    let good = issuer.token("helpdesk");
    let parts: Vec<_> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { return Err("three parts".into()) };
    let other = encode(issuer.claims("root").to_string());
    let forger = SigningKey::es256("rsa");
    let forged = forger.token(&json!({ "alg": "RS256", "kid": "rsa" }), &issuer.claims("helpdesk"));
    let unsigned = encode(json!({ "alg": "none" }).to_string());
    for (what, token, error) in [
        ("nothing", String::new(), TokenError::Missing),
        ("a word", "token".to_owned(), TokenError::Malformed),
        ("other claims", format!("{header}.{other}.{signature}"), TokenError::SignatureWrong),
        ("another's signature", forged, TokenError::SignatureWrong),
        ("no signature", format!("{header}.{claims}."), TokenError::SignatureWrong),
        ("half a signature", format!("{header}.{claims}.{}", &signature[..100]), TokenError::SignatureWrong),
        ("unsigned", format!("{unsigned}.{claims}."), TokenError::AlgorithmNotAllowed),
        ("an encrypted one", format!("{header}.{claims}.{signature}.a.b"), TokenError::Malformed),
        ("padded", format!("{good}=="), TokenError::Malformed),
        ("with its scheme", format!("Bearer {good}"), TokenError::Malformed),
        ("twice", format!("{good},{good}"), TokenError::Malformed),
        ("huge", issuer.token(Subject::named("a").granted(&"read ".repeat(2000))), TokenError::TooLarge),
    ] {
        let refused = tokens.verify(&token).await.err();
        assert_eq!(refused, Some(error), "{what}");
        assert!(!error.to_string().contains("helpdesk"));
    }
    Ok(())
}

/// Whoever makes a token may put any key into it: it proves nothing.
#[tokio::test]
async fn a_key_that_comes_with_the_token_is_not_used() -> Result<()> {
    let issuer = Issuer::start().await?;
    let forger = Issuer::start_with(SigningKey::es256("forged")).await?;
    let tokens = Tokens::new(vec![issuer.trusted()])?;
    let key = forger.key();
    for member in [
        json!({ "jwk": key.jwk() }),
        json!({ "jku": forger.jwks_url() }),
        json!({ "x5u": forger.jwks_url() }),
    ] {
        for id in ["forged", "first"] {
            let mut header = member.clone();
            header["alg"] = json!("ES256");
            header["kid"] = json!(id);
            let refused = tokens.verify(&key.token(&header, &issuer.claims("root"))).await.err();
            let expected = if id == "first" { TokenError::SignatureWrong } else { TokenError::KeyUnknown };
            assert_eq!(refused, Some(expected), "{header}");
        }
    }
    assert_eq!(forger.fetches(), 0, "and nobody is asked for it");
    Ok(())
}

/// Two issuers are trusted; each signs for itself alone.
#[tokio::test]
async fn an_issuer_cannot_sign_for_another() -> Result<()> {
    let (one, other) = (Issuer::start().await?, Issuer::start().await?);
    let tokens = Tokens::new(vec![one.trusted(), other.trusted()])?;
    assert_eq!(tokens.verify(&one.token("a")).await?.issuer, one.url);
    assert_eq!(tokens.verify(&other.token("a")).await?.issuer, other.url);
    let forged = one.token_with("a", |claims, _| claims["iss"] = json!(other.url));
    assert_eq!(tokens.verify(&forged).await.err(), Some(TokenError::SignatureWrong));
    Ok(())
}

#[tokio::test]
async fn an_issuer_may_be_held_to_more() -> Result<()> {
    let issuer = Issuer::start_with(SigningKey::rs256("rsa")).await?;
    let usual = |change: fn(&mut Trusted)| {
        let mut trusted = issuer.trusted();
        change(&mut trusted);
        Tokens::new(vec![trusted])
    };
    let untyped = issuer.token_with("a", |_, header| header["typ"] = Value::Null);
    let strict = usual(|trusted| trusted.token_type = TokenType::AccessToken)?;
    assert!(usual(|_| ())?.verify(&untyped).await.is_ok());
    assert_eq!(strict.verify(&untyped).await.err(), Some(TokenError::TypeWrong));
    assert!(strict.verify(&issuer.token("a")).await.is_ok());

    let elliptic =
        usual(|trusted| trusted.algorithms = [pingone_unblock::auth::token::Algorithm::Es256].into())?;
    assert_eq!(elliptic.verify(&issuer.token("a")).await.err(), Some(TokenError::AlgorithmNotAllowed));
    assert_eq!(TokenError::AlgorithmNotAllowed.kind(), Kind::Invalid);
    Ok(())
}
