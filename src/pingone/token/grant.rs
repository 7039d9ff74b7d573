//! One request for a token: OAuth 2 client credentials. Keeps nothing.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use reqwest::{
    StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    job::{Failure, Reason, RetryHint},
    redact::{Name, Redacted},
    reload::Current,
    telemetry::{
        metrics::{Request, metrics},
        spans,
    },
};

use super::{
    super::{
        answer::failure,
        exchange::{Body, Lost, Response, exchange},
        retry_after::retry_after,
        said::{LONGEST_MESSAGE, Said},
        settings::ClientAuth,
    },
    Token, bearer,
};

const LARGEST_ANSWER: usize = 64 * 1024;
/// How long PingOne's tokens live, by its documentation; for an answer that does not say.
const DOCUMENTED_LIFE: Duration = Duration::from_secs(3600);
/// No token is trusted longer, whatever the answer says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A worker application at its token endpoint.
pub(crate) struct Worker {
    pub(crate) http: reqwest::Client,
    pub(crate) kind: Request,
    pub(crate) endpoint: Url,
    pub(crate) client_id: String,
    pub(crate) client_secret: Current<SecretString>,
    pub(crate) method: ClientAuth,
    /// How long the request may take in all.
    pub(crate) deadline: Duration,
}

impl Worker {
    /// Asks for a token. Whatever fails, nothing was changed at PingOne.
    pub(crate) async fn grant(&self) -> Result<Token, Failure> {
        let secret = self.client_secret.get();
        let mut granted = self.ask(&secret).await;
        // Changed while it was asked: what was refused is the former one.
        let now = self.client_secret.get();
        if !Arc::ptr_eq(&secret, &now)
            && granted.as_ref().is_err_and(|failure| failure.hint == RetryHint::Credential)
        {
            granted = self.ask(&now).await;
        }
        match &granted {
            Ok(token) => metrics().requests.granted(token.life()),
            Err(failure) => metrics().requests.not_granted(failure.reason),
        }
        granted
    }

    async fn ask(&self, secret: &SecretString) -> Result<Token, Failure> {
        let asked_at = Instant::now();
        let (request, shown) = (self.request(secret), shown(secret));
        let (span, until) = (spans::request(&self.kind, 0), asked_at + self.deadline);
        let response = exchange(request, &self.kind, shown, LARGEST_ANSWER, until, span)
            .await
            .map_err(|lost| unreachable(&lost))?;
        let (bearer, life) = granted(&response, OffsetDateTime::now_utc()).map_err(|failure| *failure)?;
        Ok(Token::new(bearer, asked_at, life))
    }

    fn request(&self, secret: &SecretString) -> reqwest::RequestBuilder {
        let secret = secret.expose_secret();
        let mut form = "grant_type=client_credentials".to_owned();
        let mut request = self.http.post(self.endpoint.clone());
        match self.method {
            // RFC 6749 wants both parts encoded as in a form before they are joined.
            ClientAuth::Basic => request = request.basic_auth(encode(&self.client_id), Some(encode(secret))),
            ClientAuth::Post => {
                form =
                    format!("{form}&client_id={}&client_secret={}", encode(&self.client_id), encode(secret));
            }
        }
        request
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(form)
    }
}

/// The secret, plain and as it travels.
fn shown(secret: &SecretString) -> Vec<SecretString> {
    vec![secret.clone(), encode(secret.expose_secret()).into()]
}

/// The token in an answer and how long it lives, or why there is none.
pub(crate) fn granted(
    response: &Response,
    now: OffsetDateTime,
) -> Result<(HeaderValue, Duration), Box<Failure>> {
    let granted =
        if response.status.is_success() { read(response) } else { Err(Box::new(refusal(response, now))) };
    granted.map_err(|failure| {
        Box::new(Failure {
            http_status: Some(response.status.as_u16()),
            correlation_id: response.correlation_id(),
            ..*failure
        })
    })
}

/// Anything that is not plainly temporary is laid to the credential: the environment waits and no job pays for it.
fn refusal(response: &Response, now: OffsetDateTime) -> Failure {
    let document = response.document().unwrap_or_default();
    let (status, said) = (response.status, Said::of(&document));
    let oauth = OauthError::of(&document);
    let wait = retry_after(&response.headers, now.into());
    let temporary = said.is_unexpected() || oauth.as_ref().is_some_and(OauthError::is_temporary);
    let (reason, hint, what) = match status.as_u16() {
        429 => (Reason::RateLimited, RetryHint::Hold(wait), "PingOne's token endpoint limits our rate"),
        408 | 500.. => unavailable(wait),
        _ if temporary => unavailable(wait),
        300..=399 => {
            refused("PingOne's token endpoint sent the request elsewhere, where the secret must not go")
        }
        404 => refused(
            "There is no token endpoint for this environment; check the region and the environment's id",
        ),
        _ => refused("PingOne's token endpoint refused the client credentials"),
    };
    let message = match &oauth {
        Some(error) => error.sentence(what, status),
        None => said.sentence(what, status),
    };
    Failure {
        pingone_code: oauth.map(|error| error.code).or(said.code).map(String::from),
        pingone_id: said.id.map(String::from),
        ..failure(reason, hint, message)
    }
}

/// What an error of OAuth 2 says.
struct OauthError {
    code: Name,
    description: Option<Redacted>,
}

impl OauthError {
    fn of(document: &Value) -> Option<Self> {
        let text = |member: &str| document.get(member)?.as_str();
        let description = text("error_description").map(|said| Redacted::of(said, LONGEST_MESSAGE));
        Some(Self { code: text("error").and_then(Name::of)?, description })
    }

    fn sentence(&self, what: &'static str, status: StatusCode) -> Redacted {
        let code = Redacted::from(status.as_u16()).and(" ").and(self.code.clone());
        let sentence = Redacted::from(what).and(" (").and(code).and(")");
        match &self.description {
            Some(said) => sentence.and(": ").and(said.clone()),
            None => sentence,
        }
    }

    fn is_temporary(&self) -> bool {
        matches!(self.code.as_str(), "temporarily_unavailable" | "server_error")
    }
}

fn refused(what: &'static str) -> (Reason, RetryHint, &'static str) {
    (Reason::CredentialRefused, RetryHint::Credential, what)
}

fn unavailable(wait: Option<Duration>) -> (Reason, RetryHint, &'static str) {
    let hint = wait.map_or(RetryHint::Backoff, RetryHint::After);
    (Reason::Unavailable, hint, "PingOne's token endpoint cannot serve us now")
}

fn unreachable(lost: &Lost) -> Failure {
    let message = match lost {
        Lost::NotSent(cause) => {
            Redacted::from("PingOne's token endpoint cannot be reached: ").and(cause.clone())
        }
        Lost::Broken(cause) => {
            Redacted::from("The connection to PingOne's token endpoint broke: ").and(cause.clone())
        }
        Lost::Late => "PingOne's token endpoint did not answer in time".into(),
    };
    failure(Reason::Unavailable, RetryHint::Backoff, message)
}

fn read(response: &Response) -> Result<(HeaderValue, Duration), Box<Failure>> {
    let document: Value = match &response.body {
        // Not as it is told: here the token stands.
        Body::Whole(bytes) => serde_json::from_slice(bytes).map_err(|_| no_token("is not JSON"))?,
        Body::TooLarge => return Err(no_token("is too large")),
        Body::CutOff | Body::Late => {
            let message = "The answer of PingOne's token endpoint broke off";
            return Err(Box::new(failure(Reason::Unavailable, RetryHint::Backoff, message)));
        }
    };
    let token = document.get("access_token").and_then(Value::as_str).map(SecretString::from);
    let bearer = token.as_ref().and_then(bearer).ok_or_else(|| no_token("holds no access token"))?;
    Ok((bearer, life(&document)))
}

fn no_token(what: &'static str) -> Box<Failure> {
    let message =
        Redacted::from("The answer of PingOne's token endpoint ").and(what).and("; check the auth path");
    Box::new(failure(Reason::CredentialRefused, RetryHint::Credential, message))
}

fn life(document: &Value) -> Duration {
    let seconds = match document.get("expires_in") {
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(value) => value.as_f64(),
        None => None,
    };
    let life = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    life.unwrap_or(DOCUMENTED_LIFE).min(LONGEST_LIFE)
}

/// `text` as a value of a form; what every reader takes literally stays as it is.
fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_life_of_a_token_is_read_loosely_and_bounded() {
        for (document, seconds) in [
            (json!({ "expires_in": 300 }), 300),
            (json!({ "expires_in": "300" }), 300),
            (json!({}), 3600),
            (json!({ "expires_in": null }), 3600),
            (json!({ "expires_in": -1 }), 3600),
            (json!({ "expires_in": "NaN" }), 3600),
            (json!({ "expires_in": 1e300 }), 3600),
            (json!({ "expires_in": 999_999_999 }), 86_400),
            (json!({ "expires_in": 0 }), 0),
        ] {
            assert_eq!(life(&document), Duration::from_secs(seconds), "{document}");
        }
    }

    #[test]
    fn form_values_are_encoded_and_plain_secrets_stay_plain() {
        assert_eq!(encode("aZ09-._~"), "aZ09-._~");
        assert_eq!(encode("a b&c=d:é%+"), "a%20b%26c%3Dd%3A%C3%A9%25%2B");
    }
}
