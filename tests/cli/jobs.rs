//! `job …` and `device get`: what they send, print, and how they end.

use std::io::pipe;

use pingone_unblock::proto::v1::{Attempt, GetDeviceResponse, Job, job::State};
use serde_json::Value;
use tonic::Status;

use crate::{
    harness::{DEVICE, ENVIRONMENT, JOB, Tested, USER, against, binary, device, failed, job, run, succeeded},
    server::{End, Fake, asked},
};

fn lines(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    text.lines().map(serde_json::from_str).collect()
}

#[tokio::test]
async fn a_job_is_shown_with_its_attempts() -> Tested {
    let server = Fake::start().await?;
    let failed = failed(4);
    let attempt = Attempt {
        number: 1,
        start_time: failed.create_time,
        duration: Some(prost_types::Duration { seconds: 0, nanos: 120_000_000 }),
        http_status: 404,
        error: failed.error.clone(),
        ..Attempt::default()
    };
    let shown = Job { attempts: vec![attempt], batch_id: "spring".to_owned(), ..failed };
    server.job(Ok(shown.clone()));
    let ended = against(&server.url, &["job", "get", JOB]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for word in [JOB, "FAILED", "1 of 10", "120ms", "404", "help-desk", "UPSTREAM_NOT_FOUND", "spring"] {
        assert!(ended.stdout.contains(word), "{word}\n{}", ended.stdout);
    }
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);

    server.job(Ok(shown));
    let ended = against(&server.url, &["job", "get", JOB, "--output", "json"]).await?;
    let printed = lines(&ended.stdout)?.remove(0);
    assert_eq!(
        (&printed["attempts"][0]["duration"], &printed["batchId"]),
        (&"0.120s".into(), &"spring".into())
    );
    Ok(())
}

#[tokio::test]
async fn a_list_goes_on_over_pages_up_to_its_limit_and_sends_every_filter() -> Tested {
    let server = Fake::start().await?;
    server.page(vec![succeeded(1), failed(1)], "two");
    server.page(vec![], "three");
    server.page(vec![succeeded(1), succeeded(1)], "four");
    let arguments = [
        &["job", "list", "--environment", ENVIRONMENT, "--user", USER, "--device", DEVICE][..],
        &["--batch", "spring"],
        &["--state", "failed", "--state", "expired", "--caller", "me", "--ticket", "INC1", "--limit", "3"],
        &["--created-after", "2026-01-02T03:04:05Z", "--created-before", "2026-01-03T03:04:05+01:00"],
        &["--output", "json"],
    ]
    .concat();
    let ended = against(&server.url, &arguments).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(lines(&ended.stdout)?.len(), 3);
    assert!(ended.stderr.contains("--limit"), "{}", ended.stderr);

    let sent = asked(&server.script.lists);
    let pages: Vec<_> = sent.iter().map(|page| (page.page_token.as_str(), page.page_size)).collect();
    assert_eq!(pages, [("", 3), ("two", 1), ("three", 1)]);
    let first = &sent[0];
    assert_eq!((first.user_id.as_str(), first.device_id.as_str()), (USER, DEVICE));
    assert_eq!(first.batch_id, "spring");
    assert_eq!(first.states, [i32::from(State::Failed), i32::from(State::Expired)]);
    assert_eq!((first.caller.as_str(), first.ticket.as_str()), ("me", "INC1"));
    assert_eq!(first.created_after.map(|at| at.seconds), Some(1_767_323_045));
    assert_eq!(first.created_before.map(|at| at.seconds), Some(1_767_405_845));
    Ok(())
}

#[tokio::test]
async fn tables_fit_the_columns_there_are() -> Tested {
    let server = Fake::start().await?;
    for columns in [30, 80, 160] {
        server.page(vec![succeeded(1), failed(1)], "");
        let arguments = ["job", "list", "--environment", ENVIRONMENT, "--server", &server.url];
        let ended = run(binary(&arguments).env("COLUMNS", columns.to_string())).await?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let widest = ended.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns), "{widest:?} of {columns}\n{}", ended.stdout);
        assert_eq!(ended.stdout.contains(JOB), columns >= 80, "{}", ended.stdout);
        assert_eq!(ended.stdout.contains(DEVICE), columns == 160, "{}", ended.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn a_list_that_nobody_reads_any_more_ends_quietly() -> Tested {
    let server = Fake::start().await?;
    for output in ["table", "json"] {
        server.page(vec![succeeded(1)], "");
        let (reader, writer) = pipe()?;
        drop(reader);
        let arguments =
            ["job", "list", "--environment", ENVIRONMENT, "--server", &server.url, "--output", output];
        let ended = run(binary(&arguments).stdout(writer)).await?;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    }
    server.watch(vec![failed(1)], End::Politely);
    let (reader, writer) = pipe()?;
    drop(reader);
    let ended = run(binary(&["job", "watch", JOB, "--server", &server.url]).stdout(writer)).await?;
    assert_eq!(ended.code, Some(1), "how the job ended outlives its reader");
    Ok(())
}

#[tokio::test]
async fn a_watch_prints_every_change_and_ends_as_the_job_does() -> Tested {
    let server = Fake::start().await?;
    server.watch(vec![job(State::Pending, 1), job(State::Running, 2), failed(3)], End::Politely);
    let ended = against(&server.url, &["job", "watch", JOB, "--output", "json"]).await?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let printed = lines(&ended.stdout)?;
    let states: Vec<_> = printed.iter().map(|job| job["state"].as_str().unwrap_or_default()).collect();
    assert_eq!(states, ["STATE_PENDING", "STATE_RUNNING", "STATE_FAILED"]);

    server.watch(vec![job(State::Cancelled, 3)], End::Politely);
    assert_eq!(against(&server.url, &["job", "watch", JOB]).await?.code, Some(1));
    server.watch(vec![succeeded(3)], End::Politely);
    assert_eq!(against(&server.url, &["job", "watch", JOB]).await?.code, Some(0));
    server.watch(vec![job(State::Running, 2)], End::Never);
    let ended = against(&server.url, &["job", "watch", JOB, "--timeout", "500ms"]).await?;
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn a_retry_asks_for_the_run_after_the_one_it_read() -> Tested {
    let server = Fake::start().await?;
    server.job(Ok(Job { run: 3, ..failed(9) }));
    server.job(Err(Status::unavailable("draining")));
    server.job(Ok(Job { run: 4, ..job(State::Pending, 10) }));
    let ended =
        against(&server.url, &["job", "retry", JOB, "--time-to-live", "7d", "--reason", "again"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let sent = asked(&server.script.retries);
    assert_eq!(sent.iter().map(|retry| retry.expected_run).collect::<Vec<_>>(), [3, 3]);
    assert_eq!(sent[0].time_to_live.map(|duration| duration.seconds), Some(604_800));

    server.job(Err(Status::unavailable("draining")));
    let ended = against(&server.url, &["job", "retry", JOB, "--expected-run", "0"]).await?;
    assert_eq!(ended.code, Some(3), "what is not safe to repeat is not repeated: {}", ended.stderr);
    assert_eq!(asked(&server.script.retries).len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_cancel_sends_its_reason() -> Tested {
    let server = Fake::start().await?;
    server.job(Ok(job(State::Cancelled, 2)));
    let ended = against(&server.url, &["job", "cancel", JOB, "--reason", "wrong user"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("CANCELLED"));
    assert_eq!(asked(&server.script.cancels)[0].reason, "wrong user");
    Ok(())
}

#[tokio::test]
async fn a_device_is_shown_and_printed() -> Tested {
    let server = Fake::start().await?;
    let known = GetDeviceResponse { device: Some(device("UNLOCKED", None)), job_id: JOB.to_owned() };
    server.device(known.clone());
    let ended = against(&server.url, &["device", "get", ENVIRONMENT, USER, DEVICE]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("UNBLOCKED") && ended.stdout.contains(JOB), "{}", ended.stdout);

    server.device(known);
    let ended =
        against(&server.url, &["--output", "json", "device", "get", ENVIRONMENT, USER, DEVICE]).await?;
    assert_eq!(lines(&ended.stdout)?[0]["device"]["blockStatus"], "UNBLOCKED");
    Ok(())
}
