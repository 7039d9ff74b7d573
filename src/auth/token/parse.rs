//! Takes a token apart. Believes nothing of it: what it says is worth something once its signature was verified.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use super::{Algorithm, TokenError};

/// A token beyond this is none.
pub(super) const LARGEST: usize = 8 * 1024;

/// A token as it is written. None of it is verified.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    pub(super) header: Header,
    pub(super) payload: Payload,
    /// What is signed: header and payload, as they were sent.
    pub(super) signed: &'a [u8],
    /// The signature, in base64url.
    pub(super) signature: &'a str,
}

/// What a header says that is heeded. Keys and addresses of keys in it (`jwk`, `jku`, `x5c`, `x5u`) are not: whoever made the token
/// chose them.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// Whether it calls itself an access token (`at+jwt`).
    pub(super) access_token: bool,
}

/// The claims that are looked at, as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Payload {
    pub(super) iss: Option<Value>,
    pub(super) sub: Option<Value>,
    pub(super) aud: Option<Value>,
    pub(super) exp: Option<Value>,
    pub(super) nbf: Option<Value>,
    pub(super) iat: Option<Value>,
    pub(super) client_id: Option<Value>,
    pub(super) act: Option<Value>,
    pub(super) scope: Option<Value>,
    pub(super) scp: Option<Value>,
    pub(super) cnf: Present,
    pub(super) typ: Option<Value>,
    pub(super) nonce: Present,
    pub(super) at_hash: Present,
    pub(super) c_hash: Present,
    pub(super) events: Present,
}

#[derive(Deserialize)]
struct WrittenHeader {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Present,
}

/// Whether a member is there, whatever it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Present(pub(super) bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// Takes `token` apart. Pure.
///
/// # Errors
/// [`TokenError`] for what is no signed JWT, or asks for what is not supported.
pub(super) fn parse(token: &str) -> Result<Unverified<'_>, TokenError> {
    if token.is_empty() {
        return Err(TokenError::Missing);
    }
    if token.len() > LARGEST {
        return Err(TokenError::TooLarge);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    let header = read_header(&decode(header)?)?;
    // Neither dots within, which base64url has none of, nor any other way to write the same bytes.
    let payload = object(&decode(payload)?)?;
    decode(signature)?;
    Ok(Unverified { header, payload, signed: signed.as_bytes(), signature })
}

fn read_header(json: &[u8]) -> Result<Header, TokenError> {
    let WrittenHeader { alg, kid, typ, crit } = object(json)?;
    let algorithm = Algorithm::named(&alg).ok_or(TokenError::AlgorithmNotAllowed)?;
    if crit.0 {
        return Err(TokenError::ExtensionUnknown);
    }
    let typ = typ.map(|typ| typ.to_ascii_lowercase());
    let access_token = match typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ)) {
        Some("at+jwt") => true,
        Some("jwt") | None => false,
        Some(_) => return Err(TokenError::TypeWrong),
    };
    Ok(Header { algorithm, key_id: kid, access_token })
}

/// Reads a JSON object. serde would take a list for one too, its members in their order.
fn object<T: DeserializeOwned>(json: &[u8]) -> Result<T, TokenError> {
    let read = json.starts_with(b"{").then(|| serde_json::from_slice(json).ok());
    read.flatten().ok_or(TokenError::Malformed)
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_header_says_what_it_may_say() -> Result<(), TokenError> {
        for (header, access_token) in [
            (r#"{"alg":"ES256"}"#, false),
            (r#"{"alg":"ES256","typ":"JWT","kid":"a","x5t":"abc"}"#, false),
            (r#"{"alg":"ES256","typ":"at+jwt"}"#, true),
            (r#"{"alg":"ES256","typ":"application/AT+JWT"}"#, true),
        ] {
            assert_eq!(parse(&token(header, "{}"))?.header.access_token, access_token, "{header}");
        }
        for (header, error) in [
            ("", TokenError::Malformed),
            ("[]", TokenError::Malformed),
            ("{}", TokenError::Malformed),
            (r#"{"alg":1}"#, TokenError::Malformed),
            (r#"{"alg":"ES256","alg":"RS256"}"#, TokenError::Malformed),
            (r#"{"alg":"ES256","kid":1}"#, TokenError::Malformed),
            (r#"["ES256"]"#, TokenError::Malformed),
            (r#"{"alg":"none"}"#, TokenError::AlgorithmNotAllowed),
            (r#"{"alg":"HS256"}"#, TokenError::AlgorithmNotAllowed),
            (r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, TokenError::ExtensionUnknown),
            (r#"{"alg":"ES256","crit":null}"#, TokenError::ExtensionUnknown),
            (r#"{"alg":"ES256","typ":"logout+jwt"}"#, TokenError::TypeWrong),
            (r#"{"alg":"ES256","typ":"id_token"}"#, TokenError::TypeWrong),
        ] {
            assert_eq!(parse(&token(header, "{}")).err(), Some(error), "{header}");
        }
        Ok(())
    }

    #[test]
    fn what_is_no_jwt_is_told_so() {
        let good = token(r#"{"alg":"ES256"}"#, "{}");
        assert!(parse(&good).is_ok());
        for wrong in [
            "x".to_owned(),
            "..".to_owned(),
            "a.b".to_owned(),
            format!("{good}="),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{good}.c2ln"),
            format!("{good}.a.b"),
            token(r#"{"alg":"ES256"}"#, "[1]"),
            token(r#"{"alg":"ES256"}"#, "{"),
            token(r#"{"alg":"ES256"}"#, r#"{"sub":"a","sub":"b"}"#),
            token(r#"{"alg":"ES256"}"#, r#"{"nonce":1,"nonce":2}"#),
            token(r#"{"alg":"ES256"}"#, &format!(r#"{{"sub":{}1{}}}"#, "[".repeat(500), "]".repeat(500))),
            good.replace("c2ln", "c2lo+/"),
        ] {
            assert_eq!(parse(&wrong).err(), Some(TokenError::Malformed), "{wrong}");
        }
        assert_eq!(parse("").err(), Some(TokenError::Missing));
        assert_eq!(parse(&"a".repeat(LARGEST + 1)).err(), Some(TokenError::TooLarge));
    }
}
