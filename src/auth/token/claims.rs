//! What a verified token says, and whether that is enough.

use std::fmt;

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::{
    Issuer, SubjectClaim, TokenError, TokenType,
    parse::{Header, Payload, Present},
};
use crate::job::Caller;

/// More than any name of a caller.
const LONGEST_NAME: usize = 255;

/// What a verified token says of its caller.
///
/// A delegated token (RFC 8693, `act`) names two: `sub`, for whom something is done, and the current actor `act.sub`, who does it. The
/// actor calls, so it is the subject here, and the person is [`Claims::acting_for`]. Earlier actors (`act` within `act`) are history and
/// decide nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who issued it.
    pub issuer: String,
    /// Who calls: `sub` (or `client_id`, where the issuer is set up so); with `act`, the actor's `sub`.
    pub subject: String,
    /// For whom it does so: `sub`, where there is an `act`.
    pub acting_for: Option<String>,
    /// What it was granted: the words of `scope` and `scp`.
    pub scopes: Vec<String>,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

impl Claims {
    /// The caller, `issuer|subject`. None where the two are longer than a caller's name can be.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        Caller::named(&format!("{}|{}", self.issuer, self.subject))
    }

    /// The claims of a token whose signature is that of `issuer`, if they are what they must be.
    pub(super) fn read(
        header: &Header,
        payload: &Payload,
        issuer: &Issuer,
        now: OffsetDateTime,
    ) -> Result<Self, TokenError> {
        check_type(header, payload, issuer.token_type)?;
        check_audience(payload, &issuer.audience)?;
        let expires_at = check_times(payload, issuer, now)?;
        // It asks for a proof that whoever sends it is whom it was given to. Nobody here can look at one.
        if payload.cnf.0 {
            return Err(TokenError::ClaimWrong("cnf"));
        }
        let (subject, acting_for) = subject(payload, issuer)?;
        let mut scopes = words("scope", payload.scope.as_ref())?;
        scopes.extend(words("scp", payload.scp.as_ref())?);
        Ok(Self { issuer: issuer.issuer.clone(), subject, acting_for, scopes, expires_at })
    }
}

/// Without who it is.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// An ID token tells an application who has signed in; sent here, it was taken from there. Many issuers write `JWT` or nothing on all
/// their tokens, so then what only other tokens have gives them away: `nonce` and hashes are OpenID Connect's, `events` a logout's, and
/// `typ` among the claims is Keycloak's, which before its release 24 wrote the `nonce` of a sign-in into access tokens too.
fn check_type(header: &Header, payload: &Payload, rule: TokenType) -> Result<(), TokenError> {
    if header.access_token {
        return Ok(());
    }
    let Payload { nonce, at_hash, c_hash, events, typ, .. } = payload;
    let named = typ.as_ref().and_then(Value::as_str);
    let signed_in = nonce.0 && named != Some("Bearer");
    let other = signed_in || [at_hash, c_hash, events].into_iter().any(|Present(there)| *there);
    let other = other || named.is_some_and(|typ| ["ID", "Refresh", "Offline", "Logout"].contains(&typ));
    if other || rule == TokenType::AccessToken { Err(TokenError::TypeWrong) } else { Ok(()) }
}

fn check_audience(payload: &Payload, ours: &[String]) -> Result<(), TokenError> {
    let is_ours = |text: &Value| text.as_str().is_some_and(|text| ours.iter().any(|our| our == text));
    let meant = match payload.aud.as_ref().ok_or(TokenError::ClaimMissing("aud"))? {
        text @ Value::String(_) => is_ours(text),
        Value::Array(texts) if texts.iter().all(Value::is_string) => texts.iter().any(is_ours),
        _ => return Err(TokenError::ClaimWrong("aud")),
    };
    if meant { Ok(()) } else { Err(TokenError::AudienceWrong) }
}

/// When it ends, if it is valid now.
fn check_times(
    payload: &Payload,
    issuer: &Issuer,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, TokenError> {
    let leeway = Duration::try_from(issuer.leeway).unwrap_or(Duration::ZERO);
    let ends = instant("exp", payload.exp.as_ref())?.ok_or(TokenError::ClaimMissing("exp"))?;
    let begins = [instant("nbf", payload.nbf.as_ref())?, instant("iat", payload.iat.as_ref())?];
    if now - leeway >= ends {
        return Err(TokenError::Expired);
    }
    if begins.into_iter().flatten().any(|begins| begins > now + leeway) {
        return Err(TokenError::NotYetValid);
    }
    Ok(ends)
}

/// Seconds since 1970, which may have a fraction.
fn instant(claim: &'static str, value: Option<&Value>) -> Result<Option<OffsetDateTime>, TokenError> {
    let Some(value) = value else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| (0.0..=253_402_300_799.0).contains(seconds));
    #[expect(clippy::cast_possible_truncation, reason = "it is between 1970 and the year 9999")]
    let instant = seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds as i64).ok());
    instant.map(Some).ok_or(TokenError::ClaimWrong(claim))
}

/// Who calls, and for whom.
fn subject(payload: &Payload, issuer: &Issuer) -> Result<(String, Option<String>), TokenError> {
    let Some(act) = &payload.act else {
        let (claim, value) = match issuer.subject_claim {
            SubjectClaim::Sub => ("sub", &payload.sub),
            SubjectClaim::ClientId => ("client_id", &payload.client_id),
        };
        return Ok((name(claim, value.as_ref())?, None));
    };
    // An actor of another issuer would be taken for the caller of the same name of this one.
    if act.get("iss").is_some_and(|iss| iss.as_str() != Some(&issuer.issuer)) {
        return Err(TokenError::ClaimWrong("act"));
    }
    let actor = act.get("sub").ok_or(TokenError::ClaimWrong("act"))?;
    Ok((name("act", Some(actor))?, Some(name("sub", payload.sub.as_ref())?)))
}

fn name(claim: &'static str, value: Option<&Value>) -> Result<String, TokenError> {
    let text = value.ok_or(TokenError::ClaimMissing(claim))?.as_str();
    let fits = |text: &&str| {
        (1..=LONGEST_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    };
    text.filter(fits).map(str::to_owned).ok_or(TokenError::ClaimWrong(claim))
}

/// Separated by spaces (RFC 8693), or a list.
fn words(claim: &'static str, value: Option<&Value>) -> Result<Vec<String>, TokenError> {
    let own = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(own(text)),
        Some(Value::Array(texts)) => {
            let words: Option<Vec<_>> = texts.iter().map(|text| text.as_str().map(own)).collect();
            words.map(|words| words.concat()).ok_or(TokenError::ClaimWrong(claim))
        }
        Some(_) => Err(TokenError::ClaimWrong(claim)),
    }
}
