//! How the client comes by its token, keeps it and gives it up.

use pingone_unblock::{
    job::{Reason, RetryHint},
    simulator::{CLIENT_ID, Fault, On, Plan, RetryAfter},
};

use super::*;

#[tokio::test]
async fn a_hundred_first_calls_fetch_one_token() -> Tested {
    let pingone = start().await?;
    assert_eq!(succeed_together(&pingone, 100).await?, 100);
    assert_eq!(pingone.simulator.counts().token_requests, 1);
    Ok(())
}

#[tokio::test]
async fn a_hundred_refused_calls_fetch_one_fresh_token() -> Tested {
    let pingone = start().await?;
    pingone.unblock().await.outcome.map_err(|failure| String::from(failure.message))?;
    pingone.simulator.revoke_tokens();
    assert_eq!(succeed_together(&pingone, 100).await?, 200, "each was refused once");
    assert_eq!(pingone.simulator.counts().token_requests, 2);
    Ok(())
}

/// Makes so many calls at once, all of which have to succeed; returns how many requests they took.
async fn succeed_together(pingone: &PingOne, calls: usize) -> Result<u32, Box<dyn Error>> {
    let mut begun: Vec<_> = (0..calls).map(|_| Box::pin(pingone.unblock())).collect();
    for call in &mut begun {
        assert!(begin(call).await.is_none());
    }
    let mut requests = 0;
    for call in begun {
        let answer = call.await;
        answer.outcome.map_err(|failure| String::from(failure.message))?;
        requests += u32::from(answer.requests);
    }
    Ok(requests)
}

#[tokio::test]
async fn all_who_wait_share_a_failure_and_the_next_call_tries_anew() -> Tested {
    let pingone = start().await?;
    pingone.simulator.plan(Plan::new([Fault::Hold { then: Box::new(Fault::status(503)) }]).on(On::Token));
    let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(pingone.unblock())).collect();
    for call in &mut waiting {
        assert!(begin(call).await.is_none());
    }
    pingone.simulator.until(|simulator| simulator.counts().token_requests == 1).await;
    pingone.simulator.release();
    for call in waiting {
        let failure = call.await.outcome.err().ok_or("the attempt succeeded")?;
        assert_eq!((failure.reason, failure.hint), (Reason::Unavailable, RetryHint::Backoff));
        assert!(failure.message.ends_with("nothing was sent"), "{}", failure.message);
    }
    assert_eq!(pingone.simulator.counts().token_requests, 1);
    pingone.unblock().await.outcome.map_err(|failure| String::from(failure.message))?;
    assert_eq!(pingone.simulator.counts().token_requests, 2);
    Ok(())
}

#[tokio::test]
async fn who_goes_away_does_not_take_the_token_along() -> Tested {
    let pingone = start().await?;
    pingone.simulator.plan(Plan::new([Fault::hold()]).on(On::Token));
    let mut first = Box::pin(pingone.unblock());
    assert!(begin(&mut first).await.is_none());
    pingone.simulator.until(|simulator| simulator.counts().token_requests == 1).await;
    let mut second = Box::pin(pingone.unblock());
    assert!(begin(&mut second).await.is_none());
    drop(first);
    pingone.simulator.release();
    second.await.outcome.map_err(|failure| String::from(failure.message))?;
    assert_eq!(pingone.simulator.counts().token_requests, 1);
    Ok(())
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_nobody_waits_for_it() -> Tested {
    let pingone = start().await?;
    pingone.simulator.set_token_lifetime(Duration::from_secs(4));
    pingone.unblock().await.outcome.map_err(|failure| String::from(failure.message))?;
    pingone.simulator.plan(Plan::new([Fault::hold()]).on(On::Token));
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    while pingone.simulator.counts().token_requests == 1 {
        pace.tick().await;
        assert_eq!(pingone.unblock().await.requests, 1);
    }
    let while_it_is_renewed = pingone.unblock().await;
    assert!(while_it_is_renewed.outcome.is_ok());
    pingone.simulator.release();
    let newest = |pingone: &PingOne| pingone.simulator.posts().last().and_then(|post| post.token);
    while newest(&pingone) == Some(1) {
        pace.tick().await;
        assert_eq!(pingone.unblock().await.requests, 1, "the old token served until the new one came");
    }
    assert_eq!(newest(&pingone), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_serves_until_it_ends() -> Tested {
    let pingone = start().await?;
    pingone.simulator.set_token_lifetime(Duration::from_secs(3));
    pingone.unblock().await.outcome.map_err(|failure| String::from(failure.message))?;
    pingone.simulator.plan(Plan::new([Fault::status(503)]).on(On::Token).until_cleared());
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let failure = loop {
        pace.tick().await;
        let renewals = pingone.simulator.counts().token_requests - 1;
        match pingone.unblock().await.outcome {
            Ok(_) => assert!(renewals <= 1, "a renewal that failed is not repeated at once"),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure.reason, Reason::Unavailable);
    assert!(pingone.simulator.counts().token_requests >= 3, "it was renewed early, and again at its end");
    Ok(())
}

#[tokio::test]
async fn a_401_is_answered_with_a_fresh_token() -> Tested {
    let pingone = start().await?;
    pingone.simulator.fault(example().device, [Fault::status(401)]);
    let answer = pingone.unblock().await;
    assert!(answer.outcome.is_ok());
    assert_eq!((answer.requests, answer.http_status), (2, Some(200)));
    let tokens: Vec<_> = pingone.simulator.posts().iter().map(|post| post.token).collect();
    assert_eq!(tokens, [Some(1), Some(2)]);
    Ok(())
}

#[tokio::test]
async fn a_second_401_refuses_the_credential() -> Tested {
    let pingone = start().await?;
    pingone.simulator.fault(example().device, [Fault::status(401), Fault::status(401)]);
    let answer = pingone.unblock().await;
    let failure = answer.outcome.err().ok_or("the attempt succeeded")?;
    assert_eq!((failure.reason, failure.hint), (Reason::CredentialRefused, RetryHint::Credential));
    assert_eq!((answer.requests, pingone.simulator.counts().token_requests), (2, 2));
    Ok(())
}

#[tokio::test]
async fn a_401_without_a_fresh_token_says_that_nothing_was_changed() -> Tested {
    let pingone = start().await?;
    pingone.simulator.plan(Plan::new([Fault::Normal, Fault::status(503)]).on(On::Token));
    pingone.simulator.fault(example().device, [Fault::status(401)]);
    let answer = pingone.unblock().await;
    let failure = answer.outcome.err().ok_or("the attempt succeeded")?;
    assert_eq!((failure.reason, failure.hint), (Reason::Unavailable, RetryHint::Backoff));
    assert!(failure.message.ends_with("nothing was changed"), "{}", failure.message);
    assert_eq!((answer.requests, answer.http_status), (1, Some(401)));
    Ok(())
}

#[tokio::test]
async fn a_fixed_token_is_refused_at_once() -> Tested {
    let pingone = start().await?;
    let fixed = Credential::AccessToken(SecretString::from(pingone.simulator.issue_token()));
    let client = Client::new(Settings::new(api(pingone.address)?, fixed))?;
    assert!(unblock(&client).await.outcome.is_ok());
    pingone.simulator.revoke_tokens();
    let answer = unblock(&client).await;
    let failure = answer.outcome.err().ok_or("the attempt succeeded")?;
    assert_eq!((failure.reason, failure.hint), (Reason::CredentialRefused, RetryHint::Credential));
    assert_eq!((answer.requests, pingone.simulator.counts().token_requests), (1, 0));
    assert!(client.check_credential().await.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_refuses_the_credential_until_it_is_right() -> Tested {
    for method in [ClientAuth::Basic, ClientAuth::Post] {
        let pingone = start_with(method, |_| ()).await?;
        pingone.simulator.set_secret(CLIENT_ID, "another");
        let failure = pingone.failure().await?;
        assert_eq!((failure.reason, failure.hint), (Reason::CredentialRefused, RetryHint::Credential));
        assert!(failure.message.contains("invalid_client"), "{}", failure.message);
        assert_eq!(failure.pingone_code.as_deref(), Some("invalid_client"));
        assert!(!failure.message.contains(simulator::CLIENT_SECRET));
        assert!(pingone.client.check_credential().await.is_err());
        pingone.simulator.set_secret(CLIENT_ID, simulator::CLIENT_SECRET);
        assert_eq!(pingone.client.check_credential().await, Ok(()));
        assert!(pingone.unblock().await.outcome.is_ok());
        assert_eq!(pingone.simulator.counts().token_requests, 3, "the probe's token is used");
        assert_eq!(pingone.simulator.deviations(), []);
    }
    Ok(())
}

#[tokio::test]
async fn each_answer_of_the_token_endpoint_has_its_meaning() -> Tested {
    let wait = Duration::from_secs(7);
    let credential = (Reason::CredentialRefused, RetryHint::Credential);
    let unavailable = (Reason::Unavailable, RetryHint::Backoff);
    for (fault, meant) in [
        (Fault::status(400), credential),
        (Fault::status(401), credential),
        (Fault::status(403), credential),
        (Fault::status(404), credential),
        (Fault::Redirect { location: "http://127.0.0.1:9/".to_owned() }, credential),
        (Fault::html(200), credential),
        (Fault::NoBody { status: 200 }, credential),
        (Fault::TooLarge { chunked: false }, credential),
        (Fault::TooLarge { chunked: true }, credential),
        (Fault::unexpected_error(), unavailable),
        (Fault::status(408), unavailable),
        (Fault::status(500), unavailable),
        (Fault::html(502), unavailable),
        (Fault::ResetBefore, unavailable),
        (Fault::ResetMidBody, unavailable),
        (Fault::retry_after(503, RetryAfter::Seconds(7)), (Reason::Unavailable, RetryHint::After(wait))),
        (Fault::retry_after(429, RetryAfter::Seconds(7)), (Reason::RateLimited, RetryHint::Hold(Some(wait)))),
        (Fault::status(429), (Reason::RateLimited, RetryHint::Hold(None))),
    ] {
        let pingone = start().await?;
        pingone.simulator.plan(Plan::new([fault.clone()]).on(On::Token));
        let failure = pingone.failure().await?;
        assert_eq!((failure.reason, failure.hint), meant, "{fault:?}: {}", failure.message);
        assert!(failure.message.ends_with("nothing was sent"), "{}", failure.message);
        assert_eq!(pingone.simulator.counts().posts, 0);
        assert!(pingone.unblock().await.outcome.is_ok(), "{fault:?} is over");
    }
    Ok(())
}
