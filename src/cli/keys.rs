//! `keys`: the keys that answers are encrypted with in the database.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{error::Error, exit::Exit, screen::Screen};
use crate::{
    app,
    config::{Database, ServeArgs},
    store::StoreError,
};

/// Sees to the keys that answers are encrypted with in the database
#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    Rewrap(Rewrap),
}

/// Wraps every stored data key by the first snapshot key, so that the others are needed no more
///
/// First give the new key to every replica, as the first of its keys: one that does not know it could not read what is wrapped by it.
#[derive(Debug, Args)]
pub(super) struct Rewrap {
    #[command(flatten)]
    settings: ServeArgs,
}

impl Keys {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        match self {
            Self::Rewrap(rewrap) => rewrap.run(screen).await,
        }
    }
}

impl Rewrap {
    async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let database = Database::load(&self.settings, |name| std::env::var_os(name))?;
        let store = app::store(&database).map_err(|error| Error::Unusable(error.to_string()))?;
        let told = |error: StoreError| match error {
            StoreError::Unavailable(_) => Error::Unreachable(error.to_string()),
            other => Error::failed(other),
        };
        let rewrapped = store.rewrap_data_keys().await.map_err(told)?;
        let wrapped = store.find_wrapped().await.map_err(told)?;
        store.close().await;
        let needed: Vec<&str> = wrapped.iter().map(|one| one.name.as_str()).collect();
        if screen.is_json() {
            screen.print_json(&json!({ "rewrapped": rewrapped, "needed": needed }))?;
        } else {
            screen.print(&format!("wrapped {rewrapped} data keys anew"))?;
            screen.print(&format!("needed from now on: {}", needed.join(", ")))?;
        }
        Ok(Exit::Done)
    }
}
