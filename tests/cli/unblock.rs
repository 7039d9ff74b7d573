//! `unblock`: what it sends, shows and prints, and how it ends.

use std::time::Duration;

use pingone_unblock::proto::v1::{Job, Priority, job::State};
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    harness::{
        DEVICE, ENVIRONMENT, Ended, JOB, Tested, USER, against, binary, device, failed, job, run, succeeded,
    },
    server::{End, Fake, asked},
};

async fn unblock(server: &Fake, more: &[&str]) -> std::io::Result<Ended> {
    against(&server.url, &[&["unblock", ENVIRONMENT, USER, DEVICE], more].concat()).await
}

fn refused(code: Code, sentence: &str, reason: &str) -> Status {
    Status::with_error_details(code, sentence, ErrorDetails::with_error_info(reason, "pingone-unblock", []))
}

#[tokio::test]
async fn an_unblocked_device_is_printed_and_the_states_are_told() -> Tested {
    let server = Fake::start().await?;
    server.unblock(Ok(job(State::Pending, 1)));
    server.watch(vec![job(State::Pending, 1), job(State::Running, 2), succeeded(3)], End::Politely);
    let ended = unblock(&server, &["--reason", "lost", "--ticket", "INC1", "--priority", "bulk"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let states: Vec<_> = ["PENDING", "RUNNING", "SUCCEEDED"].map(|s| ended.stderr.matches(s).count()).into();
    assert_eq!(states, [1, 1, 1], "{}", ended.stderr);
    for word in [DEVICE, "SMS", "ACTIVE", "UNBLOCKED", "UNLOCKED"] {
        assert!(ended.stdout.contains(word), "{word}\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains('\u{1b}'), "neither colours nor what PingOne's users write may steer");
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);

    let sent = asked(&server.script.unblocks).remove(0).1;
    assert!(ended.stderr.contains(&format!("--request-id {}", sent.request_id)));
    assert_eq!((sent.reason.as_str(), sent.ticket.as_str()), ("lost", "INC1"));
    assert_eq!(sent.priority(), Priority::Bulk);
    assert_eq!(sent.wait, Some(prost_types::Duration::default()));
    Ok(())
}

#[tokio::test]
async fn programs_get_one_object() -> Tested {
    let server = Fake::start().await?;
    server.unblock(Ok(succeeded(3)));
    let ended = unblock(&server, &["--output", "json"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let printed: Value = serde_json::from_str(&ended.stdout)?;
    assert_eq!(printed["state"], "STATE_SUCCEEDED");
    assert_eq!(printed["device"]["ref"]["deviceId"], DEVICE);
    assert_eq!(printed["createTime"], "2026-01-02T03:04:05Z");
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_still_locked_is_said_to_be() -> Tested {
    let server = Fake::start().await?;
    server.unblock(Ok(Job { device: Some(device("LOCKED", Some(4_000_000_000))), ..succeeded(3) }));
    let ended = unblock(&server, &[]).await?;
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("unblocked but still locked until 2096-10-02 07:06:40 UTC"),
        "{}",
        ended.stderr
    );
    Ok(())
}

#[tokio::test]
async fn a_failed_job_says_why_and_what_to_do() -> Tested {
    let server = Fake::start().await?;
    server.unblock(Ok(failed(2)));
    let ended = unblock(&server, &[]).await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    for word in ["PingOne knows no such device.", "UPSTREAM_NOT_FOUND", "404", "c0ffee", "next"] {
        assert!(ended.stderr.contains(word), "{word}\n{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn time_running_out_leaves_the_job_and_says_how_to_look_again() -> Tested {
    let server = Fake::start().await?;
    server.unblock(Ok(job(State::Pending, 1)));
    server.watch(vec![job(State::Pending, 1)], End::Never);
    let ended = unblock(&server, &["--timeout", "500ms"]).await?;
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("pingone-unblock job watch {JOB}")), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn a_broken_watch_is_opened_again() -> Tested {
    let server = Fake::start().await?;
    server.unblock(Ok(job(State::Pending, 1)));
    server.watch(vec![job(State::Running, 2)], End::With(Status::unavailable("draining")));
    server.watch(vec![job(State::Pending, 1)], End::Politely);
    server.watch(vec![succeeded(3)], End::Politely);
    let ended = unblock(&server, &[]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("PENDING").count(), 1, "an older view is not news: {}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn what_the_server_asks_to_repeat_is_repeated_with_the_same_request_id_and_not_earlier() -> Tested {
    let wait = Duration::from_millis(700);
    let server = Fake::start().await?;
    for code in [Code::Unavailable, Code::ResourceExhausted] {
        let details = ErrorDetails::with_retry_info(Some(wait));
        server.unblock(Err(Status::with_error_details(code, "Not now.", details)));
    }
    server.unblock(Ok(succeeded(3)));
    let started = std::time::Instant::now();
    let ended = unblock(&server, &[]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(started.elapsed() >= 2 * wait);
    let ids: Vec<_> =
        asked(&server.script.unblocks).into_iter().map(|(_, request)| request.request_id).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 36), "{ids:?}");
    Ok(())
}

#[tokio::test]
async fn each_refusal_has_its_exit_code_and_tells_all_it_knows() -> Tested {
    let server = Fake::start().await?;
    let mut details = ErrorDetails::with_error_info("FIELD_INVALID", "pingone-unblock", []);
    details.add_bad_request_violation("reason", "is longer than 500 characters");
    details.add_bad_request_violation("ticket", "is longer than 100 characters");
    server.unblock(Err(Status::with_error_details(Code::InvalidArgument, "Two fields are wrong.", details)));
    let ended = unblock(&server, &[]).await?;
    assert_eq!(ended.code, Some(2));
    for word in ["Two fields are wrong.", "FIELD_INVALID", "reason: is longer than 500", "ticket: is longer"]
    {
        assert!(ended.stderr.contains(word), "{word}\n{}", ended.stderr);
    }

    let cases = [
        (Code::PermissionDenied, "PERMISSION_MISSING", 4),
        (Code::Unauthenticated, "CREDENTIALS_MISSING", 4),
        (Code::FailedPrecondition, "ENVIRONMENT_NOT_SERVED", 1),
        (Code::ResourceExhausted, "DEVICE_QUOTA_EXCEEDED", 1),
        (Code::Internal, "INTERNAL", 1),
    ];
    for (code, reason, exit) in cases {
        server.unblock(Err(refused(code, "Refused.", reason)));
        let ended = unblock(&server, &[]).await?;
        assert_eq!(ended.code, Some(exit), "{reason}");
        assert!(ended.stderr.contains(reason), "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_or_stays_unavailable_is_not_reachable() -> Tested {
    let free = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let ended = against(&format!("http://{free}"), &["unblock", ENVIRONMENT, USER, DEVICE]).await?;
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("can not connect to"), "{}", ended.stderr);

    let server = Fake::start().await?;
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(60)));
    server.unblock(Err(Status::with_error_details(Code::Unavailable, "The store is away.", details)));
    let ended = unblock(&server, &["--timeout", "5s"]).await?;
    assert_eq!(ended.code, Some(3));
    assert!(ended.stderr.contains("try again in 1m"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn wrong_arguments_are_named_and_nothing_is_sent() -> Tested {
    let server = Fake::start().await?;
    let wrong: [(&[&str], &str); 4] = [
        (&["unblock", "abc", USER, DEVICE], "<ENV>"),
        (&["unblock", ENVIRONMENT, USER, "abc"], "[DEVICE]"),
        (&["unblock", ENVIRONMENT, USER, DEVICE, "--timeout", "soon"], "--timeout"),
        (&["unblock", ENVIRONMENT, USER, DEVICE, "--ca", "ca.pem"], "https"),
    ];
    for (arguments, named) in wrong {
        let ended = against(&server.url, arguments).await?;
        assert_eq!(ended.code, Some(2), "{arguments:?}");
        assert!(ended.stderr.contains(named), "{named}\n{}", ended.stderr);
    }
    assert!(asked(&server.script.unblocks).is_empty());
    Ok(())
}

#[tokio::test]
async fn no_wait_and_validate_only_end_at_once() -> Tested {
    let server = Fake::start().await?;
    server.unblock(Ok(job(State::Pending, 1)));
    let ended = unblock(&server, &["--no-wait", "--request-id", "mine"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains(JOB) && ended.stdout.contains("PENDING"), "{}", ended.stdout);
    assert_eq!(asked(&server.script.unblocks)[0].1.request_id, "mine");

    server.nothing_recorded();
    let ended = unblock(&server, &["--validate-only"]).await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert!(asked(&server.script.unblocks)[1].1.validate_only);
    Ok(())
}

#[tokio::test]
async fn the_token_comes_from_a_file_or_the_variable() -> Tested {
    let server = Fake::start().await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "from-file\n")?;
    let path = file.path().to_str().ok_or("a path in UTF-8")?;
    server.unblock(Ok(succeeded(1)));
    server.unblock(Ok(succeeded(1)));
    let arguments = ["unblock", ENVIRONMENT, USER, DEVICE, "--server", &server.url];
    run(binary(&arguments).env("UNBLOCK_TOKEN", "from-variable")).await?;
    run(&mut binary(&[&arguments[..], &["--token-file", path]].concat())).await?;
    let sent: Vec<_> = asked(&server.script.unblocks)
        .iter()
        .map(|(metadata, _)| {
            metadata.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned)
        })
        .collect();
    assert_eq!(sent, [Some("Bearer from-variable".to_owned()), Some("Bearer from-file".to_owned())]);

    let ended = run(binary(&arguments).env("UNBLOCK_TOKEN", " ")).await?;
    assert_eq!(ended.code, Some(2));
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_leaves_the_job_and_says_how_to_look_again() -> Tested {
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

    let server = Fake::start().await?;
    server.unblock(Ok(job(State::Pending, 1)));
    server.watch(vec![job(State::Running, 2)], End::Never);
    let mut child = binary(&["unblock", ENVIRONMENT, USER, DEVICE, "--server", &server.url]).spawn()?;
    let mut stderr = BufReader::new(child.stderr.take().ok_or("stderr is piped")?);
    let mut line = String::new();
    while !line.contains("RUNNING") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).await?, 0, "it ended before it was interrupted");
    }
    let pid =
        child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).ok_or("still running")?;
    kill_process(pid, Signal::INT)?;
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).await?;
    let ended = child.wait().await?;
    assert_eq!(ended.code(), Some(130), "{ended:?} {rest}");
    assert!(rest.contains("the job goes on"), "{rest}");
    assert!(rest.contains(&format!("pingone-unblock job watch {JOB} --server {}", server.url)), "{rest}");
    Ok(())
}
