//! `migrate`: brings the database up to date.

use clap::Args;
use serde_json::json;

use super::{error::Error, exit::Exit, screen::Screen};
use crate::{
    app,
    config::{Database, ServeArgs},
    store::{Store, StoreError},
};

/// Brings the database up to date and says what it did
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    settings: ServeArgs,
}

impl Migrate {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let database = Database::load(&self.settings, |name| std::env::var_os(name))?;
        let store =
            Store::new(&app::access(&database)).map_err(|error| Error::Unusable(error.to_string()))?;
        let migrated = store.migrate().await.map_err(|error| match error {
            StoreError::Unavailable(_) => Error::Unreachable(error.to_string()),
            other => Error::failed(other),
        })?;
        if screen.is_json() {
            let applied: Vec<i64> = migrated.applied.iter().map(|(version, _)| *version).collect();
            screen.print_json(&json!({ "version": migrated.version, "applied": applied }))?;
            return Ok(Exit::Done);
        }
        for (version, name) in &migrated.applied {
            screen.print(&format!("applied {version}: {name}"))?;
        }
        screen.print(&format!("the database is at version {}", migrated.version))?;
        Ok(Exit::Done)
    }
}
