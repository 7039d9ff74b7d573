//! Fuzzing: what a caller shows as a token, and what stands where an issuer's keys should.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use time::OffsetDateTime;

use super::{Algorithm, Claims, Issuer, JwksUrl, TokenError, jwk::KeySet, parse, parse::LARGEST};

const ISSUER: &str = "https://login.example.com";
const AUDIENCE: &str = "pingone-unblock";
/// 2026-01-02T03:04:05Z
const NOW: i64 = 1_767_323_045;

/// A token is taken apart without loss or refused; one that says enough is for this service, at this time, from a caller with a name.
/// The first line is its header and the rest its payload, or all of it the token itself.
pub(crate) fn access_token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let encoded = text.split_once('\n').map(|(header, payload)| {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    });
    let token = encoded.as_deref().unwrap_or(text);
    let taken = match parse(token) {
        Ok(taken) => taken,
        Err(error) => {
            assert_eq!(token.len() > LARGEST, error == TokenError::TooLarge, "{error}");
            return;
        }
    };
    let signed = std::str::from_utf8(taken.signed).unwrap_or_default();
    assert_eq!(format!("{signed}.{}", taken.signature), token);
    let Ok(now) = OffsetDateTime::from_unix_timestamp(NOW) else { return };
    let Ok(jwks_url) = JwksUrl::parse("https://login.example.com/keys") else { return };
    let issuer = Issuer::new(ISSUER, AUDIENCE, jwks_url);
    let Ok(claims) = Claims::read(&taken.header, &taken.payload, &issuer, now) else { return };
    assert!(claims.expires_at > now - issuer.leeway);
    assert!(!taken.payload.cnf.0 && taken.payload.aud.is_some_and(|aud| aud.to_string().contains(AUDIENCE)));
    let caller = claims.caller().expect("who is read has a name");
    assert_eq!(caller.as_str().split_once('|'), Some((ISSUER, claims.subject.as_str())));
    assert!(!caller.as_str().contains(char::is_control));
}

/// A set of keys is some that can be used, or refused; and none of them has signed what nobody signed.
pub(crate) fn issuer_keys(data: &[u8]) {
    let Ok(keys) = KeySet::read(data, &Algorithm::ALL) else { return };
    assert!(keys.len() > 0 && keys.len() + keys.unusable <= 100);
    for algorithm in Algorithm::ALL {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
        let token = format!("{header}.e30.{}", URL_SAFE_NO_PAD.encode([0; 64]));
        let taken = parse(&token).expect("a token as it should be");
        assert!(keys.verify(&taken).is_err(), "{algorithm}");
    }
}
