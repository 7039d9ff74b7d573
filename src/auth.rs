//! Who calls, and what they may do. Nothing here speaks gRPC or SQL.

mod authenticator;
mod calls;
mod names;
mod peer;
pub(crate) mod policy;
mod scope;
pub mod token;

pub use authenticator::{Authenticator, Identity, Unidentified};
pub use calls::{Calls, OpenStream, Streams};
pub use names::Unfit;
pub use peer::{Certificate, ClientAuth, Peer};
pub use policy::{Bounds, Demands, DeviceBound, Entry, Environments, Grants, Mistake, Mistakes, Policy, Who};
pub use scope::{Scope, Scopes};
pub use token::{Claims, Issuer, TokenError, Tokens};
