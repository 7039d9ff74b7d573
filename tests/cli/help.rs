//! What `--help` promises, and output nobody reads.

use std::io::pipe;

use crate::harness::{Tested, binary, run};

const CLIENT: [&str; 5] = ["--server", "--ca", "--cert", "--key", "--token-file"];

#[tokio::test]
async fn every_command_has_help_with_the_flags_of_the_contract() -> Tested {
    let commands: [(&[&str], &[&str]); 27] = [
        (&[], &["--output", "--no-color", "--version"]),
        (
            &["unblock"],
            &[
                "[DEVICE]",
                "--request-id",
                "--reason",
                "--ticket",
                "--on-behalf-of",
                "--priority",
                "--time-to-live",
                "--no-wait",
                "--validate-only",
                "--timeout",
                "UNBLOCK_TOKEN",
            ],
        ),
        (
            &["bulk"],
            &[
                "<FILE>",
                "--environment",
                "--skip-invalid",
                "--dry-run",
                "--yes",
                "--detach",
                "--out",
                "--failures-only",
                "--reason",
                "--ticket",
                "--on-behalf-of",
                "--canary",
                "--max-failure-ratio",
                "--time-to-live",
                "--start-when-sealed",
                "--batch-id",
                "the same command goes on where it was",
                "--server",
            ],
        ),
        (&["batch"], &["get", "list", "watch", "results", "pause", "resume", "cancel", "retry"]),
        (&["batch", "get"], &["<ENV", "<BATCH", "--timeout"]),
        (&["batch", "list"], &["<ENV", "--state", "--caller", "--ticket", "--limit", "--timeout"]),
        (&["batch", "watch"], &["--timeout"]),
        (&["batch", "results"], &["--out", "--failures-only", "--follow", "--from-offset", "--timeout"]),
        (&["batch", "pause"], &["--reason", "--ticket", "--timeout"]),
        (&["batch", "resume"], &["--reason", "--ticket", "--timeout"]),
        (&["batch", "cancel"], &["--reason", "--ticket", "--timeout"]),
        (&["batch", "retry"], &["--reason", "--ticket", "--timeout"]),
        (&["device"], &["get", "list"]),
        (&["device", "get"], &["--timeout"]),
        (&["device", "list"], &["<ENV", "<USER", "--timeout"]),
        (&["job"], &["get", "list", "watch", "cancel", "retry"]),
        (&["job", "get"], &["--timeout"]),
        (
            &["job", "list"],
            &[
                "--environment",
                "--user",
                "--device",
                "--batch",
                "--state",
                "--created-after",
                "--created-before",
                "--caller",
                "--ticket",
                "--limit",
            ],
        ),
        (&["job", "watch"], &["--timeout"]),
        (&["job", "cancel"], &["--reason"]),
        (&["job", "retry"], &["--expected-run", "--time-to-live", "--reason", "--ticket"]),
        (&["env"], &["list", "pause", "resume"]),
        (&["env", "list"], &["--timeout"]),
        (&["env", "pause"], &["<ENV", "--all", "--reason", "--timeout"]),
        (&["env", "resume"], &["<ENV", "--all", "--reason", "--timeout"]),
        (&["status"], &["--watch[=<INTERVAL>]", "--timeout", "Exit code 0: all is well", "130"]),
        (&["completions"], &["SHELL"]),
    ];
    for (command, flags) in commands {
        let ended = run(&mut binary(&[command, &["--help"]].concat())).await?;
        assert_eq!(ended.code, Some(0), "{command:?}");
        assert_eq!(ended.stderr, "", "{command:?}");
        let talks_to_a_server = ended.stdout.contains("--timeout");
        for flag in flags.iter().chain(CLIENT.iter().filter(|_| talks_to_a_server)) {
            assert!(ended.stdout.contains(flag), "{command:?} {flag}\n{}", ended.stdout);
        }
        let widest = ended.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{command:?} is {widest:?} columns wide");
    }
    Ok(())
}

#[tokio::test]
async fn the_help_lists_every_exit_code_and_says_what_the_json_is() -> Tested {
    let help = run(&mut binary(&["--help"])).await?.stdout;
    for code in
        ["0  done", "1  failed", "2  wrong", "3  server", "4  not", "5  timed", "78  bad", "130  interr"]
    {
        assert!(help.contains(code), "{code}\n{help}");
    }
    assert!(help.contains("lowerCamelCase"));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_went_away_is_no_error() -> Tested {
    for arguments in [&["completions", "bash"][..], &["--help"], &["--version"]] {
        let (reader, writer) = pipe()?;
        drop(reader);
        let ended = run(binary(arguments).stdout(writer)).await?;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
    Ok(())
}

#[tokio::test]
async fn every_shell_gets_its_completions() -> Tested {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = run(&mut binary(&["completions", shell])).await?;
        assert_eq!(ended.code, Some(0));
        assert!(ended.stdout.contains("unblock"), "{shell}");
    }
    Ok(())
}
