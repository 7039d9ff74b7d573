//! Requests as documented get answers as documented.

use std::time::Duration;

use pingone_unblock::{
    device::DeviceRef,
    simulator::{CLIENT_ID, CLIENT_SECRET, Device, Fault, On, Plan, Settings},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{BLOCK, PingOne, Tested, UNBLOCK, example, start, unknown};

/// Word for word the example response of "Unblock MFA User Device".
const EXAMPLE: &str = r#"{
    "_links": {
        "self": {
            "href": "https://api.pingone.eu/v1/environments/abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6/users/b30ac647-e33e-464f-a6ea-0275082d4c26/devices/6697f628-7712-4e71-b52b-920ba0635020"
        },
        "environment": {
            "href": "https://api.pingone.eu/v1/environments/abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6"
        },
        "user": {
            "href": "https://api.pingone.eu/v1/environments/abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6/users/b30ac647-e33e-464f-a6ea-0275082d4c26"
        }
    },
    "id": "6697f628-7712-4e71-b52b-920ba0635020",
    "environment": {
        "id": "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6"
    },
    "user": {
        "id": "b30ac647-e33e-464f-a6ea-0275082d4c26"
    },
    "type": "SMS",
    "lock": {
        "status": "UNLOCKED"
    },
    "block": {
        "status": "UNBLOCKED"
    },
    "status": "ACTIVE",
    "createdAt": "2022-09-22T13:07:15.115Z",
    "updatedAt": "2022-11-20T15:52:58.519Z",
    "phone": "+14135550150",
    "testMode": true
}"#;

#[tokio::test]
async fn the_documented_device_is_unblocked_exactly_as_the_page_shows() -> Tested {
    let api_base = Some("https://api.pingone.eu/v1".to_owned());
    let ping = start(Settings { api_base, ..Settings::default() }).await?;
    let answer = ping.unblock(example()).header("x-ping-external-transaction-id", "job 1").send().await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-ping-external-transaction-id"], "job_1");
    uuid::Uuid::try_parse(answer.headers()["correlation-id"].to_str()?)?;
    assert_eq!(answer.json::<Value>().await?, serde_json::from_str::<Value>(EXAMPLE)?);
    Ok(())
}

#[tokio::test]
async fn a_device_stays_as_the_last_action_left_it() -> Tested {
    let ping = start(Settings::default()).await?;
    let block = async |ping: &PingOne| -> Result<Value, reqwest::Error> {
        let mut device: Value = ping.get(ping.url(example())).send().await?.json().await?;
        Ok(device["block"].take())
    };
    assert_eq!(block(&ping).await?, json!({ "status": "BLOCKED", "blockedAt": "2022-11-20T15:52:58.519Z" }));
    assert_eq!(ping.unblocked(example()).await?.status(), StatusCode::OK);
    assert_eq!(ping.unblocked(example()).await?.status(), StatusCode::OK);
    assert_eq!(block(&ping).await?, json!({ "status": "UNBLOCKED" }));
    assert_eq!(ping.post(example(), BLOCK).send().await?.status(), StatusCode::OK);
    assert_eq!(block(&ping).await?["status"], "BLOCKED");
    let device = ping.simulator.device(example().device).ok_or("the example is registered")?;
    assert!(device.blocked_at.is_some_and(|at| at > OffsetDateTime::now_utc() - Duration::from_secs(60)));
    assert!(ping.simulator.deviations().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_lock_is_shown_until_it_has_passed_or_is_lifted() -> Tested {
    let ping = start(Settings::default()).await?;
    let device = unknown(1);
    let now = OffsetDateTime::now_utc();
    let lock = async |until: OffsetDateTime, media_type: &str| -> Result<Value, reqwest::Error> {
        ping.simulator.register(Device { locked_until: Some(until), ..Device::blocked(device) });
        let mut shown: Value = ping.post(device, media_type).send().await?.json().await?;
        Ok(shown["lock"].take())
    };
    let hour = Duration::from_secs(3600);
    let locked = lock(now + hour, UNBLOCK).await?;
    assert_eq!(locked["status"], "LOCKED");
    assert!(locked["expiresAt"].as_str().is_some_and(|at| at.ends_with('Z') && at.len() == 24));
    assert_eq!(lock(now - hour, UNBLOCK).await?, json!({ "status": "UNLOCKED" }));
    let unlock = "application/vnd.pingidentity.device.unlock+json";
    assert_eq!(lock(now + hour, unlock).await?, json!({ "status": "UNLOCKED" }));
    Ok(())
}

#[tokio::test]
async fn errors_have_the_documented_form() -> Tested {
    let ping = start(Settings { strict: true, ..Settings::default() }).await?;
    let stranger = unknown(7);
    let elsewhere = DeviceRef { user: stranger.user, ..example() };
    let no_device =
        ping.at(&format!("/v1/environments/{}/users/{}/devices", example().environment, stranger.user));
    let cases = [
        (ping.client.post(ping.url(example())), 401, "ACCESS_FAILED", Some("INVALID_TOKEN")),
        (ping.client.post(ping.url(example())).bearer_auth("x"), 401, "ACCESS_FAILED", Some("INVALID_TOKEN")),
        (ping.unblock(stranger), 404, "NOT_FOUND", None),
        (ping.unblock(elsewhere), 404, "NOT_FOUND", None),
        (ping.get(no_device), 404, "NOT_FOUND", None),
        (ping.get(ping.at("/v1/environments/x/users/y/devices/z")), 404, "NOT_FOUND", None),
        (ping.post(example(), "application/json"), 415, "INVALID_REQUEST", None),
        (ping.client.delete(ping.url(example())).bearer_auth(&ping.token), 405, "INVALID_REQUEST", None),
    ];
    for (request, status, code, detail) in cases {
        let answer = request.send().await?;
        assert_eq!(answer.status(), status);
        let correlation = answer.headers()["correlation-id"].to_str()?.to_owned();
        assert!(answer.headers().contains_key("x-ping-external-transaction-id"));
        let body: Value = answer.json().await?;
        assert_eq!(body["id"], correlation);
        assert_eq!(body["code"], code);
        assert!(body["message"].is_string());
        assert_eq!(body["details"][0]["code"].as_str(), detail);
    }
    assert_eq!(ping.simulator.counts().effects, 0);
    Ok(())
}

#[tokio::test]
async fn every_device_exists_unless_only_registered_ones_do() -> Tested {
    let ping = start(Settings::default()).await?;
    let device = unknown(9);
    let answer: Value = ping.unblocked(device).await?.json().await?;
    assert_eq!(answer["id"], device.device.to_string());
    assert_eq!(answer["_links"]["self"]["href"], ping.url(device));

    let devices =
        |of: DeviceRef| ping.at(&format!("/v1/environments/{}/users/{}/devices", of.environment, of.user));
    let listed: Value = ping.get(devices(device)).send().await?.json().await?;
    assert_eq!(listed["_embedded"]["devices"], json!([answer]));
    assert_eq!(listed["_links"]["self"]["href"], devices(device));

    let listed: Value = ping.get(devices(unknown(10))).send().await?.json().await?;
    assert_eq!(listed["_embedded"]["devices"][0]["block"]["status"], "BLOCKED");
    let again: Value = ping.get(devices(unknown(10))).send().await?.json().await?;
    assert_eq!(again, listed);
    assert!(ping.simulator.deviations().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_list_has_every_device_of_its_user_and_counts_as_a_read() -> Tested {
    let ping = start(Settings { strict: true, rate_limit: Some(2), ..Settings::default() }).await?;
    let path = format!("/v1/environments/{}/users/{}/devices", example().environment, example().user);
    let second = DeviceRef { device: unknown(1).device, ..example() };
    let until = OffsetDateTime::now_utc() + Duration::from_secs(60);
    ping.simulator.register(Device { blocked: false, locked_until: Some(until), ..Device::blocked(second) });
    ping.simulator.register(Device::blocked(unknown(2)));
    let listed: Value = ping.get(ping.at(&path)).send().await?.json().await?;
    let devices = listed["_embedded"]["devices"].as_array().ok_or("no list")?;
    let ids: Vec<_> = devices.iter().map(|device| device["id"].as_str().unwrap_or_default()).collect();
    assert_eq!(ids, [example().device, second.device].map(|id| id.to_string()));
    assert_eq!(devices[0]["block"]["status"], "BLOCKED");
    assert_eq!(
        (&devices[1]["block"]["status"], &devices[1]["lock"]["status"]),
        (&json!("UNBLOCKED"), &json!("LOCKED"))
    );

    assert_eq!(ping.client.get(ping.at(&path)).send().await?.status(), StatusCode::UNAUTHORIZED);
    let limited = ping.get(ping.at(&path)).send().await?;
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS, "lists use the licence's rate as well");
    let records = ping.simulator.requests();
    assert!(records.iter().all(|record| record.is_api() && !record.is_post() && record.method == "GET"));
    let counts = ping.simulator.counts();
    assert_eq!((counts.reads, counts.posts, counts.limited, counts.effects), (3, 0, 1, 0));
    Ok(())
}

#[tokio::test]
async fn a_list_meets_the_faults_of_reads() -> Tested {
    let ping = start(Settings::default()).await?;
    let path = format!("/v1/environments/{}/users/{}/devices", example().environment, example().user);
    let post = Plan::new([Fault::status(500)]);
    let read = Plan::new([Fault::status(503)]).on(On::Get).environment(example().environment);
    ping.simulator.plan(post);
    ping.simulator.plan(read);
    assert_eq!(ping.get(ping.at(&path)).send().await?.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ping.get(ping.at(&path)).send().await?.status(), StatusCode::OK);
    assert_eq!(ping.unblocked(example()).await?.status(), StatusCode::INTERNAL_SERVER_ERROR);
    Ok(())
}

#[tokio::test]
async fn unblocking_what_is_not_blocked_can_be_refused() -> Tested {
    let ping = start(Settings { refuse_unblocked: true, ..Settings::default() }).await?;
    assert_eq!(ping.unblocked(example()).await?.status(), StatusCode::OK);
    let refused = ping.unblocked(example()).await?;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert_eq!(refused.json::<Value>().await?["code"], "REQUEST_FAILED");
    assert_eq!(ping.simulator.counts().effects, 1);
    Ok(())
}

#[tokio::test]
async fn beyond_the_limit_the_answer_is_429_and_a_second() -> Tested {
    let ping = start(Settings { rate_limit: Some(0), ..Settings::default() }).await?;
    let limited = ping.unblocked(example()).await?;
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers()["retry-after"], "1");
    assert_eq!(limited.json::<Value>().await?["code"], "REQUEST_LIMITED");
    assert_eq!(ping.simulator.counts().limited, 1);
    ping.simulator.set_rate_limit(None);
    assert_eq!(ping.unblocked(unknown(1)).await?.status(), StatusCode::OK);
    Ok(())
}

type Pair<'a> = (&'a str, &'a str);

async fn token(
    ping: &PingOne,
    basic: Option<Pair<'_>>,
    form: &[Pair<'_>],
) -> Result<(u16, Value), reqwest::Error> {
    let mut request = ping.client.post(ping.at(&format!("/{}/as/token", example().environment))).form(form);
    if let Some((client, secret)) = basic {
        request = request.basic_auth(client, Some(secret));
    }
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

#[tokio::test]
async fn tokens_are_given_to_a_client_that_knows_its_secret() -> Tested {
    let ping = start(Settings::default()).await?;
    let posted = [GRANT, ("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
    for (basic, form) in [(Some((CLIENT_ID, CLIENT_SECRET)), &posted[..1]), (None, &posted[..])] {
        let (status, answer) = token(&ping, basic, form).await?;
        assert_eq!(
            (status, &answer["token_type"], &answer["expires_in"]),
            (200, &json!("Bearer"), &json!(3600))
        );
        let given = answer["access_token"].as_str().ok_or("a token is text")?;
        let read = ping.client.get(ping.url(example())).bearer_auth(given).send().await?;
        assert_eq!(read.status(), StatusCode::OK);
    }
    let wrong = [GRANT, ("client_id", CLIENT_ID), ("client_secret", "wrong")];
    let other_grant = [("grant_type", "authorization_code")];
    let cases: [(Option<Pair<'_>>, &[Pair<'_>], u16, &str); 5] = [
        (Some((CLIENT_ID, "wrong")), &posted[..1], 401, "invalid_client"),
        (None, &wrong, 401, "invalid_client"),
        (None, &posted[..1], 401, "invalid_client"),
        (Some((CLIENT_ID, CLIENT_SECRET)), &other_grant, 400, "unsupported_grant_type"),
        (Some((CLIENT_ID, CLIENT_SECRET)), &posted, 400, "invalid_request"),
    ];
    for (basic, form, status, error) in cases {
        let (given, answer) = token(&ping, basic, form).await?;
        assert_eq!((given, &answer["error"]), (status, &json!(error)));
        assert!(answer["error_description"].as_str().is_some_and(|text| text.contains("(Correlation ID: ")));
    }
    Ok(())
}

#[tokio::test]
async fn tokens_end_with_their_time_or_when_they_are_revoked() -> Tested {
    let ping = start(Settings::default()).await?;
    ping.simulator.revoke_tokens();
    assert_eq!(ping.unblocked(example()).await?.status(), StatusCode::UNAUTHORIZED);
    ping.simulator.set_token_lifetime(Duration::ZERO);
    let ended = ping.simulator.issue_token();
    let request = ping.client.get(ping.url(example())).bearer_auth(ended);
    assert_eq!(request.send().await?.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        ping.simulator.requests().iter().map(|record| record.token).collect::<Vec<_>>(),
        [Some(1), Some(2)]
    );

    ping.simulator.set_secret(CLIENT_ID, "a new: sécret+%41");
    assert_eq!(token(&ping, Some((CLIENT_ID, CLIENT_SECRET)), &[GRANT]).await?.0, 401);
    assert_eq!(token(&ping, Some((CLIENT_ID, "a new: sécret+%41")), &[GRANT]).await?.0, 200);
    assert_eq!(token(&ping, Some((CLIENT_ID, "a+new%3A+s%C3%A9cret%2B%2541")), &[GRANT]).await?.0, 200);
    Ok(())
}
