//! `bulk`: what it sends, goes on with, writes down, and how it ends.

use std::io::pipe;

use serde_json::Value;
use tonic::Status;

use crate::{
    batches::{Batches, Fault, full},
    bulk_file::{Folder, HEADER, OTHER, row, rows},
    harness::{DEVICE, ENVIRONMENT, Tested, USER, binary, run},
};

#[tokio::test]
async fn every_row_is_sent_and_written_down() -> Tested {
    let server = Batches::start().await?;
    let folder = Folder::with(rows(2500))?;
    let ended = folder.bulk(&server.url, &["--reason", "outage", "--ticket", "INC1"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let batch = server.only();
    assert_eq!((batch.targets.len(), batch.sealed), (2500, true));
    assert_eq!((batch.header.reason.as_str(), batch.header.ticket.as_str()), ("outage", "INC1"));
    assert!(batch.header.batch_id.starts_with("users-"), "{}", batch.header.batch_id);
    assert_eq!(server.kept().streams, [[(0, 1000), (1000, 1000), (2000, 500)]]);

    let results = folder.read("users.results.csv")?;
    let lines: Vec<_> = results.lines().collect();
    assert_eq!(lines.len(), 2501);
    assert!(lines[0].starts_with(&format!("{HEADER},result,reason,message,job_id")), "{}", lines[0]);
    assert!(
        lines[2500].starts_with(&format!("{ENVIRONMENT},{USER},{DEVICE},2499,unblocked,,")),
        "{}",
        lines[2500]
    );
    assert_eq!(folder.names()?, ["users.csv", "users.results.csv"], "nothing half done is left");
    assert!(ended.stdout.contains("DONE") && ended.stdout.contains("2500"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test]
async fn a_repeat_gives_the_same_results_and_sends_nothing() -> Tested {
    let server = Batches::start().await?;
    let folder = Folder::with(rows(3))?;
    assert_eq!(folder.bulk(&server.url, &[]).await?.code, Some(0));
    let first = folder.read("users.results.csv")?;
    std::fs::remove_file(folder.path("users.results.csv"))?;
    assert_eq!(folder.bulk(&server.url, &[]).await?.code, Some(0));
    assert_eq!(folder.read("users.results.csv")?, first);
    assert_eq!(server.kept().streams, [vec![(0, 3)], vec![]]);

    // Another option is another batch.
    assert_eq!(folder.bulk(&server.url, &["--ticket", "INC2"]).await?.code, Some(0));
    assert_eq!(server.kept().batches.len(), 2);
    // The results can be sent again.
    let ended = folder.run(&server.url, &["bulk", "users.results.csv", "--yes", "--detach"], b"").await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(server.kept().batches.len(), 3);
    Ok(())
}

#[tokio::test]
async fn rows_are_written_down_although_nobody_reads_what_is_printed() -> Tested {
    for output in ["table", "json"] {
        let server = Batches::start().await?;
        let folder = Folder::with(rows(3))?;
        let (reader, writer) = pipe()?;
        drop(reader);
        let mut command = binary(&["bulk", "users.csv", "--yes", "--output", output]);
        command.env("UNBLOCK_SERVER", &server.url).current_dir(folder.path("")).stdout(writer);
        let ended = run(&mut command).await?;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(folder.read("users.results.csv")?.lines().count(), 4, "{output}");
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_it_was() -> Tested {
    let server = Batches::start().await?;
    let faults = [
        Fault::Refused(Status::unavailable("draining")),
        Fault::BreaksAfter(4),
        Fault::Refused(full()),
        Fault::BreaksAfter(1),
    ];
    server.kept().faults.extend(faults);
    let folder = Folder::with(rows(12_300))?;
    let ended = folder.bulk(&server.url, &["--output", "json"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let references: Vec<_> =
        server.only().targets.into_iter().map(|target| target.client_reference).collect();
    let expected: Vec<_> = (0..12_300).map(|at: i32| at.to_string()).collect();
    assert!(references == expected, "every row once, in order");
    let kept = server.kept();
    let begins: Vec<_> = kept.streams.iter().map(|stream| stream[0]).collect();
    assert_eq!(begins, [(0, 1000), (4000, 1000), (5000, 1000)], "what is durable is not sent again");
    Ok(())
}

#[tokio::test]
async fn a_run_that_died_is_gone_on_with_by_the_same_command() -> Tested {
    let server = Batches::start().await?;
    let died =
        [Fault::BreaksAfter(3), Fault::Refused(Status::permission_denied("The token is of yesterday."))];
    server.kept().faults.extend(died);
    let folder = Folder::with(rows(5000))?;
    assert_eq!(folder.bulk(&server.url, &[]).await?.code, Some(4));
    assert_eq!(server.only().targets.len(), 3000);
    let ended = folder.bulk(&server.url, &[]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(server.kept().streams[1], [(3000, 1000), (4000, 1000)]);
    let results = folder.read("users.results.csv")?;
    assert!(results.lines().last().is_some_and(|line| line.contains(",4999,unblocked,")));
    Ok(())
}

#[tokio::test]
async fn only_a_few_messages_are_on_their_way() -> Tested {
    let server = Batches::start().await?;
    server.kept().faults.push_back(Fault::Waits);
    let folder = Folder::with(rows(20_000))?;
    let ended = folder.bulk(&server.url, &[]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(server.kept().most_unacknowledged, 8);
    assert_eq!(server.only().targets.len(), 20_000);
    Ok(())
}

#[tokio::test]
async fn several_environments_become_several_batches_and_one_file_of_results() -> Tested {
    let server = Batches::start().await?;
    let other = |reference: &str| format!("{OTHER},{USER},,{reference}");
    let folder = Folder::with([row("1"), other("two"), row("fail"), row("twice"), other("none")])?;
    server.kept().results_break = Some(1);
    let ended = folder.bulk(&server.url, &["--batch-id", "spring"]).await?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let ids: Vec<_> = server.kept().batches.keys().map(|(_, id)| id.clone()).collect();
    assert_eq!(ids, ["spring-abfba8f6", "spring-bbfba8f6"]);
    let results = folder.read("users.results.csv")?;
    let cells: Vec<Vec<&str>> = results.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let short: Vec<_> =
        cells.iter().map(|cells| [&cells[0][..1], cells[2], cells[3], cells[4], cells[5]]).collect();
    assert_eq!(
        short,
        [
            ["a", DEVICE, "1", "unblocked", ""],
            ["b", "device 1", "two", "unblocked", ""],
            ["b", "device 2", "two", "unblocked", ""],
            ["a", DEVICE, "fail", "failed", "UPSTREAM_NOT_FOUND"],
            ["a", DEVICE, "twice", "duplicate", ""],
            ["b", "", "none", "none_blocked", ""],
        ]
    );
    assert!(ended.stderr.contains("2 rows were not unblocked"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("batch retry {ENVIRONMENT} spring-abfba8f6")), "{}", ended.stderr);

    let ended = folder.bulk(&server.url, &["--batch-id", "spring", "--failures-only", "--out", "-"]).await?;
    assert_eq!((ended.code, ended.stdout.lines().count()), (Some(1), 3), "{}", ended.stdout);
    Ok(())
}

#[tokio::test]
async fn more_environments_than_a_connection_has_streams_are_no_trouble() -> Tested {
    let server = Batches::start().await?;
    let of = |at: usize| format!("{:08x}{},{USER},,{at}", at % 40, &ENVIRONMENT[8..]);
    let folder = Folder::with((0..120).map(of))?;
    let ended = folder.bulk(&server.url, &[]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(server.kept().batches.len(), 40);
    let results = folder.read("users.results.csv")?;
    let references: Vec<_> = results.lines().skip(1).filter_map(|line| line.split(',').nth(3)).collect();
    let expected: Vec<_> = (0..120).map(|at: usize| at.to_string()).collect();
    assert_eq!(references, expected);
    Ok(())
}

#[tokio::test]
async fn programs_get_an_object_a_line() -> Tested {
    let server = Batches::start().await?;
    let folder = Folder::with([row("1"), row("fail")])?;
    let ended = folder.bulk(&server.url, &["--output", "json"]).await?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let printed: Vec<Value> = ended.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let kinds: Vec<_> = printed.iter().filter_map(|one| one.as_object()?.keys().next().cloned()).collect();
    assert_eq!(kinds, ["preview", "upload", "upload", "batch", "batch", "results"]);
    assert_eq!(printed[0]["preview"]["batches"][0]["rowCount"], 2);
    assert_eq!(printed[2]["upload"]["nextOffset"], 2);
    assert_eq!(printed[3]["batch"]["waitingFor"], "a token");
    assert_eq!(printed[4]["batch"]["state"], "STATE_DONE");
    assert_eq!(printed[5]["results"]["notUnblockedCount"], 1);
    Ok(())
}

#[tokio::test]
async fn a_detached_run_ends_with_the_upload_and_says_how_to_look() -> Tested {
    let server = Batches::start().await?;
    server.kept().watches_hang = true;
    let folder = Folder::with(rows(2))?;
    let ended = folder.bulk(&server.url, &["--detach", "--batch-id", "spring break"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for verb in ["watch", "results"] {
        let command = format!("pingone-unblock batch {verb} {ENVIRONMENT} 'spring break'");
        assert!(ended.stderr.contains(&command), "{command}\n{}", ended.stderr);
    }
    assert!(server.only().sealed);
    assert_eq!(folder.names()?, ["users.csv"]);
    Ok(())
}

#[tokio::test]
async fn a_batch_that_paused_by_itself_is_left_with_the_commands_to_go_on() -> Tested {
    let server = Batches::start().await?;
    server.kept().paused = Some("The trial of 1 row is done.".to_owned());
    let folder = Folder::with(rows(2))?;
    let ended = folder.bulk(&server.url, &["--canary", "1", "--batch-id", "spring"]).await?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for words in [
        "The trial of 1 row is done.",
        &format!("pingone-unblock batch results {ENVIRONMENT} spring"),
        &format!("pingone-unblock batch resume {ENVIRONMENT} spring"),
        "pingone-unblock bulk users.csv --yes --canary 1 --batch-id spring",
    ] {
        assert!(ended.stderr.contains(words), "{words}\n{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn another_file_under_the_same_id_is_refused() -> Tested {
    let server = Batches::start().await?;
    let folder = Folder::with(rows(2))?;
    assert_eq!(folder.bulk(&server.url, &["--batch-id", "spring"]).await?.code, Some(0));
    let folder = Folder::with(rows(3))?;
    let ended = folder.bulk(&server.url, &["--batch-id", "spring"]).await?;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("made from another file"), "{}", ended.stderr);
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupt_leaves_the_batch_and_says_the_command_again() -> Tested {
    use crate::harness::binary;
    use rustix::process::{Pid, Signal, kill_process};
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

    let server = Batches::start().await?;
    server.kept().watches_hang = true;
    let folder = Folder::with(rows(2))?;
    let file = folder.path("users.csv");
    let file = file.to_str().ok_or("a path in UTF-8")?;
    let mut child = binary(&["bulk", file, "--yes", "--reason", "it's urgent"])
        .env("UNBLOCK_SERVER", &server.url)
        .spawn()?;
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
    assert_eq!(child.wait().await?.code(), Some(130), "{rest}");
    let command = format!(r"pingone-unblock bulk {file} --yes --reason 'it'\''s urgent'");
    assert!(rest.contains(&command), "{command}\n{rest}");
    assert!(rest.contains("goes on"), "{rest}");
    Ok(())
}
