//! `policy check`: what is wrong with a policy, or all that it says.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use comfy_table::Cell;

use super::{bounds, device_bound, json, read};
use crate::{
    auth::{Entry, Environments, Policy, Scope},
    cli::{
        error::Error,
        exit::Exit,
        screen::{Screen, printable},
        table::{Rows, drawn, heading, table},
    },
    device::EnvironmentId,
};

/// Says what is wrong with a policy file, or shows who may do what and where
#[derive(Debug, Args)]
pub(in crate::cli) struct Check {
    /// The policy
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Check {
    pub(super) fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let policy = read(&self.file)?;
        if screen.is_json() {
            screen.print_json(&json::policy(&policy))?;
            return Ok(Exit::Done);
        }
        for entry in policy.entries() {
            screen.print(&format!("{}\n\n{}\n", about(screen, entry), allowed(screen, entry)))?;
        }
        screen.print(&for_all(screen, &policy))?;
        Ok(Exit::Done)
    }
}

fn about(screen: &Screen, entry: &Entry) -> String {
    let mut rows = Rows::new(screen);
    rows.text("caller", &entry.who.to_string());
    rows.text("who", &entry.description);
    rows.text("bounds", &bounds(entry.bounds()));
    let narrowed = "only with the token scope of the same name";
    rows.text("narrowed", if entry.narrowed_by_token { narrowed } else { "" });
    rows.draw()
}

/// What it may do in each environment that it is named for, all that is allowed everywhere included.
fn allowed(screen: &Screen, entry: &Entry) -> String {
    let mut table = table(screen);
    table.set_header(["ENVIRONMENT", "MAY"].map(|title| heading(screen, title)));
    let everywhere = Scope::ALL.into_iter().filter(|scope| entry.environments(*scope) == Environments::All);
    let everywhere = words(everywhere);
    if !everywhere.is_empty() {
        table.add_row([Cell::new("all"), Cell::new(everywhere)]);
    }
    for id in named(entry) {
        let here = Scope::ALL.into_iter().filter(|scope| entry.environments(*scope).have(id));
        table.add_row([Cell::new(id), Cell::new(words(here))]);
    }
    drawn(&mut table)
}

fn named(entry: &Entry) -> BTreeSet<EnvironmentId> {
    let of = |scope| match entry.environments(scope) {
        Environments::All => BTreeSet::new(),
        Environments::Only(some) => some.clone(),
    };
    Scope::ALL.into_iter().flat_map(of).collect()
}

fn words(scopes: impl Iterator<Item = Scope>) -> String {
    scopes.map(Scope::name).collect::<Vec<_>>().join(", ")
}

/// What holds for every caller.
fn for_all(screen: &Screen, policy: &Policy) -> String {
    let mut rows = Rows::new(screen);
    rows.text("policy", policy.version());
    rows.text("each device", &device_bound(policy));
    for id in policy.environments() {
        let demands = policy.demands(id).by_key().join(", ");
        if !demands.is_empty() {
            rows.text("demands", &printable(&format!("in {id}: {demands}")));
        }
    }
    let elsewhere = policy.demands_elsewhere().by_key().join(", ");
    rows.text("demands", &if elsewhere.is_empty() { elsewhere } else { format!("elsewhere: {elsewhere}") });
    rows.draw()
}
