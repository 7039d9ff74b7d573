//! `policy`: says what a policy file says, and what that means for one caller. Asks no server.

mod check;
mod explain;
mod json;

use std::path::Path;

use clap::Subcommand;

use super::{error::Error, exit::Exit, screen::Screen};
use crate::{auth, config};

/// Says what a policy file allows, and to whom
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    Check(check::Check),
    Explain(explain::Explain),
}

impl Policy {
    pub(super) fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        match self {
            Self::Check(check) => check.run(screen),
            Self::Explain(explain) => explain.run(screen),
        }
    }
}

/// The policy in `file`.
///
/// # Errors
/// [`Error::Unusable`] with every mistake in it.
fn read(file: &Path) -> Result<auth::Policy, Error> {
    let unusable = |error| Error::Unusable(format!("{}: {error}", file.display()));
    config::policy_at(file).map_err(unusable)
}

/// `50 calls_per_second, …`; nothing where nothing is bounded.
fn bounds(bounds: &auth::Bounds) -> String {
    let set = bounds.by_key().into_iter().filter_map(|(key, bound)| Some(format!("{} {key}", bound?)));
    set.collect::<Vec<_>>().join(", ")
}

/// `3 unblocks_per_device within 24h`.
fn device_bound(policy: &auth::Policy) -> String {
    let set = policy.device_bound().map(|bound| {
        let within = crate::duration::write(bound.within);
        format!("{} unblocks_per_device within {within}", bound.count)
    });
    set.unwrap_or_else(|| "none".to_owned())
}
