//! What the documents say is what the code does. `UPDATE_DOCUMENTS=1` writes the generated parts of the README anew.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use clap::Parser as _;
use pingone_unblock::{
    api::ErrorReason,
    auth::{Policy, Scope},
    cli::Cli,
    config,
    job::{Reason, RetryPolicy},
};

use crate::harness::{Result, process::BINARY};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> Result<String> {
    Ok(fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?)
}

/// The pages of the alerts.
fn runbooks() -> Result<Vec<String>> {
    let pages = fs::read_dir(root().join("docs/runbooks"))?;
    pages.map(|page| Ok(format!("docs/runbooks/{}", page?.file_name().to_string_lossy()))).collect()
}

/// Compares, or writes, the part of the README between two marks.
fn the_readme_says(part: &str, expected: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- {part}:begin -->\n"), format!("<!-- {part}:end -->"));
    let readme = read("README.md")?;
    let from = readme.find(&begin).ok_or("no such part")? + begin.len();
    let to = from + readme[from..].find(&end).ok_or("it has no end")?;
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(root().join("README.md"), format!("{}{expected}{}", &readme[..from], &readme[to..]))?;
        return Ok(());
    }
    assert_eq!(
        &readme[from..to],
        expected,
        "UPDATE_DOCUMENTS=1 cargo test --test suite documents -- --test-threads 1"
    );
    Ok(())
}

#[test]
fn the_configuration_table_is_that_of_the_code() -> Result<()> {
    the_readme_says("configuration", &config::markdown_table())
}

#[test]
fn the_retry_schedule_is_that_of_the_code() -> Result<()> {
    let policy = RetryPolicy::default();
    let attempts = 1..=policy.max_attempts();
    let mut table = String::from("| after attempt |");
    attempts.clone().try_for_each(|attempt| write!(table, " {attempt} |"))?;
    table.push_str("\n|---|");
    attempts.clone().for_each(|_| table.push_str("---|"));
    table.push_str("\n| wait |");
    for attempt in attempts {
        match attempt == policy.max_attempts() {
            true => table.push_str(" the job is FAILED |\n"),
            false => write!(table, " {} s |", policy.interval(attempt).as_secs_f64())?,
        }
    }
    the_readme_says("retry-schedule", &table)
}

#[test]
fn the_error_table_is_that_of_the_code() -> Result<()> {
    let mut table = String::from("| reason | code | try again? |\n|---|---|---|\n");
    for reason in ErrorReason::ALL {
        // `InvalidArgument` is how Rust writes what gRPC calls INVALID_ARGUMENT.
        let code = format!("{:?}", reason.code()).chars().enumerate().fold(
            String::new(),
            |mut name, (i, letter)| {
                if i > 0 && letter.is_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
                name
            },
        );
        writeln!(table, "| `{}` | {code} | {} |", reason.name(), reason.again())?;
    }
    the_readme_says("error-reasons", &table)?;
    let readme = read("README.md")?;
    for reason in Reason::ALL {
        assert!(readme.contains(&format!("`{}`", reason.name())), "the README does not name {reason}");
    }
    Ok(())
}

#[test]
fn the_exit_codes_are_those_of_the_help() -> Result<()> {
    let help = String::from_utf8(Command::new(BINARY).arg("--help").output()?.stdout)?;
    let codes = help.split_once("Exit codes:\n").ok_or("no exit codes in the help")?.1;
    let mut table = String::from("| code | meaning |\n|---|---|\n");
    for line in codes.lines().take_while(|line| !line.trim().is_empty()) {
        let (code, meaning) = line.trim().split_once("  ").ok_or("a code without a meaning")?;
        writeln!(table, "| {code} | {} |", meaning.trim())?;
    }
    assert!(table.lines().count() > 8, "{table}");
    the_readme_says("exit-codes", &table)
}

#[test]
fn the_service_config_is_the_published_file() -> Result<()> {
    the_readme_says("service-config", &format!("```json\n{}```\n", read("docs/service-config.json")?))
}

#[test]
fn every_command_in_the_documents_can_be_typed() -> Result<()> {
    let mut checked = 0;
    let fixed = [
        "README.md",
        "CONTRIBUTING.md",
        "docs/batches.md",
        "docs/observability.md",
        "docs/audit.md",
        "docs/audit-export.md",
        "docs/audit-verify.md",
        "docs/policy.md",
        "docker-compose.yml",
    ];
    for document in fixed.map(ToOwned::to_owned).into_iter().chain(runbooks()?) {
        let text = read(&document)?.replace("\\\n#", "").replace("\\\n", "");
        for line in text.lines() {
            let line =
                line.trim_start_matches(['#', '$', ' ']).trim_start_matches("docker compose exec service-1 ");
            let Some(arguments) = line.strip_prefix("pingone-unblock ") else { continue };
            let arguments = arguments.split('#').next().unwrap_or_default().split_whitespace();
            let parsed = Cli::try_parse_from(std::iter::once("pingone-unblock").chain(arguments));
            assert!(
                parsed.is_ok(),
                "{document}: {line}: {}",
                parsed.err().map(|e| e.to_string()).unwrap_or_default()
            );
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} commands were found");
    Ok(())
}

#[test]
fn every_file_that_the_documents_point_to_is_there() -> Result<()> {
    let mut checked = 0;
    let fixed = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/audit.md",
        "docs/audit-verify.md",
        "docs/batches.md",
        "docs/data.md",
        "docs/deployment.md",
        "docs/observability.md",
        "docs/policy.md",
        "docs/quotas.md",
        "docs/threat-model.md",
    ];
    for document in fixed.map(ToOwned::to_owned).into_iter().chain(runbooks()?) {
        let beside = root().join(&document).with_file_name("");
        let text = read(&document)?;
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(beside.join(target).exists(), "{document} points to {target}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} were found");
    Ok(())
}

#[test]
fn every_target_in_the_documents_can_be_made() -> Result<()> {
    let makefile = read("Makefile")?;
    let mut checked = 0;
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = read(document)?;
        for (at, _) in text.match_indices("make ") {
            let before = text[..at].chars().next_back();
            if !matches!(before, Some('`' | '\n')) {
                continue;
            }
            let target: String = text[at + 5..]
                .chars()
                .take_while(|letter| letter.is_ascii_lowercase() || *letter == '-')
                .collect();
            if target.is_empty() {
                continue;
            }
            assert!(makefile.contains(&format!("\n{target}:")), "{document} speaks of make {target}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} targets were found");
    Ok(())
}

#[test]
fn the_compose_file_sets_what_there_is_to_set() -> Result<()> {
    let compose = read("docker-compose.yml")?;
    let mut checked = 0;
    for line in compose.lines() {
        let Some((name, _)) = line.trim().split_once(':') else { continue };
        if name.starts_with("UNBLOCK_") || name.starts_with("PINGONE_") {
            assert!(config::SETTINGS.iter().any(|setting| setting.variable == name), "there is no {name}");
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} variables were found");
    Ok(())
}

#[test]
fn the_architecture_stays_short_and_its_map_true() -> Result<()> {
    let architecture = read("ARCHITECTURE.md")?;
    assert!(architecture.lines().count() <= 150);
    for (at, _) in architecture.match_indices("`src/") {
        let path: String = architecture[at + 1..].chars().take_while(|letter| *letter != '`').collect();
        assert!(root().join(&path).exists(), "there is no {path}");
    }
    Ok(())
}

#[test]
fn the_changelog_names_every_command() -> Result<()> {
    let changelog = read("CHANGELOG.md")?;
    let help = String::from_utf8(Command::new(BINARY).arg("--help").output()?.stdout)?;
    let commands = help.split_once("Commands:\n").ok_or("no commands in the help")?.1;
    for line in commands.lines().take_while(|line| !line.trim().is_empty()) {
        let command = line.split_whitespace().next().unwrap_or_default();
        if command != "help" && !command.is_empty() && line.starts_with("  ") && !line.starts_with("   ") {
            assert!(changelog.contains(&format!("`{command}")), "the changelog does not name {command}");
        }
    }
    Ok(())
}

#[test]
fn the_policies_that_are_shown_are_policies_and_every_scope_is_explained() -> Result<()> {
    let document = read("docs/policy.md")?;
    let (_, shown) = document.split_once("```toml\n").ok_or("no policy is shown")?;
    let (shown, _) = shown.split_once("```").ok_or("it does not end")?;
    for policy in [shown, &read("deploy/kubernetes/example/installation/policy.toml")?] {
        let read = Policy::parse(policy.as_bytes()).map_err(|mistakes| mistakes.to_string())?;
        assert!(read.entries().len() >= 2);
    }
    for scope in Scope::ALL {
        assert!(document.contains(&format!("| `{scope}` |")), "{scope} is not explained");
    }
    Ok(())
}
