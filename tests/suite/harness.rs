//! What the tests stand on.

pub(crate) mod authority;
pub(crate) mod bulk;
pub(crate) mod callers;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod expressions;
pub(crate) mod frames;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod neighbour;
pub(crate) mod otlp;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod rerun;
pub(crate) mod secured;
pub(crate) mod service;
mod shared;
pub(crate) mod trail;

/// Whatever went wrong: a test says so and ends.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A figure for whoever reads what a test says; no test depends on it.
#[expect(clippy::print_stderr, reason = "it is for people, and there is no log in a test")]
pub(crate) fn note(seen: &str) {
    eprintln!("{seen}");
}
