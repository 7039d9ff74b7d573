//! Who calls, and what they may do. Nothing here speaks gRPC or SQL.

mod peer;
mod scope;

pub use peer::{Certificate, Peer};
pub use scope::{Scope, Scopes};
