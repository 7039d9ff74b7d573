//! Each answer PingOne can give, and what the client makes of it: one test a row.

use std::time::Instant;

use pingone_unblock::{
    device::Devices,
    job::{Reason, RetryHint},
    simulator::{Fault, Garbage, On, Page, Plan, RetryAfter},
};

use super::*;

/// Long enough for an attempt on this machine, short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);

macro_rules! successes {
    ($($name:ident: $fault:expr;)+) => {$(
        #[tokio::test]
        async fn $name() -> Tested {
            let pingone = start().await?;
            pingone.simulator.fault(example().device, [$fault]);
            let answer = pingone.unblock().await;
            let snapshot = answer.outcome.map_err(|failure| String::from(failure.message))?;
            assert_eq!(snapshot.text(&["block", "status"]), Some("UNBLOCKED"));
            assert!(snapshot.describes(&example()));
            assert_eq!(answer.requests, 1);
            assert_eq!(pingone.simulator.deviations(), []);
            Ok(())
        }
    )+};
}

successes! {
    a_success_with_the_device: Fault::Normal;
    a_success_without_a_body: Fault::NoBody { status: 200 };
    a_204: Fault::NoBody { status: 204 };
    a_success_that_takes_its_time: Fault::slow(Duration::from_millis(5));
}

macro_rules! failures {
    ($($name:ident: $fault:expr => $status:expr, $reason:ident, $hint:expr;)+) => {$(
        #[tokio::test]
        async fn $name() -> Tested {
            let pingone = start().await?;
            pingone.simulator.fault(example().device, [$fault]);
            let answer = pingone.unblock().await;
            let failure = answer.outcome.err().ok_or("the attempt succeeded")?;
            assert_eq!((failure.reason, failure.hint), (Reason::$reason, $hint), "{}", failure.message);
            assert_eq!((answer.http_status, failure.http_status), ($status, $status));
            assert_eq!(answer.requests, 1);
            assert_eq!(pingone.simulator.counts().posts, 1);
            Ok(())
        }
    )+};
}

const SEVEN: Duration = Duration::from_secs(7);

fn status(status: u16, retry_after: &str) -> Fault {
    Fault::retry_after(status, RetryAfter::Text(retry_after.to_owned()))
}

fn empty(status: u16) -> Fault {
    Fault::Status { status, page: Page::Empty, retry_after: None }
}

failures! {
    a_400: Fault::status(400) => Some(400), Rejected, RetryHint::Never;
    a_400_that_is_an_unexpected_error: Fault::unexpected_error() => Some(400), Unavailable, RetryHint::Backoff;
    a_403: Fault::status(403) => Some(403), Forbidden, RetryHint::Never;
    a_404: Fault::status(404) => Some(404), NotFound, RetryHint::Never;
    a_405: Fault::status(405) => Some(405), Rejected, RetryHint::Never;
    a_408: Fault::status(408) => Some(408), Unavailable, RetryHint::Backoff;
    a_409: Fault::status(409) => Some(409), Rejected, RetryHint::Never;
    a_415: Fault::status(415) => Some(415), Rejected, RetryHint::Never;
    a_422: Fault::status(422) => Some(422), Rejected, RetryHint::Never;
    a_418: Fault::status(418) => Some(418), Rejected, RetryHint::Never;
    a_429_with_seconds: status(429, "7") => Some(429), RateLimited, RetryHint::Hold(Some(SEVEN));
    a_429_with_nonsense: status(429, "soon") => Some(429), RateLimited, RetryHint::Hold(None);
    a_429_without: Fault::status(429) => Some(429), RateLimited, RetryHint::Hold(None);
    a_500: Fault::status(500) => Some(500), Unavailable, RetryHint::Backoff;
    a_501: Fault::status(501) => Some(501), Unavailable, RetryHint::Backoff;
    a_502_in_html: Fault::html(502) => Some(502), Unavailable, RetryHint::Backoff;
    a_503_without_a_body: empty(503) => Some(503), Unavailable, RetryHint::Backoff;
    a_503_with_seconds: status(503, "7") => Some(503), Unavailable, RetryHint::After(SEVEN);
    a_504: Fault::status(504) => Some(504), Unavailable, RetryHint::Backoff;
    html_instead_of_the_device: Fault::html(200) => Some(200), Protocol, RetryHint::BackoffFew;
    text_instead_of_the_device: Fault::WrongJson { garbage: Garbage::Text } => Some(200), Protocol, RetryHint::BackoffFew;
    an_array_instead_of_the_device: Fault::WrongJson { garbage: Garbage::Array } => Some(200), Protocol, RetryHint::BackoffFew;
    json_that_breaks_off: Fault::WrongJson { garbage: Garbage::Truncated } => Some(200), Protocol, RetryHint::BackoffFew;
    ids_of_another_type: Fault::WrongJson { garbage: Garbage::Types } => Some(200), Protocol, RetryHint::Never;
    another_device: Fault::AnotherDevice => Some(200), Protocol, RetryHint::Never;
    too_large_and_said_so: Fault::TooLarge { chunked: false } => Some(200), Protocol, RetryHint::BackoffFew;
    too_large_in_chunks: Fault::TooLarge { chunked: true } => Some(200), Protocol, RetryHint::BackoffFew;
    a_reset_within_the_body: Fault::ResetMidBody => Some(200), Protocol, RetryHint::BackoffFew;
    a_reset_without_effect: Fault::ResetBefore => None, Timeout, RetryHint::Backoff;
    a_reset_after_the_effect: Fault::ResetAfter => None, Timeout, RetryHint::Backoff;
}

#[tokio::test]
async fn a_429_with_a_date_is_never_undercut() -> Tested {
    let pingone = start().await?;
    pingone.simulator.fault(example().device, [Fault::retry_after(429, RetryAfter::DateIn(9))]);
    let RetryHint::Hold(Some(hold)) = pingone.failure().await?.hint else { return Err("no hold".into()) };
    assert!((8..=10).contains(&hold.as_secs()), "{hold:?}");
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> Tested {
    let pingone = start().await?;
    let elsewhere = format!("http://{}/v1/elsewhere", pingone.address);
    pingone.simulator.fault(example().device, [Fault::Redirect { location: elsewhere }]);
    let failure = pingone.failure().await?;
    assert_eq!((failure.reason, failure.hint), (Reason::Protocol, RetryHint::Never));
    assert_eq!(pingone.simulator.counts().requests, 2, "a token and one POST");
    Ok(())
}

#[tokio::test]
async fn silence_ends_with_the_deadline_and_an_unknown_effect() -> Tested {
    let pingone = start_with(ClientAuth::Basic, short).await?;
    pingone.simulator.fault(example().device, [Fault::Silence { effect: true }]);
    let began = Instant::now();
    let failure = pingone.failure().await?;
    assert!(began.elapsed() < SHORT * 3, "{:?}", began.elapsed());
    assert_eq!((failure.reason, failure.hint), (Reason::Timeout, RetryHint::Backoff));
    assert!(failure.message.contains("unknown"), "{}", failure.message);
    Ok(())
}

#[tokio::test]
async fn a_silent_token_endpoint_ends_with_the_deadline_and_nothing_sent() -> Tested {
    let pingone = start_with(ClientAuth::Basic, short).await?;
    pingone.simulator.plan(Plan::new([Fault::Silence { effect: false }]).on(On::Token));
    let answer = pingone.unblock().await;
    let failure = answer.outcome.err().ok_or("the attempt succeeded")?;
    assert_eq!((failure.reason, failure.hint), (Reason::Unavailable, RetryHint::Backoff));
    assert!(failure.message.contains("nothing was sent"), "{}", failure.message);
    assert_eq!((answer.requests, pingone.simulator.counts().posts), (0, 0));
    Ok(())
}

fn short(settings: &mut Settings) {
    settings.attempt_deadline = SHORT;
    settings.connect_timeout = SHORT;
}

#[tokio::test]
async fn without_a_listener_nothing_was_sent() -> Tested {
    let address = TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
    let token = Credential::AccessToken(SecretString::from("t"));
    for (credential, whose) in
        [(token, "PingOne cannot be reached"), (worker(address, ClientAuth::Basic)?, "token")]
    {
        let answer = unblock(&Client::new(Settings::new(api(address)?, credential))?).await;
        let failure = answer.outcome.err().ok_or("the attempt succeeded")?;
        assert_eq!((failure.reason, failure.hint), (Reason::Unavailable, RetryHint::Backoff));
        assert!(failure.message.contains("nothing was sent"), "{}", failure.message);
        assert!(failure.message.contains(whose), "{}", failure.message);
        assert_eq!(answer.requests, 0);
    }
    Ok(())
}

#[tokio::test]
async fn reading_shows_a_blocked_device_and_changes_nothing() -> Tested {
    let pingone = start().await?;
    let answer = pingone.client.read(&example(), job(), None).await;
    let snapshot = answer.outcome.map_err(|failure| String::from(failure.message))?;
    assert_eq!(snapshot.text(&["block", "status"]), Some("BLOCKED"));
    let counts = pingone.simulator.counts();
    assert_eq!((counts.reads, counts.posts, counts.effects), (1, 0, 0));
    assert_eq!(pingone.simulator.deviations(), []);
    Ok(())
}

async fn list(pingone: &PingOne) -> Answer {
    pingone.client.list_devices(environment(), example().user, job(), Some(TRACE)).await
}

#[tokio::test]
async fn a_list_shows_every_device_and_changes_nothing() -> Tested {
    let pingone = start().await?;
    let other =
        DeviceRef { device: pingone_unblock::device::DeviceId::from(uuid::Uuid::new_v4()), ..example() };
    pingone
        .simulator
        .register(Device { blocked: false, ..Device::blocked(other) }.with("secret", "s".into()));
    let answer = list(&pingone).await;
    assert_eq!((answer.http_status, answer.requests), (Some(200), 1));
    let devices =
        Devices::of(&answer.outcome.map_err(|failure| String::from(failure.message))?).ok_or("no list")?;
    let told: Vec<_> = devices.iter().map(|(id, device)| (*id, device.is_blocked())).collect();
    assert_eq!(told, [(example().device, true), (other.device, false)]);
    assert!(devices.iter().all(|(_, device)| device.text(&["secret"]).is_none()));
    let counts = pingone.simulator.counts();
    assert_eq!((counts.reads, counts.posts, counts.effects), (1, 0, 0));
    assert_eq!(pingone.simulator.deviations(), []);
    Ok(())
}

#[tokio::test]
async fn each_answer_to_a_list_means_what_it_means_for_an_unblock() -> Tested {
    let pingone = start_with(ClientAuth::Basic, short).await?;
    let (few, never, again) = (RetryHint::BackoffFew, RetryHint::Never, RetryHint::Backoff);
    for (fault, reason, hint) in [
        (Fault::status(400), Reason::Rejected, never),
        (Fault::unexpected_error(), Reason::Unavailable, again),
        (Fault::status(403), Reason::Forbidden, never),
        (Fault::status(404), Reason::NotFound, never),
        (status(429, "7"), Reason::RateLimited, RetryHint::Hold(Some(SEVEN))),
        (Fault::html(502), Reason::Unavailable, again),
        (status(503, "7"), Reason::Unavailable, RetryHint::After(SEVEN)),
        (Fault::html(200), Reason::Protocol, few),
        (Fault::NoBody { status: 204 }, Reason::Protocol, few),
        (Fault::WrongJson { garbage: Garbage::Array }, Reason::Protocol, few),
        (Fault::WrongJson { garbage: Garbage::Types }, Reason::Protocol, few),
        (Fault::WrongJson { garbage: Garbage::Truncated }, Reason::Protocol, few),
        (Fault::TooLarge { chunked: false }, Reason::Protocol, few),
        (Fault::TooLarge { chunked: true }, Reason::Protocol, few),
        (Fault::Redirect { location: "http://127.0.0.1:9/".to_owned() }, Reason::Protocol, never),
        (Fault::ResetBefore, Reason::Timeout, again),
        (Fault::ResetMidBody, Reason::Protocol, few),
        (Fault::Silence { effect: false }, Reason::Timeout, again),
    ] {
        let shown = format!("{fault:?}");
        pingone.simulator.plan(Plan::new([fault]).on(On::Get));
        let failure = list(&pingone).await.outcome.err().ok_or("the attempt succeeded")?;
        assert_eq!((failure.reason, failure.hint), (reason, hint), "{shown}: {}", failure.message);
        assert!(!failure.message.contains("unblocked"), "{}", failure.message);
    }
    pingone.simulator.revoke_tokens();
    let answer = list(&pingone).await;
    assert!(answer.outcome.is_ok(), "a fresh token follows a 401: {answer:?}");
    assert_eq!(answer.requests, 2);
    assert_eq!(pingone.simulator.counts().posts, 0);
    Ok(())
}
