//! `audit head`: the ends of all chains, to be kept where nobody who can write the database can write.

use std::{fmt::Write as _, fs, path::Path};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::database::{DatabaseOptions, failed};
use crate::{
    audit,
    cli::{error::Error, exit::Exit, screen::Screen},
    device::Lane,
};

/// Prints the ends of all chains of the audit trail, one JSON object a line
///
/// Keep them elsewhere, and give the file to `audit verify --head`: without it nobody can tell a chain whose end was cut off from
/// one that ends there.
#[derive(Debug, Args)]
pub(in crate::cli) struct Head {
    #[command(flatten)]
    database: DatabaseOptions,
}

/// A line.
#[derive(Serialize, Deserialize)]
struct Line {
    lane: i16,
    number: i64,
    hash: String,
}

impl Head {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let store = self.database.store()?;
        let all: Vec<_> = Lane::all().map(|lane| (lane, i64::MAX)).collect();
        let newest = store.find_newest_seals(&all, 1).await.map_err(failed)?;
        for seal in &newest {
            let at = seal.sealed_at.format(&Rfc3339).unwrap_or_default();
            screen.print_json(&json!({
                "lane": seal.lane, "number": seal.number, "hash": hexadecimal(&seal.hash), "sealedTime": at,
            }))?;
        }
        if newest.is_empty() {
            screen.say("nothing is sealed yet");
        }
        store.close().await;
        Ok(Exit::Done)
    }
}

/// The heads in a file that `audit head` wrote.
pub(super) fn read(path: &Path) -> Result<Vec<(i16, audit::Head)>, Error> {
    let wrong = |why: &dyn std::fmt::Display| Error::Usage(format!("--head {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let head = |(at, line): (usize, &str)| {
        let unlike = || wrong(&format!("line {} is none that `audit head` prints", at + 1));
        let line: Line = serde_json::from_str(line).map_err(|_| unlike())?;
        let hash = bytes(&line.hash).ok_or_else(unlike)?;
        Ok((line.lane, audit::Head { number: line.number, hash }))
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(head).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hexadecimal: &str) -> Option<audit::Hash> {
    let mut hash = audit::Hash::default();
    if !hexadecimal.is_ascii() || hexadecimal.len() != 2 * hash.len() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hexadecimal.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_printed() {
        let hash: audit::Hash = std::array::from_fn(|at| u8::try_from(at * 8).unwrap_or(255));
        assert_eq!(bytes(&hexadecimal(&hash)), Some(hash));
        assert_eq!(bytes(&hexadecimal(&hash[1..])), None);
        assert_eq!(bytes(&"zz".repeat(32)), None);
    }
}
