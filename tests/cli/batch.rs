//! `batch …`: what they send, print, and how they end.

use pingone_unblock::proto::v1::batch::State;
use serde_json::Value;

use crate::{
    batches::Batches,
    bulk_file::{Folder, row},
    harness::{DEVICE, ENVIRONMENT, Tested, USER, against},
};

/// A server with the batch `spring`, of one good and one failed row.
async fn spring() -> Result<(Batches, Folder), std::io::Error> {
    let server = Batches::start().await?;
    let folder = Folder::with([row("1"), row("fail")])?;
    let ended = folder.bulk(&server.url, &["--detach", "--batch-id", "spring", "--ticket", "INC1"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Ok((server, folder))
}

#[tokio::test]
async fn a_batch_is_shown_and_listed() -> Tested {
    let (server, _folder) = spring().await?;
    let ended = against(&server.url, &["batch", "get", ENVIRONMENT, "spring"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for word in ["spring", "DONE", ENVIRONMENT, "INC1"] {
        assert!(ended.stdout.contains(word), "{word}\n{}", ended.stdout);
    }
    let arguments = ["batch", "list", ENVIRONMENT, "--state", "done", "--caller", "me", "--ticket", "INC1"];
    let ended = against(&server.url, &[&arguments[..], &["--output", "json"]].concat()).await?;
    let printed: Value = serde_json::from_str(ended.stdout.trim())?;
    assert_eq!((&printed["batchId"], &printed["failedCount"]), (&"spring".into(), &1.into()));
    let sent = server.kept().lists.remove(0);
    assert_eq!((sent.states.as_slice(), sent.caller.as_str()), (&[i32::from(State::Done)][..], "me"));
    let ended = against(&server.url, &["batch", "list", ENVIRONMENT]).await?;
    assert!(ended.stdout.contains("spring") && ended.stdout.contains("DONE"), "{}", ended.stdout);

    let ended = against(&server.url, &["batch", "get", ENVIRONMENT, "summer"]).await?;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("batch list"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn a_watch_ends_as_the_batch_does() -> Tested {
    let (server, _folder) = spring().await?;
    let watch = ["batch", "watch", ENVIRONMENT, "spring"];
    let ended = against(&server.url, &[&watch[..], &["--output", "json"]].concat()).await?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let states: Vec<Value> = ended.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let states: Vec<_> = states.iter().map(|batch| batch["state"].as_str().unwrap_or_default()).collect();
    assert_eq!(states, ["STATE_RUNNING", "STATE_DONE"]);
    assert!(ended.stderr.contains("1 row was not unblocked"), "{}", ended.stderr);

    server.kept().watches_hang = true;
    let ended = against(&server.url, &[&watch[..], &["--timeout", "300ms"]].concat()).await?;
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    let again = format!("pingone-unblock batch watch {ENVIRONMENT} spring");
    assert!(ended.stderr.contains(&again), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn results_go_to_stdout_or_a_file_as_csv_or_json() -> Tested {
    let (server, folder) = spring().await?;
    let results = ["batch", "results", ENVIRONMENT, "spring"];
    server.kept().results_break = Some(1);
    let ended = against(&server.url, &results).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "once each, over the break: {}", ended.stdout);
    assert!(
        lines[2]
            .starts_with(&format!("{ENVIRONMENT},{USER},{DEVICE},fail,failed,UPSTREAM_NOT_FOUND,PingOne"))
    );

    let more = ["--failures-only", "--follow", "--output", "json"];
    let ended = against(&server.url, &[&results[..], &more].concat()).await?;
    let printed: Value = serde_json::from_str(ended.stdout.trim())?;
    assert_eq!((&printed["outcome"], &printed["offset"]), (&"OUTCOME_FAILED".into(), &1.into()));
    let asked = server.kept().results.last().cloned().unwrap_or_default();
    assert!(asked.failures_only && asked.follow);

    let more = ["--from-offset", "1", "--out", "r.csv"];
    let ended = folder.run(&server.url, &[&results[..], &more].concat(), b"").await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    assert_eq!(folder.read("r.csv")?.lines().count(), 2);
    Ok(())
}

#[tokio::test]
async fn batches_are_steered_with_reason_and_ticket() -> Tested {
    let (server, _folder) = spring().await?;
    for verb in ["pause", "resume", "cancel", "retry"] {
        let arguments = ["batch", verb, ENVIRONMENT, "spring", "--reason", "why", "--ticket", "INC2"];
        let ended = against(&server.url, &arguments).await?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("spring"), "{}", ended.stdout);
        assert_eq!(server.kept().steered.pop(), Some((verb, "why".to_owned(), "INC2".to_owned())));
    }
    let ended = against(&server.url, &["batch", "pause", ENVIRONMENT, ""]).await?;
    assert_eq!(ended.code, Some(2));
    Ok(())
}
