//! From the text of a file to a policy, or to every mistake in it.

mod allow;
mod bounds;
mod caller;
mod demands;
mod section;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};
use toml::de::DeTable;

use super::{Demands, Entry, Granted, Mistake, Mistakes, Policy, Who};
use crate::{auth::Scope, device::EnvironmentId};
use section::{Notes, Section};

/// A file beyond this is no policy that anybody has read.
const LONGEST: usize = 1024 * 1024;
const KEYS: &[&str] = &["caller", "bounds", "demands", "environment"];
/// So many of the digits of its SHA-256 name a version.
const VERSION_DIGITS: usize = 12;

pub(super) fn policy(bytes: &[u8]) -> Result<Policy, Mistakes> {
    let text = readable(bytes)?;
    let notes = Notes::of(text);
    let (table, wrong) = DeTable::parse_recoverable(text);
    for error in &wrong {
        let at = error.span().map_or(0, |span| span.start);
        notes.mistake(at, format!("this is not TOML: {}", error.message()), "correct it".to_owned());
    }
    // What is left of it would only lead to more of them.
    let read = wrong.is_empty().then(|| {
        let file = Section::new(&notes, 0, table.get_ref(), KEYS);
        whole(&file, version(bytes))
    });
    notes.finish(read)
}

fn readable(bytes: &[u8]) -> Result<&str, Mistakes> {
    let only = |line, what: &str, remedy: &str| {
        Mistakes(vec![Mistake { line, what: what.to_owned(), remedy: remedy.to_owned() }])
    };
    if bytes.len() > LONGEST {
        return Err(only(None, "it is larger than 1 MiB", "a policy is to be read by people"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        only(Some(line), "this is not UTF-8", "save it as UTF-8")
    })
}

fn version(bytes: &[u8]) -> Arc<str> {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..VERSION_DIGITS].into()
}

/// Reads every part before any mistake ends it.
fn whole(file: &Section<'_>, version: Arc<str>) -> Policy {
    let (bounds, device_bound) = bounds::for_all(file);
    let entries: Vec<(usize, Entry)> = file
        .tables("caller")
        .into_iter()
        .filter_map(|(at, table)| caller::read(file, at, table, bounds))
        .collect();
    // A misspelled key is told already.
    if file.get("caller").is_none() && file.notes.none() {
        let remedy = "write a [[caller]], or stop the service if that is what is wanted";
        file.notes.mistake_of_all("it names no caller: nobody could do anything", remedy);
    }
    let demands = demands::for_all(file);
    let (named, holding) = places(file, &entries);
    let own_demands = own_demands(file, &demands, &entries);
    Policy {
        version,
        entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        named,
        holding,
        nobody: Granted::nothing(bounds).into(),
        anonymous: Granted::default().into(),
        demands,
        own_demands,
        device_bound,
    }
}

type Places = (HashMap<String, usize>, HashMap<String, Vec<usize>>);

/// Where each caller's entry is.
fn places(file: &Section<'_>, entries: &[(usize, Entry)]) -> Places {
    let (mut named, mut holding) = (HashMap::new(), HashMap::<String, Vec<usize>>::new());
    for (place, (at, entry)) in entries.iter().enumerate() {
        if let Some((first, _)) = entries[..place].iter().find(|(_, earlier)| earlier.who == entry.who) {
            let what = format!("{} stands in line {} already", entry.who, file.notes.line(*first));
            file.notes.mistake(*at, what, "say in one [[caller]] all that is allowed to it".to_owned());
        }
        match &entry.who {
            Who::Named(name) => {
                named.insert(name.clone(), place);
            }
            Who::Holding { issuer, .. } => holding.entry(issuer.clone()).or_default().push(place),
        }
    }
    (named, holding)
}

/// A demand in an environment where nobody may do anything is one that is not made where it was meant.
fn own_demands(
    file: &Section<'_>,
    for_all: &Demands,
    entries: &[(usize, Entry)],
) -> BTreeMap<EnvironmentId, Demands> {
    let mut own = BTreeMap::new();
    let anything_in = |id| {
        Scope::ALL
            .into_iter()
            .any(|scope| entries.iter().any(|(_, entry)| entry.environments(scope).have(id)))
    };
    for (at, table) in file.tables("environment") {
        let Some((id, demands)) = demands::of_one(file, at, table, for_all) else { continue };
        if !anything_in(id) {
            let what = format!("nobody may do anything in the environment {id}");
            file.notes.mistake(at, what, "correct its id, or leave it out".to_owned());
        }
        if own.insert(id, demands).is_some() {
            let remedy = "say in one [[environment]] all that it demands".to_owned();
            file.notes.mistake(at, format!("the environment {id} stands here a second time"), remedy);
        }
    }
    own
}
