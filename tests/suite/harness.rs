//! What the tests stand on.

pub(crate) mod bulk;
pub(crate) mod callers;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod expressions;
pub(crate) mod issuer;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod otlp;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod receiver;
pub(crate) mod rerun;
pub(crate) mod service;
mod shared;
pub(crate) mod trail;

/// Whatever went wrong: a test says so and ends.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
