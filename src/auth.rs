//! Who calls, and what they may do. Nothing here speaks gRPC or SQL.

mod calls;
mod peer;
mod scope;

pub use calls::{Calls, Permit, Streams};
pub use peer::{Certificate, Peer};
pub use scope::{Scope, Scopes};
