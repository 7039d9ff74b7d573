//! The control API does what the handle does.

use pingone_unblock::simulator::{CLIENT_ID, Device, Settings};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{PingOne, Tested, example, start, unknown};

async fn call(
    ping: &PingOne,
    method: Method,
    call: &str,
    body: &Value,
) -> Result<(u16, Value), reqwest::Error> {
    let mut request = ping.client.request(method, ping.at(&format!("/control/{call}")));
    if !body.is_null() {
        request = request.json(body);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let text = answer.bytes().await?;
    Ok((status, serde_json::from_slice(&text).unwrap_or(Value::Null)))
}

#[tokio::test]
async fn faults_are_planned_cleared_and_released() -> Tested {
    let ping = start(Settings::default()).await?;
    let plan = json!({
        "device": example().device.to_string(),
        "faults": [
            { "fault": "status", "status": 429, "retry_after": { "seconds": 0 } },
            { "fault": "no_body", "status": 204 },
            { "fault": "wrong_json", "garbage": "array" },
            { "fault": "hold", "then": { "fault": "redirect", "location": "/" } },
        ],
    });
    assert_eq!(call(&ping, Method::POST, "faults", &plan).await?, (204, Value::Null));
    for status in [429, 204, 200] {
        assert_eq!(ping.unblocked(example()).await?.status(), status);
    }
    let held = tokio::spawn(ping.unblock(example()).send());
    ping.simulator.arrived(4).await;
    call(&ping, Method::POST, "release", &Value::Null).await?;
    assert_eq!(held.await??.status(), StatusCode::TEMPORARY_REDIRECT);

    let outage = json!({ "on": "any", "faults": [{ "fault": "status", "status": 503 }], "rounds": null });
    call(&ping, Method::POST, "faults", &outage).await?;
    for _ in 0..2 {
        assert_eq!(ping.unblocked(unknown(1)).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    call(&ping, Method::DELETE, "faults", &Value::Null).await?;
    assert_eq!(ping.unblocked(unknown(1)).await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn devices_clients_tokens_and_limits_are_changed() -> Tested {
    let ping = start(Settings { strict: true, ..Settings::default() }).await?;
    let id = unknown(5);
    let device = json!({
        "environment": id.environment.to_string(), "user": id.user.to_string(), "id": id.device.to_string(),
        "type": "EMAIL", "blocked": true, "blockedAt": "2026-01-02T03:04:05Z",
        "members": { "email": "someone@example.com", "test": { "otp": "123456" } },
    });
    assert_eq!(call(&ping, Method::PUT, "devices", &device).await?.0, 204);
    let shown: Value = ping.unblocked(id).await?.json().await?;
    assert_eq!((&shown["type"], &shown["test"]["otp"]), (&json!("EMAIL"), &json!("123456")));
    let (_, known) = call(&ping, Method::GET, &format!("devices/{}", id.device), &Value::Null).await?;
    assert_eq!((&known["device"]["blocked"], &known["counts"]["posts"]), (&json!(false), &json!(1)));
    assert_eq!(serde_json::from_value::<Device>(known["device"].clone())?.reference(), id);

    let limits = json!({ "rate_limit": 0 });
    assert_eq!(call(&ping, Method::PUT, "limits", &limits).await?.0, 204);
    assert_eq!(ping.unblocked(id).await?.status(), StatusCode::TOO_MANY_REQUESTS);
    call(&ping, Method::PUT, "limits", &json!({ "latency_ms": 1, "jitter_ms": 1 })).await?;
    assert_eq!(ping.unblocked(example()).await?.status(), StatusCode::OK);

    call(&ping, Method::PUT, "clients", &json!({ "id": CLIENT_ID, "secret": "new" })).await?;
    let url = ping.at(&format!("/{}/as/token", id.environment));
    let form = [("grant_type", "client_credentials"), ("client_id", CLIENT_ID), ("client_secret", "new")];
    assert_eq!(ping.client.post(url).form(&form).send().await?.status(), StatusCode::OK);
    call(&ping, Method::POST, "tokens/revoke", &Value::Null).await?;
    assert_eq!(ping.unblocked(id).await?.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn requests_and_counts_are_shown_and_calls_are_not_among_them() -> Tested {
    let ping = start(Settings::default()).await?;
    for number in 0..3 {
        ping.unblocked(unknown(number)).await?;
    }
    let (_, counts) = call(&ping, Method::GET, "counts", &Value::Null).await?;
    assert_eq!((&counts["requests"], &counts["effects"]), (&json!(3), &json!(3)));
    let (_, records) = call(&ping, Method::GET, "requests?last=2", &Value::Null).await?;
    assert_eq!((&records[0]["number"], &records[1]["ending"]["answered"]), (&json!(2), &json!(200)));
    assert!(!records.to_string().contains("earer"));
    assert_eq!(call(&ping, Method::GET, "deviations", &Value::Null).await?, (200, json!([])));
    Ok(())
}

#[tokio::test]
async fn the_arrivals_of_one_user_are_told() -> Tested {
    let ping = start(Settings { records: 0, ..Settings::default() }).await?;
    let watched = unknown(1);
    assert_eq!(
        call(&ping, Method::PUT, "watched", &json!({ "user": watched.user.to_string() })).await?.0,
        204
    );
    let begun = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000;
    for device in [watched, example(), watched] {
        ping.unblocked(device).await?;
    }
    let (_, arrivals) = call(&ping, Method::GET, "arrivals", &Value::Null).await?;
    let [first, second] = arrivals.as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(format!("{arrivals}").into());
    };
    assert_eq!((&first["device"], &second["device"]), (&json!(watched.device.to_string()), &first["device"]));
    assert!(i128::from(first["at_us"].as_i64().ok_or("a number")?) >= begun);
    call(&ping, Method::PUT, "watched", &json!({})).await?;
    assert_eq!(call(&ping, Method::GET, "arrivals", &Value::Null).await?, (200, json!([])));
    Ok(())
}

#[tokio::test]
async fn what_is_not_understood_is_refused() -> Tested {
    let ping = start(Settings::default()).await?;
    let cases = [
        (Method::POST, "faults", json!({ "faults": [{ "fault": "earthquake" }] }), 400),
        (Method::POST, "faults", json!({ "faults": [], "round": 1 }), 400),
        (Method::PUT, "devices", json!({ "id": "x" }), 400),
        (Method::GET, "requests?first=1", Value::Null, 400),
        (Method::GET, "requests?last=all", Value::Null, 400),
        (Method::GET, "nothing", Value::Null, 404),
        (Method::GET, "devices/b30ac647-e33e-464f-a6ea-0275082d4c26", Value::Null, 404),
    ];
    for (method, path, body, status) in cases {
        let (given, answer) = call(&ping, method, path, &body).await?;
        assert_eq!(given, status, "{path}");
        assert!(answer["error"].is_string());
    }
    Ok(())
}
