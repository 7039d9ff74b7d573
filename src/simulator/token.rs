//! The token endpoint: client credentials, by Basic authentication or in the form ("Token endpoint authentication methods").

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use http::{Method, StatusCode, header};
use serde_json::json;
use uuid::Uuid;

use super::{answer::Answer, seen::Seen};

/// For so long after its end a token is still told from one that never was.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Clients, and the tokens they were given.
pub(super) struct Tokens {
    secrets: HashMap<String, String>,
    issued: HashMap<String, Issued>,
    count: u64,
}

struct Issued {
    number: u64,
    until: Instant,
    revoked: bool,
}

impl Tokens {
    pub(super) fn new(client: String, secret: String) -> Self {
        Self { secrets: HashMap::from([(client, secret)]), issued: HashMap::new(), count: 0 }
    }

    pub(super) fn set_secret(&mut self, client: String, secret: String) {
        self.secrets.insert(client, secret);
    }

    pub(super) fn issue(&mut self, lifetime: Duration) -> String {
        let now = Instant::now();
        self.issued.retain(|_, token| token.until + REMEMBERED > now);
        self.count += 1;
        let token = format!("simulated.{}.{:032x}", self.count, fastrand::u128(..));
        self.issued
            .insert(token.clone(), Issued { number: self.count, until: now + lifetime, revoked: false });
        token
    }

    pub(super) fn revoke_all(&mut self) {
        self.issued.values_mut().for_each(|token| token.revoked = true);
    }

    pub(super) fn accepts(&self, token: Option<&str>) -> bool {
        let known = token.and_then(|token| self.issued.get(token));
        known.is_some_and(|token| !token.revoked && token.until > Instant::now())
    }

    /// Which token this is, also when it is no longer good.
    pub(super) fn number(&self, token: Option<&str>) -> Option<u64> {
        Some(self.issued.get(token?)?.number)
    }
}

pub(super) fn answer(tokens: &mut Tokens, seen: &Seen, lifetime: Duration, id: Uuid) -> Answer {
    if seen.method != Method::POST {
        return Answer::error(StatusCode::METHOD_NOT_ALLOWED, id).with(header::ALLOW, "POST");
    }
    let refused = |status, error, why| {
        let description = format!("{why} (Correlation ID: {id})");
        Answer::json(status, &json!({ "error": error, "error_description": description }))
    };
    let form = form(&seen.body);
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    match field("grant_type") {
        None => return refused(StatusCode::BAD_REQUEST, "invalid_request", "grant_type is missing"),
        Some("client_credentials") => {}
        Some(_) => {
            return refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", "Unsupported grant type");
        }
    }
    let basic = seen.header(header::AUTHORIZATION.as_str()).and_then(basic);
    let posted = field("client_id").zip(field("client_secret"));
    let known = match (&basic, posted) {
        (Some(_), Some(_)) => {
            let why = "More than one client authentication method";
            return refused(StatusCode::BAD_REQUEST, "invalid_request", why);
        }
        (Some((client, secret)), None) => {
            tokens.knows(client, secret) || tokens.knows_decoded(client, secret)
        }
        (None, Some((client, secret))) => tokens.knows(client, secret),
        (None, None) => false,
    };
    if !known {
        let why = "Request denied: Unsupported or failed client authentication";
        let refusal = refused(StatusCode::UNAUTHORIZED, "invalid_client", why);
        return refusal.with(header::WWW_AUTHENTICATE, "Basic realm=\"pingone\"");
    }
    let token = json!({
        "access_token": tokens.issue(lifetime), "token_type": "Bearer", "expires_in": lifetime.as_secs(),
    });
    Answer::json(StatusCode::OK, &token).with(header::CACHE_CONTROL, "no-store")
}

impl Tokens {
    fn knows(&self, client: &str, secret: &str) -> bool {
        self.secrets.get(client).is_some_and(|known| known == secret)
    }

    /// RFC 6749, section 2.3.1, has both parts form-encoded before Base64; many clients leave that out.
    fn knows_decoded(&self, client: &str, secret: &str) -> bool {
        self.knows(&decoded(client.as_bytes()), &decoded(secret.as_bytes()))
    }
}

fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, credentials) = authorization.split_once(' ')?;
    let credentials = String::from_utf8(base64(credentials.trim())?).ok()?;
    let (client, secret) = credentials.split_once(':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| (client.to_owned(), secret.to_owned()))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len()), 0_u32, 0_u32);
    for letter in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held).to_be_bytes()[3]);
        }
    }
    Some(bytes)
}

fn form(body: &[u8]) -> Vec<(String, String)> {
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let halves = pairs.map(|pair| match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[][..]),
    });
    halves.map(|(key, value)| (decoded(key), decoded(value))).collect()
}

/// The inverse of form encoding; what is no escape stands for itself.
fn decoded(text: &[u8]) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        rest = match (first, escaped) {
            (_, Some((high, low))) => {
                bytes.push(high * 16 + low);
                &tail[2..]
            }
            (b'+', None) => {
                bytes.push(b' ');
                tail
            }
            (other, None) => {
                bytes.push(*other);
                tail
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_basic_credentials_are_read_back() {
        let read = form(b"grant_type=client_credentials&client_secret=a%2Bb+c%26%C3%A4&x&y=%zz");
        let expected =
            [("grant_type", "client_credentials"), ("client_secret", "a+b c&ä"), ("x", ""), ("y", "%zz")];
        assert_eq!(read, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let pair = |client: &str, secret: &str| Some((client.to_owned(), secret.to_owned()));
        assert_eq!(basic("Basic Y2xpZW50OnNlY3JldDp3aXRoIGNvbG9u"), pair("client", "secret:with colon"));
        assert_eq!(basic("basic YTo="), pair("a", ""));
        assert_eq!(basic("Bearer YTo="), None);
        assert_eq!(basic("Basic ?"), None);
    }
}
