//! `env …`: what it sends, prints, and how it ends.

use pingone_unblock::proto::v1::{Environment, ListEnvironmentsResponse, environment::State};
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    harness::{ENVIRONMENT, Tested, against, binary, run},
    server::{Fake, asked},
};

const OTHER: &str = "6697f628-7712-4e71-b52b-920ba0635020";

fn environment(id: &str, state: State, reason: &str) -> Environment {
    Environment {
        environment_id: id.to_owned(),
        state: state.into(),
        state_reason: reason.to_owned(),
        rate_limit: 20.0,
        effective_rate_limit: 14.0,
        current_rate: 13.5,
        in_flight: 31,
        max_in_flight: 32,
        pending_interactive: 212,
        pending_bulk: 98_765,
        oldest_pending_age: Some(prost_types::Duration { seconds: 125, nanos: 7 }),
        publish_time: Some(prost_types::Timestamp { seconds: 1_767_323_045, nanos: 0 }),
        ..Environment::default()
    }
}

fn page(environments: Vec<Environment>, next_page_token: &str) -> ListEnvironmentsResponse {
    ListEnvironmentsResponse {
        environments,
        next_page_token: next_page_token.to_owned(),
        ..ListEnvironmentsResponse::default()
    }
}

fn troubled() -> Vec<Environment> {
    let why = "PingOne refuses the credential: invalid_client; tried again at 2026-01-02T03:05:05Z";
    let never_worked = Environment {
        environment_id: OTHER.to_owned(),
        state: State::Sending.into(),
        ..Environment::default()
    };
    vec![environment(ENVIRONMENT, State::CredentialRefused, why), never_worked]
}

#[tokio::test]
async fn the_list_fits_the_terminal_and_says_why_nothing_is_sent() -> Tested {
    let server = Fake::start().await?;
    for columns in [30, 80, 160] {
        server.environments(page(troubled(), ""));
        let arguments = ["env", "list", "--server", &server.url];
        let ended = run(binary(&arguments).env("COLUMNS", columns.to_string())).await?;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let widest = ended.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns), "{widest:?} of {columns}\n{}", ended.stdout);
        assert_eq!(ended.stdout.contains(ENVIRONMENT), columns >= 80, "{}", ended.stdout);
        if columns >= 80 {
            for word in ["14/14", "31/32", "212+98k", "2m 5s", "invalid_client", OTHER, "SENDING"] {
                assert!(ended.stdout.contains(word), "{word}\n{}", ended.stdout);
            }
            assert_eq!(ended.stdout.contains("CREDENTIAL REFUSED"), columns == 160, "{}", ended.stdout);
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_list_goes_on_over_pages_and_gives_programs_one_object_a_line() -> Tested {
    let server = Fake::start().await?;
    server.environments(page(troubled(), "two"));
    server.environments(page(vec![environment(OTHER, State::Throttled, "wait")], ""));
    let ended = against(&server.url, &["env", "list", "--output", "json"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let printed: Vec<Value> = ended.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(printed.len(), 3);
    assert_eq!(printed[0]["state"], "STATE_CREDENTIAL_REFUSED");
    assert_eq!((&printed[0]["currentRate"], &printed[0]["rateLimit"]), (&13.5.into(), &20.into()));
    assert_eq!(printed[0]["oldestPendingAge"], "125.000000007s");
    assert_eq!(printed[1], serde_json::json!({ "environmentId": OTHER, "state": "STATE_SENDING" }));
    let sent = asked(&server.script.environment_lists);
    assert_eq!(sent.iter().map(|list| list.page_token.as_str()).collect::<Vec<_>>(), ["", "two"]);
    Ok(())
}

#[tokio::test]
async fn that_everything_is_paused_is_said_plainly() -> Tested {
    let server = Fake::start().await?;
    for output in ["table", "json"] {
        let why = "everything is paused by serve --hold since 2026-01-02T03:04:05Z: a backup";
        let paused = ListEnvironmentsResponse {
            all_paused: true,
            all_paused_reason: why.to_owned(),
            ..page(vec![environment(ENVIRONMENT, State::Paused, why)], "")
        };
        server.environments(paused);
        let ended = against(&server.url, &["env", "list", "--output", output]).await?;
        assert_eq!(ended.code, Some(0));
        assert!(ended.stderr.contains(why) && ended.stderr.contains("env resume --all"), "{}", ended.stderr);
        assert!(ended.stdout.contains(ENVIRONMENT), "{}", ended.stdout);
    }
    server.environments(page(vec![], ""));
    let ended = against(&server.url, &["env", "list"]).await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert!(ended.stderr.contains("no environment"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn one_or_everything_is_paused_with_a_reason_and_resumed() -> Tested {
    let server = Fake::start().await?;
    for (target, id) in [(ENVIRONMENT, ENVIRONMENT), ("--all", "")] {
        // What is safe to repeat is repeated.
        server.environment(Err(Status::unavailable("draining")));
        server.environment(Ok(environment(id, State::Paused, "paused by me: roles")));
        let ended = against(&server.url, &["env", "pause", target, "--reason", "roles"]).await?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("PAUSED") && ended.stdout.contains("roles"), "{}", ended.stdout);
        assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);

        server.environment(Ok(environment(id, State::Sending, "")));
        let ended = against(&server.url, &["env", "resume", target, "--output", "json"]).await?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(serde_json::from_str::<Value>(&ended.stdout)?["state"], "STATE_SENDING");
    }
    let sent: Vec<_> =
        asked(&server.script.pauses).into_iter().map(|p| (p.environment_id, p.reason)).collect();
    let roles = |id: &str| (id.to_owned(), "roles".to_owned());
    assert_eq!(sent, [roles(ENVIRONMENT), roles(ENVIRONMENT), roles(""), roles("")]);
    let sent: Vec<_> = asked(&server.script.resumes).into_iter().map(|r| r.environment_id).collect();
    assert_eq!(sent, [ENVIRONMENT, ""]);

    server.environment(Ok(environment(ENVIRONMENT, State::Paused, "everything is paused by me")));
    let ended = against(&server.url, &["env", "resume", ENVIRONMENT]).await?;
    assert!(ended.stderr.contains("env resume --all"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn what_is_meant_must_be_said_exactly() -> Tested {
    let server = Fake::start().await?;
    let wrong: [&[&str]; 6] = [
        &["env", "pause", "--reason", "x"],
        &["env", "pause", ENVIRONMENT, "--all", "--reason", "x"],
        &["env", "pause", "--all"],
        &["env", "pause", "prod", "--reason", "x"],
        &["env", "resume"],
        &["env", "resume", ENVIRONMENT, "--all"],
    ];
    for arguments in wrong {
        assert_eq!(against(&server.url, arguments).await?.code, Some(2), "{arguments:?}");
    }
    assert!(asked(&server.script.pauses).is_empty() && asked(&server.script.resumes).is_empty());

    let details = ErrorDetails::with_error_info("ENVIRONMENT_NOT_SERVED", "pingone-unblock", []);
    server.environment(Err(Status::with_error_details(Code::FailedPrecondition, "Not here.", details)));
    let ended = against(&server.url, &["env", "pause", OTHER, "--reason", "x"]).await?;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("ENVIRONMENT_NOT_SERVED"), "{}", ended.stderr);
    Ok(())
}
