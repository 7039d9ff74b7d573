//! `erase`: what it wants to be told, and how it ends where it can do nothing.

use crate::harness::{DEVICE, ENVIRONMENT, Ended, Tested, USER, binary, run};

const NOBODY: &str = "postgres://nobody@127.0.0.1:1/none";

async fn erase(url: Option<&str>, arguments: &[&str]) -> std::io::Result<Ended> {
    let mut erase = binary(&[&["erase"], arguments].concat());
    erase.env_remove("UNBLOCK_DATABASE_URL").env_remove("UNBLOCK_CONFIG");
    if let Some(url) = url {
        erase.env("UNBLOCK_DATABASE_URL", url);
    }
    run(&mut erase).await
}

#[tokio::test]
async fn what_is_wrong_or_missing_is_named() -> Tested {
    let right =
        [("--environment", ENVIRONMENT), ("--user", USER), ("--by", "privacy"), ("--reason", "request 17")];
    for (wrong, _) in right {
        for value in [None, Some(""), Some("a\nb")] {
            let given =
                right.iter().filter(|(name, _)| *name != wrong).flat_map(|(name, value)| [*name, *value]);
            let arguments: Vec<&str> =
                given.chain(value.into_iter().flat_map(|value| [wrong, value])).collect();
            let ended = erase(Some(NOBODY), &arguments).await?;
            assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
            assert!(ended.stderr.contains(wrong), "{arguments:?}: {}", ended.stderr);
        }
    }
    let swapped = &DEVICE[..DEVICE.len() - 1];
    let arguments = ["--environment", ENVIRONMENT, "--user", swapped, "--by", "privacy", "--reason", "x"];
    let ended = erase(Some(NOBODY), &arguments).await?;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--user"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn without_a_database_it_says_so() -> Tested {
    let arguments =
        ["--environment", ENVIRONMENT, "--user", USER, "--by", "privacy", "--reason", "request 17"];
    let ended = erase(None, &arguments).await?;
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("UNBLOCK_DATABASE_URL"), "{}", ended.stderr);
    for more in [&["--yes"][..], &["--dry-run", "--output", "json"]] {
        let ended = erase(Some(NOBODY), &[&arguments, more].concat()).await?;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), ""), "{}", ended.stderr);
    }
    Ok(())
}
