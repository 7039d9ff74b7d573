//! Each fault as a client sees it.

use std::{
    io::ErrorKind,
    time::{Duration, Instant, SystemTime},
};

use pingone_unblock::simulator::{Ending, Fault, Garbage, On, Page, Plan, RetryAfter, Settings};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{PingOne, Tested, UNBLOCK, example, start, unknown};

/// The bytes that come back until the connection ends, and whether it ended by a reset.
async fn raw(ping: &PingOne) -> Result<(String, bool), std::io::Error> {
    let mut stream = TcpStream::connect(ping.address).await?;
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: {UNBLOCK}\r\ncontent-length: 0\r\n\r\n",
        ping.url(example()).trim_start_matches(&ping.at("")),
        ping.address,
        ping.token,
    );
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    let reset = match stream.read_to_end(&mut bytes).await {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => return Err(error),
    };
    Ok((String::from_utf8_lossy(&bytes).into_owned(), reset))
}

fn blocked(ping: &PingOne) -> bool {
    ping.simulator.device(example().device).is_some_and(|device| device.blocked)
}

#[tokio::test]
async fn a_connection_is_reset_before_or_after_the_effect() -> Tested {
    let ping = start(Settings::default()).await?;
    for (fault, blocked_then) in [(Fault::ResetBefore, true), (Fault::ResetAfter, false)] {
        ping.simulator.fault(example().device, [fault]);
        assert_eq!(raw(&ping).await?, (String::new(), true));
        assert_eq!(blocked(&ping), blocked_then);
    }
    let endings = ping.simulator.posts();
    assert!(endings.iter().all(|record| record.ending == Ending::Reset));
    assert_eq!(endings.iter().map(|record| record.effect).collect::<Vec<_>>(), [false, true]);
    Ok(())
}

#[tokio::test]
async fn a_connection_is_reset_in_the_middle_of_the_answer() -> Tested {
    let ping = start(Settings::default()).await?;
    ping.simulator.fault(example().device, [Fault::ResetMidBody, Fault::ResetMidBody]);
    let (received, reset) = raw(&ping).await?;
    let (head, half) = received.split_once("\r\n\r\n").ok_or("the head is whole")?;
    let promised = head.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("a length")?;
    assert!(reset && half.starts_with('{') && half.len() == promised.parse::<usize>()? / 2);
    assert!(!blocked(&ping));
    assert!(ping.unblocked(example()).await?.bytes().await.is_err());
    Ok(())
}

#[tokio::test]
async fn faults_come_in_the_order_of_the_script_and_then_no_more() -> Tested {
    let ping = start(Settings::default()).await?;
    let script = [
        Fault::status(503),
        Fault::unexpected_error(),
        Fault::Normal,
        Fault::status(401),
        Fault::html(502),
        Fault::Status { status: 500, page: Page::Empty, retry_after: None },
    ];
    ping.simulator.fault(example().device, script);
    let expected = [
        (503, "UNEXPECTED_ERROR"),
        (400, "UNEXPECTED_ERROR"),
        (200, "UNBLOCKED"),
        (401, "INVALID_TOKEN"),
        (502, "<html>"),
        (500, ""),
        (200, "UNBLOCKED"),
    ];
    for (status, text) in expected {
        assert_eq!(ping.unblocked(unknown(1)).await?.status(), StatusCode::OK);
        assert_eq!(ping.get(ping.url(example())).send().await?.status(), StatusCode::OK);
        let answer = ping.unblocked(example()).await?;
        assert_eq!(answer.status(), status);
        let body = answer.text().await?;
        assert!(body.contains(text) && body.is_empty() == text.is_empty(), "{status}: {body}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_can_be_something_else_than_the_device() -> Tested {
    let ping = start(Settings::default()).await?;
    for status in [200, 204] {
        ping.simulator.fault(example().device, [Fault::NoBody { status }]);
        let answer = ping.unblocked(example()).await?;
        assert_eq!((answer.status().as_u16(), answer.bytes().await?.len()), (status, 0));
    }
    assert!(!blocked(&ping));
    for garbage in [Garbage::Array, Garbage::Truncated, Garbage::Types, Garbage::Text] {
        ping.simulator.fault(example().device, [Fault::WrongJson { garbage }]);
        let answer = ping.unblocked(example()).await?;
        assert_eq!(answer.status(), StatusCode::OK);
        let parsed = answer.json::<Value>().await;
        match garbage {
            Garbage::Array => assert!(parsed?.is_array()),
            Garbage::Types => assert!(parsed?["id"].is_number()),
            Garbage::Truncated | Garbage::Text => assert!(parsed.is_err()),
        }
    }
    ping.simulator.fault(example().device, [Fault::AnotherDevice]);
    let other: Value = ping.unblocked(example()).await?.json().await?;
    assert_ne!(other["id"], example().device.to_string());
    assert_eq!(other["user"]["id"], example().user.to_string());
    Ok(())
}

#[tokio::test]
async fn an_answer_can_be_too_large_with_and_without_saying_so() -> Tested {
    let ping = start(Settings::default()).await?;
    for chunked in [false, true] {
        ping.simulator.fault(example().device, [Fault::TooLarge { chunked }]);
        let answer = ping.unblocked(example()).await?;
        assert_eq!(answer.content_length().is_none(), chunked);
        assert!(answer.bytes().await?.len() > 1 << 20);
    }
    Ok(())
}

#[tokio::test]
async fn a_redirect_points_where_it_should() -> Tested {
    let ping = start(Settings::default()).await?;
    ping.simulator.fault(example().device, [Fault::Redirect { location: "https://example.com/".to_owned() }]);
    let answer = ping.unblocked(example()).await?;
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(answer.headers()["location"], "https://example.com/");
    assert!(blocked(&ping));
    Ok(())
}

#[tokio::test]
async fn retry_after_is_seconds_or_a_date_or_nonsense() -> Tested {
    let ping = start(Settings::default()).await?;
    let mut said = Vec::new();
    for after in [RetryAfter::Seconds(30), RetryAfter::DateIn(60), RetryAfter::Text("soon".to_owned())] {
        ping.simulator.fault(unknown(2).device, [Fault::retry_after(429, after)]);
        let answer = ping.unblocked(unknown(2)).await?;
        said.push(answer.headers()["retry-after"].to_str()?.to_owned());
    }
    assert_eq!((said[0].as_str(), said[2].as_str()), ("30", "soon"));
    let wait = httpdate::parse_http_date(&said[1])?.duration_since(SystemTime::now())?;
    assert!((50..=60).contains(&wait.as_secs()), "{wait:?}");
    Ok(())
}

#[tokio::test]
async fn silence_lasts_until_the_caller_leaves() -> Tested {
    let ping = start(Settings::default()).await?;
    for effect in [false, true] {
        ping.simulator.fault(example().device, [Fault::Silence { effect }]);
        let asking = tokio::spawn(ping.unblock(example()).send());
        ping.simulator.arrived(1 + u64::from(effect)).await;
        ping.simulator.until(|simulator| simulator.counts().effects == u64::from(effect)).await;
        assert_eq!(ping.simulator.counts_for(example().device).in_flight, 1);
        asking.abort();
        ping.simulator.idle().await;
        assert_eq!(blocked(&ping), !effect);
    }
    assert!(ping.simulator.posts().iter().all(|record| record.ending == Ending::Abandoned));
    Ok(())
}

#[tokio::test]
async fn a_slow_answer_takes_its_time_after_the_effect() -> Tested {
    let ping = start(Settings::default()).await?;
    let slow = Duration::from_millis(60);
    ping.simulator.fault(example().device, [Fault::slow(slow)]);
    let before = Instant::now();
    let asking = tokio::spawn(ping.unblock(example()).send());
    ping.simulator.until(|simulator| simulator.counts().effects == 1).await;
    assert_eq!(asking.await??.status(), StatusCode::OK);
    assert!(before.elapsed() >= slow);
    ping.simulator.set_latency(slow, slow);
    let before = Instant::now();
    ping.unblocked(example()).await?;
    assert!(before.elapsed() >= slow);
    Ok(())
}

#[tokio::test]
async fn held_requests_wait_until_they_are_released() -> Tested {
    let ping = start(Settings::default()).await?;
    let then = Box::new(Fault::status(503));
    ping.simulator.fault(example().device, [Fault::hold(), Fault::Hold { then }]);
    ping.simulator.fault(unknown(1).device, [Fault::hold()]);
    let first = tokio::spawn(ping.unblock(example()).send());
    ping.simulator.arrived_for(example().device, 1).await;
    let second = tokio::spawn(ping.unblock(example()).send());
    ping.simulator.arrived_for(example().device, 2).await;
    let other = tokio::spawn(ping.unblock(unknown(1)).send());
    ping.simulator.arrived(3).await;
    assert_eq!(ping.simulator.counts_for(example().device).most_in_flight, 2);
    assert_eq!(ping.simulator.counts().effects, 0);
    ping.simulator.release_device(example().device);
    assert_eq!(first.await??.status(), StatusCode::OK);
    assert_eq!(second.await??.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ping.simulator.counts().in_flight, 1);
    ping.simulator.release();
    assert_eq!(other.await??.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn wide_faults_last_for_so_many_requests_or_until_cleared() -> Tested {
    let ping = start(Settings::default()).await?;
    let status =
        async |number: u128| ping.unblocked(unknown(number)).await.map(|answer| answer.status().as_u16());
    ping.simulator.plan(Plan::new([Fault::status(500)]).times(2));
    assert_eq!([status(1).await?, status(2).await?, status(3).await?], [500, 500, 200]);

    ping.simulator.fault_all(Fault::status(503));
    ping.simulator.fault(unknown(4).device, [Fault::Normal]);
    assert_eq!([status(1).await?, status(4).await?, status(4).await?], [503, 200, 503]);
    assert_eq!(ping.get(ping.url(unknown(1))).send().await?.status(), StatusCode::SERVICE_UNAVAILABLE);
    ping.simulator.clear_faults();
    assert_eq!(status(1).await?, 200);

    let here = Plan::new([Fault::status(500)]).environment(example().environment).until_cleared();
    ping.simulator.plan(here.on(On::Any));
    assert_eq!(ping.unblocked(example()).await?.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(status(1).await?, 200);
    Ok(())
}

#[tokio::test]
async fn the_token_endpoint_can_fail_too() -> Tested {
    let ping = start(Settings::default()).await?;
    ping.simulator.plan(Plan::new([Fault::html(503), Fault::ResetBefore]).on(On::Token));
    let url = ping.at(&format!("/{}/as/token", example().environment));
    let ask = || ping.client.post(&url).form(&[("grant_type", "client_credentials")]).send();
    assert_eq!(ask().await?.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(ask().await.is_err());
    assert_eq!(ping.unblocked(example()).await?.status(), StatusCode::OK);
    assert_eq!(ask().await?.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}
