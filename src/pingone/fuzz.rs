//! Fuzzing: what PingOne, or whoever stands in its place, may answer. An answer is written like one of HTTP: `UNBLOCK 200`, or READ or
//! LIST, then headers, an empty line and the body.

use std::time::{Duration, SystemTime};

use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::SecretString;
use time::OffsetDateTime;

use super::{
    address::{ApiPath, AuthPath},
    answer::{Call, classify},
    exchange::{Body, Response},
    retry_after::retry_after as wait_for,
    token::granted,
};
use crate::{
    device::{DeviceId, DeviceRef, EnvironmentId, UserId, fuzz::holds_no_secret},
    job::Failure,
};

/// Shown with the request, so that it may come back.
const SHOWN: &str = "sh0wn.t0ken";
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Every answer about a device or a user's devices is understood, or refused with a sentence fit to be logged.
pub(crate) fn answer(data: &[u8]) {
    let Some((call, response)) = message(data) else { return };
    let asked = asked();
    let asked = if call == Call::List { DeviceRef::every(asked.environment, asked.user) } else { asked };
    match classify(call, &asked, &response, OffsetDateTime::UNIX_EPOCH) {
        Ok(snapshot) => {
            assert!(response.status.is_success());
            assert!(call == Call::List || snapshot.describes(&asked), "another device");
            assert!(call != Call::Unblock || !snapshot.is_blocked(), "still blocked");
            holds_no_secret(snapshot.raw());
            let kept = serde_json::to_string(snapshot.raw()).expect("text keys only");
            assert!(!kept.contains(SHOWN), "the token came back and was kept: {kept}");
        }
        Err(failure) => {
            assert_eq!(failure.http_status, Some(response.status.as_u16()));
            is_fit(&failure);
        }
    }
}

/// Every answer of the token endpoint is a token, or a sentence fit to be logged.
pub(crate) fn token_answer(data: &[u8]) {
    let Some((_, response)) = message(data) else { return };
    match granted(&response, OffsetDateTime::UNIX_EPOCH) {
        Ok((bearer, life)) => {
            assert!(response.status.is_success());
            assert!(bearer.is_sensitive() && life <= LONGEST_LIFE);
            assert!(bearer.to_str().is_ok_and(|text| text.len() > "Bearer ".len()));
        }
        Err(failure) => is_fit(&failure),
    }
}

/// A wait is never undercut, never over an hour, and nothing but a wait is one.
pub(crate) fn retry_after(data: &[u8]) {
    let mut headers = HeaderMap::new();
    let values: Vec<_> =
        data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    for value in &values {
        headers.append(RETRY_AFTER, value.clone());
    }
    let wait = wait_for(&headers, SystemTime::UNIX_EPOCH);
    assert!(wait.is_none_or(|wait| !wait.is_zero() && wait <= LONGEST_WAIT && wait.subsec_nanos() == 0));
    // HTTP's delay-seconds: digits alone.
    let digits =
        |value: &HeaderValue| value.to_str().ok().filter(|text| !text.starts_with('+'))?.parse::<u32>().ok();
    for seconds in values.iter().filter_map(digits) {
        let asked = Duration::from_secs(u64::from(seconds)).min(LONGEST_WAIT);
        assert!(wait.unwrap_or_default() >= asked, "asked for {asked:?}, waits {wait:?}");
    }
}

/// A base that is taken leads to one host over https, and what is asked there follows from three UUIDs.
pub(crate) fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let asked = asked();
    if let Ok(base) = ApiPath::parse(text) {
        let written = base.to_string();
        assert_eq!(ApiPath::parse(&written), Ok(base.clone()), "{written} is read as it is written");
        let tail = format!("/v1/environments/{}/users/{}/devices", asked.environment, asked.user);
        let (list, device) = (base.devices(asked.environment, asked.user), base.device(&asked));
        assert!(list.path().ends_with(&tail) && device.path().ends_with(&format!("{tail}/{}", asked.device)));
        for url in [list, device] {
            leads_nowhere_else(&url, &written);
        }
    }
    if let Ok(base) = AuthPath::parse(text) {
        let written = base.to_string();
        assert_eq!(AuthPath::parse(&written), Ok(base.clone()), "{written} is read as it is written");
        let endpoint = base.token_endpoint(asked.environment);
        assert!(endpoint.path().ends_with(&format!("/{}/as/token", asked.environment)));
        leads_nowhere_else(&endpoint, &written);
    }
}

fn leads_nowhere_else(url: &reqwest::Url, base: &str) {
    let base = reqwest::Url::parse(base).expect("a base that was taken");
    assert_eq!(url.origin(), base.origin());
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(url.query().is_none() && url.fragment().is_none());
    let host = url.host_str().unwrap_or_default();
    let here = ["localhost", "[::1]"].contains(&host) || host.starts_with("127.");
    assert!(url.scheme() == "https" || url.scheme() == "http" && here, "{url}");
}

fn is_fit(failure: &Failure) {
    let codes = [&failure.pingone_code, &failure.pingone_id, &failure.correlation_id];
    let told = codes.into_iter().flatten().map(String::as_str).chain([failure.message.as_str()]);
    for text in told {
        assert!(!text.contains(SHOWN), "the token came back: {text}");
        assert!(text.chars().count() <= 600 && !text.chars().any(char::is_control), "{text:?}");
        assert!(!["@", "%40", "eyJ"].iter().any(|part| text.contains(part)), "{text}");
    }
}

fn message(data: &[u8]) -> Option<(Call, Response)> {
    let end = data.windows(2).position(|pair| pair == b"\n\n")?;
    let mut lines = std::str::from_utf8(&data[..end]).ok()?.lines();
    let (call, status) = lines.next()?.split_once(' ')?;
    let call = match call {
        "UNBLOCK" => Call::Unblock,
        "READ" => Call::Read,
        "LIST" => Call::List,
        _ => return None,
    };
    let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().ok()?, value.parse().ok()?);
    }
    let body = Body::Whole(data[end + 2..].to_vec());
    Some((call, Response { status, headers, body, shown: vec![SecretString::from(SHOWN)] }))
}

fn asked() -> DeviceRef {
    DeviceRef {
        environment: EnvironmentId::parse("abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6").expect("a UUID"),
        user: UserId::parse("b30ac647-e33e-464f-a6ea-0275082d4c26").expect("a UUID"),
        device: DeviceId::parse("6697f628-7712-4e71-b52b-920ba0635020").expect("a UUID"),
    }
}
