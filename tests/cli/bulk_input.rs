//! `bulk` before anything is sent: the file, the preview, the question.

use pingone_unblock::proto::v1::{Environment, ListEnvironmentsResponse};

use crate::{
    batches::Batches,
    bulk_file::{Folder, OTHER, row, rows},
    harness::{ENVIRONMENT, Tested, USER},
    server::Fake,
};

#[tokio::test]
async fn bad_lines_are_told_and_nothing_is_sent_unless_they_may_be_left_out() -> Tested {
    let server = Batches::start().await?;
    let folder = Folder::with((0..150).map(|_| format!("{ENVIRONMENT},abc,,")).chain([row("good")]))?;
    let ended = folder.bulk(&server.url, &[]).await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    let told = ended.stderr.matches("user_id: \"abc\" is not a UUID such as").count();
    assert_eq!(told, 100);
    for words in ["line 2, user_id:", "… and 50 more", "users.errors.csv", "--skip-invalid"] {
        assert!(ended.stderr.contains(words), "{words}\n{}", ended.stderr);
    }
    assert_eq!(folder.read("users.errors.csv")?.lines().count(), 151);
    assert!(server.kept().streams.is_empty());

    let ended = folder.bulk(&server.url, &["--skip-invalid"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("150 bad lines"), "{}", ended.stderr);
    assert_eq!(server.only().targets.len(), 1);
    Ok(())
}

#[tokio::test]
async fn nothing_is_sent_without_a_yes() -> Tested {
    let server = Batches::start().await?;
    let folder = Folder::with(rows(2))?;
    let ended = folder.run(&server.url, &["bulk", "users.csv"], b"2\n").await?;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("add --yes"), "{}", ended.stderr);

    let ended = folder.run(&server.url, &["bulk", "users.csv", "--dry-run"], b"").await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for words in ["users.csv: 2 rows", ENVIRONMENT, "users-", "nothing was sent"] {
        assert!(ended.stderr.contains(words), "{words}\n{}", ended.stderr);
    }
    assert!(server.kept().streams.is_empty());
    let ended = folder.bulk(&server.url, &["--out", "users.csv"]).await?;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let ended = folder.bulk(&server.url, &["--out", "nowhere/results.csv"]).await?;
    assert_eq!(ended.code, Some(1), "before anything is sent: {}", ended.stderr);
    assert!(server.kept().streams.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_preview_tells_how_long_it_takes_at_the_present_rate() -> Tested {
    let server = Fake::start().await?;
    let environment = Environment {
        environment_id: ENVIRONMENT.to_owned(),
        effective_rate_limit: 2.0,
        ..Environment::default()
    };
    let page = ListEnvironmentsResponse { environments: vec![environment], ..Default::default() };
    let folder = Folder::with(rows(99).chain([format!("{OTHER},{USER},,")]))?;
    server.environments(page);
    let ended = folder.bulk(&server.url, &["--dry-run"]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for words in ["about 50s at 2 requests per second", "1, 1 of them for every blocked device", "not known"]
    {
        assert!(ended.stderr.contains(words), "{words}\n{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn stdin_is_read_to_its_end() -> Tested {
    let server = Batches::start().await?;
    let folder = Folder::with([])?;
    let text = format!("user_id\n{USER}\n{USER}\n");
    let arguments = ["bulk", "-", "--environment", ENVIRONMENT, "--yes"];
    let ended = folder.run(&server.url, &arguments, text.as_bytes()).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(server.only().targets.len(), 2);
    assert_eq!(folder.read("bulk.results.csv")?.lines().count(), 3);
    Ok(())
}

#[tokio::test]
async fn a_server_without_batches_says_so_and_one_that_is_away_is_not_reachable() -> Tested {
    let server = Fake::start().await?;
    let folder = Folder::with(rows(2))?;
    let ended = folder.bulk(&server.url, &[]).await?;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("This server knows no batches."), "{}", ended.stderr);
    assert!(ended.stderr.contains("older one"), "{}", ended.stderr);

    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let ended = folder.bulk(&format!("http://{free}"), &[]).await?;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let ended = folder.run(&format!("http://{free}"), &["bulk", "users.csv", "--dry-run"], b"").await?;
    assert_eq!(ended.code, Some(0), "a file can be checked without a server: {}", ended.stderr);
    Ok(())
}
