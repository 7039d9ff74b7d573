//! Who calls, and what they may do. Nothing here speaks gRPC or SQL.

mod names;
mod peer;
mod scope;

pub use names::Unfit;
pub use peer::{Certificate, ClientAuth, Peer};
pub use scope::{Scope, Scopes};
