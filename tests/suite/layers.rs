//! The layers as ARCHITECTURE.md draws them: a module uses only those below it.

use std::{fs, path::Path};

use crate::harness::Result;

/// From the lowest; modules of one row do not use each other.
const LAYERS: [&[&str]; 11] = [
    &["device", "duration", "redact", "spelling"],
    &["job", "environment", "proto"],
    &["telemetry"],
    &["batch", "reload", "audit"],
    &["auth", "store", "pingone", "postgres", "simulator"],
    &["watch"],
    &["engine"],
    &["api", "config"],
    &["app"],
    &["cli"],
    &["fuzz"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn sources(folder: &Path, found: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

#[test]
fn a_module_uses_only_those_below_it() -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&source, &mut found)?;
    let mut checked = 0;
    for (path, text) in &found {
        let inside = path.strip_prefix(&source.display().to_string()).unwrap_or(path).trim_start_matches('/');
        let own = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(own_layer) = layer(own) else {
            assert!(["main", "lib"].contains(&own), "{own} has no layer: add it to the table");
            continue;
        };
        for used in used_modules(text) {
            if used == own {
                continue;
            }
            let used_layer =
                layer(&used).ok_or_else(|| format!("{inside} uses {used}, which has no layer"))?;
            assert!(used_layer < own_layer, "{inside} uses {used}, which is not below {own}");
            checked += 1;
        }
    }
    assert!(checked > 50, "the test read {checked} uses only");
    Ok(())
}

/// The first segments after `crate::`, in paths and in the groups of `use crate::{…}`.
fn used_modules(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => used.push(std::mem::take(&mut word)),
                    _ if depth == 0 => word.push(letter),
                    _ => {}
                }
            }
            used.push(word);
        } else {
            used.push(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
        }
    }
    used.iter()
        .map(|path| path.trim().split("::").next().unwrap_or_default().trim().to_owned())
        .filter(|module| {
            !module.is_empty() && module.chars().all(|letter| letter.is_lowercase() || letter == '_')
        })
        .collect()
}

/// One library, one place.
#[test]
fn each_library_stays_where_it_belongs() -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&source, &mut found)?;
    let rules = [
        ("sqlx::", &["store"][..]),
        // `auth` fetches the keys of issuers.
        ("reqwest::", &["pingone", "cli", "auth"]),
        ("backoff::", &["job"]),
        ("tonic::", &["api", "proto", "cli", "telemetry"]),
    ];
    for (library, allowed) in rules {
        for (path, text) in &found {
            let inside =
                path.strip_prefix(&source.display().to_string()).unwrap_or(path).trim_start_matches('/');
            let module = inside.split(['/', '.']).next().unwrap_or_default();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let uses = code.into_iter().any(|line| {
                line.match_indices(library)
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
            });
            assert!(!uses || allowed.contains(&module), "{inside} uses {library}");
        }
    }
    Ok(())
}
