use super::*;
use crate::device::{DeviceId, EnvironmentId, UserId};
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::json;
use std::{error::Error, time::Duration};

type Tested = Result<(), Box<dyn Error>>;

const DEVICE: &str = "6697f628-7712-4e71-b52b-920ba0635020";
const USER: &str = "b30ac647-e33e-464f-a6ea-0275082d4c26";
const HTML: &str = "<html><body>Bad gateway</body></html>";

fn device() -> Result<DeviceRef, Box<dyn Error>> {
    Ok(DeviceRef {
        environment: EnvironmentId::parse("abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6")?,
        user: UserId::parse(USER)?,
        device: DeviceId::parse(DEVICE)?,
    })
}

fn answer(status: u16, headers: &[(&'static str, &str)], body: Body) -> Result<Response, Box<dyn Error>> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), value.parse()?);
    }
    Ok(Response { status: StatusCode::from_u16(status)?, headers: map, body, shown: Vec::new() })
}

fn text(body: impl ToString) -> Body {
    Body::Whole(body.to_string().into_bytes())
}

fn meaning(call: Call, response: &Response) -> Result<Result<Snapshot, Box<Failure>>, Box<dyn Error>> {
    Ok(classify(call, &device()?, response, OffsetDateTime::UNIX_EPOCH))
}

fn refused(response: &Response) -> Result<Box<Failure>, Box<dyn Error>> {
    Ok(meaning(Call::Unblock, response)?.err().ok_or("taken for a success")?)
}

#[test]
fn any_success_with_the_device_or_without_a_body_is_one() -> Tested {
    for (status, body) in [
        (200, text(json!({ "id": DEVICE, "block": { "status": "UNBLOCKED" }, "new": [1] }))),
        (200, text(json!({}))),
        (202, text(json!({ "id": DEVICE }))),
        (200, text("")),
        (200, text(" \r\n")),
        (204, text("")),
    ] {
        assert!(meaning(Call::Unblock, &answer(status, &[], body)?)?.is_ok());
    }
    Ok(())
}

#[test]
fn a_success_that_is_not_understood_is_none() -> Tested {
    let few = RetryHint::BackoffFew;
    for (body, reason, hint) in [
        (text("OK"), Reason::Protocol, few),
        (text(HTML), Reason::Protocol, few),
        (text("[]"), Reason::Protocol, few),
        (text(r#"{"id":"#), Reason::Protocol, few),
        (text("[".repeat(100_000)), Reason::Protocol, few),
        (text(json!({ "id": DEVICE, "block": { "status": "BLOCKED" } })), Reason::Protocol, few),
        (Body::TooLarge, Reason::Protocol, few),
        (Body::CutOff, Reason::Protocol, few),
        (Body::Late, Reason::Timeout, RetryHint::Backoff),
        (text(json!({ "id": USER })), Reason::Protocol, RetryHint::Never),
        (text(json!({ "id": USER, "code": "UNEXPECTED_ERROR" })), Reason::Unavailable, RetryHint::Backoff),
    ] {
        let failure = refused(&answer(200, &[], body)?)?;
        assert_eq!((failure.reason, failure.hint), (reason, hint), "{}", failure.message);
        assert_eq!(failure.http_status, Some(200));
    }
    Ok(())
}

#[test]
fn each_status_has_its_meaning_with_and_without_an_error_document() -> Tested {
    let table = [
        (Reason::Protocol, RetryHint::Never, vec![101, 300, 301, 302, 303, 304, 307, 308]),
        (Reason::Rejected, RetryHint::Never, vec![400, 402, 405, 406, 409, 410, 413, 415, 418, 422, 431]),
        (Reason::CredentialRefused, RetryHint::Credential, vec![401]),
        (Reason::Forbidden, RetryHint::Never, vec![403]),
        (Reason::NotFound, RetryHint::Never, vec![404]),
        (Reason::Unavailable, RetryHint::Backoff, vec![408, 500, 501, 502, 503, 504, 505, 507, 520, 599]),
        (Reason::RateLimited, RetryHint::Hold(None), vec![429]),
    ];
    for (reason, hint, statuses) in table {
        for status in statuses {
            for body in
                [text(HTML), text(""), text(json!({ "code": "X" })), Body::TooLarge, Body::CutOff, Body::Late]
            {
                let failure = refused(&answer(status, &[], body)?)?;
                assert_eq!((failure.reason, failure.hint), (reason, hint), "{status}");
                assert_eq!(failure.http_status, Some(status));
            }
        }
    }
    Ok(())
}

#[test]
fn an_unexpected_error_is_pingones_own_whatever_its_status() -> Tested {
    for status in [400, 403, 404, 409, 500] {
        let failure = refused(&answer(status, &[], text(json!({ "code": "UNEXPECTED_ERROR" })))?)?;
        assert_eq!((failure.reason, failure.hint), (Reason::Unavailable, RetryHint::Backoff), "{status}");
    }
    Ok(())
}

#[test]
fn retry_after_holds_the_environment_or_delays_the_job() -> Tested {
    let wait = Duration::from_secs;
    for (status, value, hint) in [
        (429, "7", RetryHint::Hold(Some(wait(7)))),
        (429, "Thu, 01 Jan 1970 00:00:09 GMT", RetryHint::Hold(Some(wait(9)))),
        (429, "86400", RetryHint::Hold(Some(wait(3600)))),
        (429, "soon", RetryHint::Hold(None)),
        (503, "7", RetryHint::After(wait(7))),
        (503, "Thu, 01 Jan 1970 00:00:09 GMT", RetryHint::After(wait(9))),
        (503, "0", RetryHint::Backoff),
        (404, "7", RetryHint::Never),
    ] {
        let failure = refused(&answer(status, &[("retry-after", value)], text(""))?)?;
        assert_eq!(failure.hint, hint, "{status} {value}");
    }
    Ok(())
}

#[test]
fn a_failure_says_what_pingone_said_without_contacts() -> Tested {
    let body = json!({
        "id": "25a5ee4a-1e0e-4d21-9c5e-5e3b0e3f6f6b", "code": "INVALID_DATA",
        "message": "The value jane@example.com\nor +14135550150 is wrong.",
        "details": [{ "code": "INVALID_VALUE", "target": "phone", "message": "+14135550150" }],
    });
    let failure = refused(&answer(400, &[("correlation-id", "c-1")], text(body))?)?;
    assert_eq!(
        failure.message.as_str(),
        "PingOne refused the request (400 INVALID_DATA INVALID_VALUE): The value [redacted] or [redacted] is wrong."
    );
    assert_eq!(failure.pingone_code.as_deref(), Some("INVALID_DATA"));
    assert_eq!(failure.pingone_id.as_deref(), Some("25a5ee4a-1e0e-4d21-9c5e-5e3b0e3f6f6b"));
    assert_eq!(failure.correlation_id.as_deref(), Some("c-1"));
    Ok(())
}

#[test]
fn reading_wants_a_body_and_allows_a_blocked_device() -> Tested {
    let blocked = text(json!({ "id": DEVICE, "block": { "status": "BLOCKED" } }));
    assert!(meaning(Call::Read, &answer(200, &[], blocked)?)?.is_ok());
    let failure = meaning(Call::Read, &answer(204, &[], text(""))?)?.err().ok_or("taken for a device")?;
    assert_eq!(failure.hint, RetryHint::BackoffFew);
    Ok(())
}

#[test]
fn a_list_is_taken_whole_and_only_of_the_user_asked_for() -> Tested {
    let listed = |devices: Value| text(json!({ "_embedded": { "devices": devices }, "_links": {} }));
    let few = Some(RetryHint::BackoffFew);
    let never = Some(RetryHint::Never);
    let next = json!({ "next": { "href": "https://api.pingone.eu/v1/environments?cursor=2" } });
    let ours = json!({ "id": DEVICE, "user": { "id": USER }, "block": { "status": "BLOCKED" } });
    for (case, (body, refused)) in [
        (listed(json!([])), None),
        (listed(json!([ours, { "id": "x" }])), None),
        (text(json!({ "size": 0 })), None),
        (listed(json!([ours, { "id": USER, "user": { "id": DEVICE } }])), never),
        (listed(json!([{ "id": USER, "environment": { "id": DEVICE } }])), never),
        (text(json!({ "_embedded": { "devices": [ours] }, "_links": next })), never),
        (text(ours), few),
        (text("[]"), few),
        (text("{}"), few),
        (text(""), few),
        (text(HTML), few),
        (Body::TooLarge, few),
        (Body::CutOff, few),
        (Body::Late, Some(RetryHint::Backoff)),
        (text(json!({ "code": "UNEXPECTED_ERROR" })), Some(RetryHint::Backoff)),
    ]
    .into_iter()
    .enumerate()
    {
        let meant = meaning(Call::List, &answer(200, &[], body)?)?;
        assert_eq!(meant.err().map(|failure| failure.hint), refused, "case {case}");
    }
    Ok(())
}

#[test]
fn without_an_answer_the_message_says_whether_anything_was_sent() {
    let not_sent = lost(Call::Unblock, &Lost::NotSent("Connection refused".into()));
    assert_eq!((not_sent.reason, not_sent.hint), (Reason::Unavailable, RetryHint::Backoff));
    assert!(not_sent.message.contains("nothing was sent"));
    for unknown in [Lost::Broken("reset".into()), Lost::Late] {
        let failure = lost(Call::Unblock, &unknown);
        assert_eq!((failure.reason, failure.hint), (Reason::Timeout, RetryHint::Backoff));
        assert!(failure.message.contains("unknown"));
    }
}

mod no_contact_is_told {
    use super::*;
    use proptest::prelude::*;

    fn contact() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z]{1,8}(@|%40)[a-z]{1,8}\\.(com|example)",
            "\\+1 ?555[ -.]?[0-9]{3}[ -.]?[0-9]{4}",
            "\\(555\\) [0-9]{3}-[0-9]{4}",
            "[0-9]{7,15}",
        ]
    }

    fn text() -> impl Strategy<Value = String> {
        let around = "[A-Za-z ,:'\"<>=_]{0,12}";
        prop_oneof![contact(), (around, contact(), around).prop_map(|(a, b, c)| format!("{a}{b}{c}"))]
    }

    /// An error document of PingOne or of OAuth 2, a contact in any place of it.
    fn document() -> impl Strategy<Value = Value> {
        let member =
            || prop_oneof![text().prop_map(Value::from), Just(json!("INVALID_DATA")), Just(json!(7))];
        let details = (member(), member(), member()).prop_map(
            |(code, message, target)| json!([{ "code": code, "message": message, "target": target, "innerError": { "x": message } }]),
        );
        (member(), member(), member(), details, member(), member()).prop_map(
            |(code, id, message, details, error, description)| {
                json!({
                    "code": code, "id": id, "message": message, "details": details, "error": error,
                    "error_description": description, "phone": message,
                })
            },
        )
    }

    /// Whether it could be called or written to.
    fn is_contact(text: &str) -> bool {
        let separator = |c: char| matches!(c, '+' | '(' | ')' | '-' | '.' | ' ');
        let digits = |run: &str| run.chars().filter(char::is_ascii_digit).count();
        let runs = text.split(|c: char| !c.is_ascii_digit() && !separator(c));
        text.contains('@') || text.contains("%40") || runs.map(digits).any(|count| count >= 7)
    }

    #[test]
    fn the_test_knows_a_contact() {
        assert!(is_contact("x +1 555 010 0199") && is_contact("5550100") && is_contact("a@b"));
        assert!(!is_contact("PingOne refused the request (400 INVALID_DATA): 7 of 500"));
    }

    proptest! {
        #[test]
        fn wherever_pingone_says_one(document in document(), status in 200u16..600, header in text()) {
            let headers = [("correlation-id", header.as_str()), ("retry-after", header.as_str())];
            let response = answer(status, &headers, super::text(&document)).expect("the header is ASCII");
            let told = match meaning(Call::Unblock, &response).expect("the ids are ids") {
                Ok(snapshot) => format!("{snapshot:?}"),
                Err(failure) => format!(
                    "{:?} {:?} {:?} {:?}", failure.message, failure.pingone_code, failure.pingone_id, failure.correlation_id
                ),
            };
            // The snapshot's Debug holds an instant, the beginning of all time.
            prop_assert!(!is_contact(&told.replace("1970-01-01 0:00:00.0 +00:00:00", "")), "{told}");
        }
    }
}
