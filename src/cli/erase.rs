//! `erase`: what is kept of one person goes, and the audit trail stays provable.

use std::io::{self, IsTerminal as _};

use clap::Args;
use serde_json::json;

use super::{NAME, error::Error, exit::Exit, screen::Screen};
use crate::{
    app,
    config::{Database, ServeArgs},
    device::{EnvironmentId, UserId},
    store::{Erased, Erasure, NotErased, Store, StoreError},
};

const LONGEST_NAME: usize = 200;
const LONGEST_REASON: usize = 500;

/// Erases what is kept of one user, and leaves the audit trail provable
///
/// Speaks to the database itself, as the role that owns the tables. Jobs of the user go whole; rows of batches keep their place and
/// nothing else; entries of the audit trail lose what is personal, and an entry that is sealed with it says which, by whom and why.
/// All of it in one transaction, or nothing. Refused while jobs or batches of the user have not ended. Safe to repeat.
///
/// It does not reach what left the database: backups, exports of the trail, results of `bulk`, and PingOne itself.
#[derive(Debug, Args)]
pub(super) struct Erase {
    /// PingOne environment
    #[arg(long, value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: EnvironmentId,
    /// User of that environment
    #[arg(long, value_name = "USER", value_parser = UserId::parse)]
    user: UserId,
    /// Who has it done, for the audit trail: name nobody here or in the reason who is to be forgotten
    #[arg(long, value_name = "NAME", value_parser = |text: &str| words(text, LONGEST_NAME))]
    by: String,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", value_parser = |text: &str| words(text, LONGEST_REASON))]
    reason: String,
    /// Count what would go, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Erase without asking
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    settings: ServeArgs,
}

impl Erase {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let database = Database::load(&self.settings, |name| std::env::var_os(name))?;
        let store =
            Store::new(&app::access(&database)).map_err(|error| Error::Unusable(error.to_string()))?;
        let ended = self.erase(screen, &store).await;
        store.close().await;
        ended
    }

    async fn erase(&self, screen: &Screen, store: &Store) -> Result<Exit, Error> {
        store.check_reachable().await.map_err(failed)?;
        store.check_schema().await.map_err(failed)?;
        if !store.may_erase().await.map_err(failed)? {
            return Err(Error::Unusable(
                "this role in the database may not erase: give the database URL of the role that owns the tables, as `migrate` has \
                 it"
                    .to_owned(),
            ));
        }
        if self.dry_run || !self.yes {
            let found = self.carry_out(store, false).await?;
            if self.dry_run || found.is_empty() {
                return self.tell(screen, &found);
            }
            confirm(screen, &found)?;
        }
        self.tell(screen, &self.carry_out(store, true).await?)
    }

    async fn carry_out(&self, store: &Store, really: bool) -> Result<Erased, Error> {
        let wish =
            Erasure { environment: self.environment, user: self.user, by: &self.by, reason: &self.reason };
        store.erase(&wish, really).await.map_err(failed)?.map_err(|not| Error::Failed(self.refusal(&not)))
    }

    /// Why not, and what to do.
    fn refusal(&self, not: &NotErased) -> String {
        let (environment, user) = (self.environment, self.user);
        match not {
            NotErased::Unfinished(jobs) => format!(
                "{} of this user {} not ended: wait, or cancel; nothing was erased\n  \
                 {NAME} job list --environment {environment} --user {user} --state pending --state running",
                counted(u64::try_from(*jobs).unwrap_or(u64::MAX), "job"),
                if *jobs == 1 { "has" } else { "have" },
            ),
            NotErased::Open(batches) => format!(
                "batches that name this user have not ended: wait, or cancel them; nothing was erased{}",
                batches.iter().fold(String::new(), |lines, id| {
                    format!("{lines}\n  {NAME} batch get {environment} {id}")
                }),
            ),
            NotErased::Changing => {
                "more of this user was recorded at this moment; nothing was erased: do it again".to_owned()
            }
        }
    }

    fn tell(&self, screen: &Screen, erased: &Erased) -> Result<Exit, Error> {
        if screen.is_json() {
            screen.print_json(&json!({
                "dryRun": self.dry_run,
                "auditEntries": erased.entries,
                "jobs": erased.jobs,
                "batchRows": erased.rows,
                "eventIds": erased.told,
            }))?;
            return Ok(Exit::Done);
        }
        if erased.is_empty() {
            screen.print("nothing is kept of this user")?;
            return Ok(Exit::Done);
        }
        let would = if self.dry_run { "would be erased" } else { "erased" };
        screen.print(&format!("{would}: {}", summary(erased)))?;
        for id in &erased.told {
            screen.detail("told in the trail by", &id.to_string());
        }
        if self.dry_run {
            screen.say("a dry run: nothing was changed");
        }
        Ok(Exit::Done)
    }
}

fn summary(erased: &Erased) -> String {
    format!(
        "what is personal of {}; {}; {}",
        if erased.entries == 1 {
            "1 audit entry".to_owned()
        } else {
            format!("{} audit entries", erased.entries)
        },
        counted(erased.jobs, "job"),
        counted(erased.rows, "row") + " of batches",
    )
}

/// Asks for the number of what goes, which nobody types by mistake.
fn confirm(screen: &Screen, found: &Erased) -> Result<(), Error> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::Usage("nobody can be asked here: add --yes to erase without".to_owned()));
    }
    let all = found.entries + found.jobs + found.rows;
    screen.say(&format!("to be erased: {}; {all} in all", summary(found)));
    screen.draw("this can not be taken back; type the number of all to go on: ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Error::failed)?;
    if answer.trim() == all.to_string() {
        return Ok(());
    }
    Err(Error::Usage(format!("that is not {all}; nothing was erased")))
}

fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn words(text: &str, longest: usize) -> Result<String, String> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > longest || text.chars().any(char::is_control) {
        return Err(format!("1 to {longest} printable characters"));
    }
    Ok(text.to_owned())
}

fn failed(error: StoreError) -> Error {
    match error {
        StoreError::Unavailable(_) => Error::Unreachable(error.to_string()),
        other => Error::failed(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_reason_say_something_and_fit() {
        assert_eq!(words("request 17", 20), Ok("request 17".to_owned()));
        for wrong in ["", "  ", "a\nb", &"a".repeat(21)] {
            assert!(words(wrong, 20).is_err(), "{wrong}");
        }
    }
}
