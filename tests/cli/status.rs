//! `status`: whose problem it says it is, how it ends, and that it stays one screen.

mod fake;
mod watch;

use pingone_unblock::proto::v1::{Batch, Environment, ListEnvironmentsResponse, batch, environment::State};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::harness::{ENVIRONMENT, Tested, against, binary, run};
use fake::Fake;

const OTHER: &str = "6697f628-7712-4e71-b52b-920ba0635020";

/// As an owner publishes it now.
fn environment(id: &str, state: State, reason: &str) -> Environment {
    Environment {
        environment_id: id.to_owned(),
        state: state.into(),
        state_reason: reason.to_owned(),
        owner: "c0ffee".to_owned(),
        publish_time: Some(std::time::SystemTime::now().into()),
        effective_rate_limit: 20.0,
        max_in_flight: 32,
        ..Environment::default()
    }
}

fn busy(id: &str, state: State, reason: &str) -> Environment {
    Environment {
        pending_interactive: 3,
        pending_bulk: 12_345,
        in_flight: 7,
        current_rate: 12.0,
        oldest_pending_age: Some(prost_types::Duration { seconds: 125, nanos: 0 }),
        ..environment(id, state, reason)
    }
}

fn page(environments: Vec<Environment>) -> ListEnvironmentsResponse {
    ListEnvironmentsResponse { environments, ..ListEnvironmentsResponse::default() }
}

fn refused(code: Code, reason: &str) -> Status {
    Status::with_error_details(code, "No.", ErrorDetails::with_error_info(reason, "pingone-unblock", []))
}

#[tokio::test]
async fn the_first_line_says_whose_problem_it_is_and_the_exit_code_whether_it_is_one() -> Tested {
    let everything = ListEnvironmentsResponse {
        all_paused: true,
        all_paused_reason: "everything is paused by me".to_owned(),
        ..page(vec![environment(ENVIRONMENT, State::Paused, "everything is paused by me")])
    };
    let orphan = Environment { owner: String::new(), ..busy(ENVIRONMENT, State::Sending, "") };
    let late = Environment { pending_bulk: 0, ..busy(ENVIRONMENT, State::Sending, "") };
    let fast = Environment { current_rate: 19.5, ..busy(ENVIRONMENT, State::Sending, "") };
    let well = || environment(OTHER, State::Sending, "");
    let of = |state, reason| page(vec![well(), environment(ENVIRONMENT, state, reason)]);
    let rows = [
        (page(vec![well()]), 0, "all is well"),
        (page(vec![]), 0, "all is well; no environment has had a job yet"),
        (page(vec![fast, well()]), 0, "all is well; environment abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6 is at"),
        (
            page(vec![well(), orphan]),
            1,
            "us: environment abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6 has work and no",
        ),
        (of(State::CredentialRefused, "x"), 1, "PingOne refuses the credential of 1 environment; abfba8f6…:"),
        (of(State::Unreachable, "x"), 1, "PingOne: environment abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6 is"),
        (
            of(State::Throttled, "x"),
            1,
            "PingOne: environment abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6 is to wait",
        ),
        (of(State::Paused, "x"), 0, "an operator paused environment"),
        (everything, 0, "an operator: everything is paused by me"),
        (page(vec![late]), 1, "us: environment abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6 is late;"),
    ];
    let server = Fake::start().await?;
    for (page, code, verdict) in rows {
        server.standing().pages = vec![page];
        let ended = against(&server.url, &["status"]).await?;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), ""), "{}", ended.stdout);
        let first = ended.stdout.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("VERDICT   {verdict}")), "{verdict}\n{}", ended.stdout);
    }
    server.stop().await
}

#[tokio::test]
async fn what_keeps_the_server_from_answering_is_told_apart() -> Tested {
    let server = Fake::start().await?;
    let verdict = async |url: &str| -> Result<(Option<i32>, Value), Box<dyn std::error::Error>> {
        let ended = against(url, &["status", "--timeout", "500ms", "--output", "json"]).await?;
        let told: Value = serde_json::from_str(&ended.stdout)?;
        Ok((
            ended.code,
            json!([told["verdict"]["cause"], told["service"]["state"], told["postgres"]["state"]]),
        ))
    };
    let rows = [
        (
            refused(Code::Unavailable, "STORE_UNAVAILABLE"),
            json!(["POSTGRES_UNAVAILABLE", "SERVING", "UNAVAILABLE"]),
        ),
        (refused(Code::ResourceExhausted, "QUEUE_FULL"), json!(["NOT_SERVING", "REFUSES", "UNKNOWN"])),
        (refused(Code::Internal, "INTERNAL"), json!(["NOT_SERVING", "REFUSES", "UNKNOWN"])),
    ];
    for (status, expected) in rows {
        server.standing().refusal = Some(status);
        assert_eq!(verdict(&server.url).await?, (Some(1), expected));
    }
    server.standing().hangs = true;
    let expected = json!(["POSTGRES_UNAVAILABLE", "SERVING", "UNAVAILABLE"]);
    assert_eq!(verdict(&server.url).await?, (Some(1), expected), "what needs no database is answered");

    server.standing().hangs = false;
    server.standing().refusal = Some(refused(Code::PermissionDenied, "PERMISSION_MISSING"));
    let ended = against(&server.url, &["status"]).await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(4), ""));

    let any = "127.0.0.1:0".parse()?;
    let drains = Fake::at(any, ServingStatus::NotServing).await?;
    assert_eq!(verdict(&drains.url).await?, (Some(1), json!(["NOT_SERVING", "NOT_SERVING", "ANSWERS"])));
    drains.standing().refusal = Some(refused(Code::Unavailable, "STORE_UNAVAILABLE"));
    let expected = json!(["POSTGRES_UNAVAILABLE", "NOT_SERVING", "UNAVAILABLE"]);
    assert_eq!(verdict(&drains.url).await?, (Some(1), expected), "it does not serve for want of Postgres");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_or_does_not_answer_ends_with_its_own_code() -> Tested {
    // Connections are taken by the system; nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    for (address, says) in [
        (silent.local_addr()?, "does not answer within 500ms"),
        (gone, "does not answer: Connection refused"),
    ] {
        let ended = against(&format!("http://{address}"), &["status", "--timeout", "500ms"]).await?;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), ""), "{}", ended.stdout);
        let told = ended.stdout.replace("\n          ", " ");
        assert!(told.contains(&format!("us: the server at http://{address} {says}")), "{told}");
        assert!(told.contains("Postgres  unknown") && told.contains("PingOne   unknown"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn programs_get_one_object_with_what_is_known() -> Tested {
    let server = Fake::start().await?;
    let why = "PingOne fails since noon: 503";
    let stale = Environment {
        publish_time: Some(prost_types::Timestamp { seconds: 1_767_323_045, nanos: 0 }),
        in_flight: 0,
        current_rate: 0.0,
        ..busy(OTHER, State::Sending, "")
    };
    let other = Environment { owner: "beef".to_owned(), ..stale };
    server.standing().pages = vec![page(vec![busy(ENVIRONMENT, State::Unreachable, why)]), page(vec![other])];
    let batch = |environment: &str, state: batch::State| Batch {
        environment_id: environment.to_owned(),
        state: state.into(),
        ..Batch::default()
    };
    let states = [batch::State::Running, batch::State::Paused, batch::State::Done, batch::State::Uploading];
    server.standing().batches = states.map(|state| batch(ENVIRONMENT, state)).to_vec();
    server.standing().batches.push(batch(OTHER, batch::State::Running));
    let ended = against(&server.url, &["status", "--output", "json"]).await?;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(1), 1), "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout)?;
    assert_eq!(
        told["verdict"],
        json!({
            "cause": "PINGONE_UNREACHABLE", "whose": "PINGONE", "needsAttention": true,
            "sentence": format!("PingOne: environment {ENVIRONMENT} is unreachable; {why}"),
        })
    );
    assert_eq!(told["also"], json!([]));
    assert_eq!(
        told["queue"],
        json!({
            "pendingInteractive": 3, "pendingBulk": 12_345, "inFlight": 7, "currentRate": 12.0,
            "allowedRate": 20.0, "oldestPendingAge": "125.000s", "unknownEnvironments": 1,
        })
    );
    assert_eq!(
        told["batches"],
        json!({ "running": 2, "paused": 1, "uploading": 1, "cancelling": 0, "environments": 2 })
    );
    assert_eq!(
        told["pingone"],
        json!({
            "environments": 2, "sending": 1, "paused": 0, "throttled": 0, "unreachable": 1,
            "credentialRefused": 0, "other": 0, "everythingPaused": false,
        })
    );
    assert_eq!((&told["service"]["state"], &told["service"]["replicas"]), (&"SERVING".into(), &2.into()));
    assert_eq!(told["postgres"]["state"], "ANSWERS");
    let worst = told["environments"].as_array().ok_or("no environments")?;
    let ids: Vec<_> = worst.iter().map(|one| one["environmentId"].as_str()).collect();
    assert_eq!(ids, [Some(ENVIRONMENT), Some(OTHER)]);

    server.standing().batches_refused = true;
    let ended = against(&server.url, &["status", "--output", "json"]).await?;
    let told: Value = serde_json::from_str(&ended.stdout)?;
    assert_eq!((&told["batches"], &told["verdict"]["cause"]), (&Value::Null, &"PINGONE_UNREACHABLE".into()));
    server.stop().await
}

#[tokio::test]
async fn thousands_of_environments_stay_one_screen_whatever_its_width() -> Tested {
    let server = Fake::start().await?;
    let id = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
    let thousand = |page_number: usize| -> Vec<Environment> {
        (0..1000)
            .map(|i| busy(&id(page_number * 1000 + i), State::Unreachable, "fails; ".repeat(30).trim()))
            .collect()
    };
    server.standing().pages = (0..3).map(|number| page(thousand(number))).collect();
    for columns in [30, 80, 160] {
        let mut status = binary(&["status", "--server", &server.url]);
        let ended = run(status.env("COLUMNS", columns.to_string())).await?;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
        let (lines, told) = (ended.stdout.lines().count(), &ended.stdout);
        assert!(lines <= 24, "{lines} lines\n{told}");
        let widest = told.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns), "{widest:?} of {columns}\n{told}");
        if columns >= 80 {
            for words in [
                "3000 of 3000 environments are unreachable",
                "3000 unreachable",
                "9000 interactive, 37.0M bulk",
            ] {
                assert!(told.contains(words), "{words}\n{told}");
            }
            let shown = told.lines().filter(|line| line.starts_with("00000000-")).count();
            assert!(shown > 1 && told.contains(&format!("… and {} more", 3000 - shown)), "{told}");
            assert!(told.contains("in 200 of 3000 environments"), "{told}");
        }
    }
    assert_eq!(server.standing().batch_lists.len(), 3 * 200, "no more are asked for, however many there are");
    server.stop().await
}

#[tokio::test]
async fn foreign_words_can_not_steer_the_terminal() -> Tested {
    let server = Fake::start().await?;
    server.standing().pages = vec![page(vec![busy(ENVIRONMENT, State::Paused, "by \u{1b}[31mme\nVERDICT")])];
    let ended = against(&server.url, &["status"]).await?;
    assert!(
        !ended.stdout.contains('\u{1b}') && ended.stdout.matches("\nVERDICT").count() == 0,
        "{}",
        ended.stdout
    );
    server.stop().await
}
