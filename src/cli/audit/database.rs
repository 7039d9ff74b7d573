//! The database that holds the trail: a role that may only read its two tables is enough.

use clap::Args;

use crate::{
    app,
    cli::error::Error,
    config::{Database, ServeArgs},
    store::{Store, StoreError},
};

/// Which database.
#[derive(Debug, Args)]
pub(super) struct DatabaseOptions {
    #[command(flatten)]
    settings: ServeArgs,
}

impl DatabaseOptions {
    pub(super) fn store(&self) -> Result<Store, Error> {
        let database = Database::load(&self.settings, |name| std::env::var_os(name))?;
        Store::new(&app::access(&database)).map_err(|error| Error::Unusable(error.to_string()))
    }
}

pub(super) fn failed(error: StoreError) -> Error {
    match error {
        StoreError::Unavailable(_) => Error::Unreachable(error.to_string()),
        other => Error::failed(other),
    }
}
