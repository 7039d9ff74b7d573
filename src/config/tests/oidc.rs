//! The issuers of callers' tokens.

use std::time::Duration;

use super::{Outcome, Setup};
use crate::auth::token::{Algorithm, SubjectClaim, TokenType};

const ISSUER: &str = "https://auth.pingone.eu/6697f628-7712-4e71-b52b-920ba0635020/as";

#[test]
fn an_issuer_needs_an_audience_and_says_itself_where_its_keys_are() -> Outcome {
    assert!(Setup::least()?.config()?.oidc.is_empty());
    let least = Setup::least()?
        .variable("UNBLOCK_OIDC_ISSUER", ISSUER)
        .variable("UNBLOCK_OIDC_AUDIENCE", "pingone-unblock, other");
    let issuers = least.config()?.oidc;
    let [issuer] = &issuers[..] else { return Err("one issuer".into()) };
    assert_eq!(issuer.issuer, ISSUER);
    assert_eq!(issuer.audience, ["pingone-unblock", "other"]);
    assert_eq!(issuer.jwks_url.to_string(), format!("{ISSUER}/.well-known/openid-configuration"));
    assert_eq!(issuer.leeway, Duration::from_secs(30));

    let keys = format!("{ISSUER}/jwks");
    let direct = least.variable("UNBLOCK_OIDC_JWKS_URL", &keys);
    assert_eq!(direct.config()?.oidc[0].jwks_url.to_string(), keys);
    let told = direct.without("UNBLOCK_OIDC_AUDIENCE").mistakes()?;
    assert!(told.len() == 1 && told[0].starts_with("UNBLOCK_OIDC_AUDIENCE: not set, but"), "{told:?}");
    Ok(())
}

#[test]
fn further_issuers_stand_in_tables() -> Outcome {
    let file = format!(
        r#"
        oidc_keys_max_age = "12h"
        [[oidc]]
        issuer = "{ISSUER}"
        audience = ["a", "b"]
        [[oidc]]
        issuer = "accounts.example.com"
        audience = "a"
        jwks_url = "https://keys.example.com/"
        algorithms = ["ES256", "EdDSA"]
        leeway = "5s"
        subject_claim = "client_id"
        token_type = "at+jwt"
        keys_max_age = "1h"
        "#
    );
    let issuers = Setup::least()?.file(&file)?.config()?.oidc;
    let [first, second] = &issuers[..] else { return Err("two issuers".into()) };
    assert_eq!(first.audience, ["a", "b"]);
    assert_eq!(first.keys_max_age, Duration::from_secs(12 * 3600));
    assert_eq!(first.subject_claim, SubjectClaim::Sub);
    assert_eq!(second.algorithms, [Algorithm::Es256, Algorithm::EdDsa].into());
    assert_eq!((second.leeway, second.keys_max_age), (Duration::from_secs(5), Duration::from_secs(3600)));
    assert_eq!((second.subject_claim, second.token_type), (SubjectClaim::ClientId, TokenType::AccessToken));
    Ok(())
}

#[test]
fn every_mistake_in_them_is_told_at_once() -> Outcome {
    let file = r#"
        [[oidc]]
        issuer = "accounts.example.com"
        audience = ""
        algorithms = ["HS256"]
        leeway = "1h"
        [[oidc]]
        issuer = "two words"
        audience = "a"
        jwks_url = "http://keys.example.com/"
        secret = "x"
    "#;
    let told = Setup::least()?.variable("UNBLOCK_OIDC_AUDIENCE", "a").file(file)?.mistakes()?;
    for expected in [
        "UNBLOCK_OIDC_ISSUER: not set, but tokens are from an issuer",
        "unblock.toml: [[oidc]] no. 1: jwks_url: the issuer is no https URL to ask for its keys' address",
        "unblock.toml: [[oidc]] no. 1: audience: empty",
        "unblock.toml: [[oidc]] no. 1: algorithms: \"HS256\" means nothing here; write some of RS256, PS256",
        "unblock.toml: [[oidc]] no. 1: leeway: \"1h\" is out of range",
        "unblock.toml: [[oidc]] no. 2: issuer: an issuer is 1 to 255 printable characters",
        "unblock.toml: [[oidc]] no. 2: jwks_url: keys come only over https; begin it with https://",
        "unblock.toml: [[oidc]] no. 2: secret: no such key",
    ] {
        assert!(told.iter().any(|mistake| mistake.starts_with(expected)), "{expected}\n{told:#?}");
    }
    assert_eq!(told.len(), 8, "{told:#?}");
    Ok(())
}

#[test]
fn an_issuer_is_listed_once() -> Outcome {
    let file = format!("[[oidc]]\nissuer = \"{ISSUER}\"\naudience = \"b\"");
    let told = Setup::least()?
        .variable("UNBLOCK_OIDC_ISSUER", ISSUER)
        .variable("UNBLOCK_OIDC_AUDIENCE", "a")
        .file(&file)?
        .mistakes()?;
    assert!(told.len() == 1 && told[0].contains("is listed twice"), "{told:?}");
    Ok(())
}
