//! `[demands]` and `[[environment]]`: what has to be said for an unblock.

use regex::RegexBuilder;
use toml::de::DeTable;

use super::{
    super::{Demands, demands::TicketPattern},
    section::{Section, quoted},
};
use crate::device::EnvironmentId;

const FOR_ALL: &[&str] = &["require_reason", "require_ticket", "ticket_pattern", "require_on_behalf_of"];
const OF_ONE: &[&str] = &["id", "require_reason", "require_ticket", "ticket_pattern", "require_on_behalf_of"];
/// Room for what a pattern is compiled to: enough for names of tickets, too little to cost anything.
const LARGEST_PATTERN: usize = 256 * 1024;

/// What is demanded in environments that say nothing of their own.
pub(super) fn for_all(file: &Section<'_>) -> Demands {
    let Some((at, table)) = file.table("demands") else { return Demands::default() };
    read(&Section::new(file.notes, at, table, FOR_ALL), &Demands::default())
}

/// What is demanded in one; where it says nothing, what is demanded in all.
pub(super) fn of_one(
    file: &Section<'_>,
    at: usize,
    table: &DeTable<'_>,
    for_all: &Demands,
) -> Option<(EnvironmentId, Demands)> {
    let section = Section::new(file.notes, at, table, OF_ONE);
    if section.get("id").is_none() {
        section.notes.mistake(at, "this does not say which environment it is about", "write its id");
    }
    if FOR_ALL.iter().all(|key| section.get(key).is_none()) {
        let what = "this says nothing about the environment";
        section.notes.mistake(at, what, format!("write some of {}, or leave it out", FOR_ALL.join(", ")));
    }
    let demands = read(&section, for_all);
    let (at, text) = section.text("id")?;
    let id = EnvironmentId::parse(text);
    if id.is_err() {
        section.notes.mistake(at, format!("{} is not a UUID", quoted(text)), "write the environment's id");
    }
    id.ok().map(|id| (id, demands))
}

fn read(section: &Section<'_>, otherwise: &Demands) -> Demands {
    let demanded = |key, otherwise| section.truth(key).unwrap_or(otherwise);
    let ticket_pattern = match section.get("ticket_pattern") {
        None => otherwise.ticket_pattern.clone(),
        Some(_) => ticket_pattern(section),
    };
    Demands {
        reason: demanded("require_reason", otherwise.reason),
        ticket: demanded("require_ticket", otherwise.ticket),
        on_behalf_of: demanded("require_on_behalf_of", otherwise.on_behalf_of),
        ticket_pattern,
    }
}

/// Always for the whole ticket: what matches somewhere in it lets anything in.
fn ticket_pattern(section: &Section<'_>) -> Option<TicketPattern> {
    let (at, written) = section.text("ticket_pattern")?;
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
    // By itself first: `a)|(b` would else be one in parentheses.
    let whole = build(written).and_then(|_| build(&format!(r"\A(?:{written})\z")));
    match whole {
        Ok(whole) => Some(TicketPattern { written: written.to_owned(), whole }),
        Err(error) => {
            let what = match error {
                regex::Error::CompiledTooBig(_) => "this pattern is too large".to_owned(),
                _ => format!("{} is no regular expression", quoted(written)),
            };
            section.notes.mistake(at, what, "write a plain one, such as '(INC|CHG)[0-9]+'");
            None
        }
    }
}
