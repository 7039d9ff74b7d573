//! The other end of a connection.

use std::{net::SocketAddr, sync::Arc};

/// The other end of a connection: an extension of every request that comes over it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The certificate it showed, verified against the authorities for clients.
    pub certificate: Option<Arc<Certificate>>,
}

/// A client's certificate, as far as it says who the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject alternative names: URIs as they are (`spiffe://…`), DNS names after `dns:`, addresses after `email:`. In this
    /// order, which is that of preference.
    pub names: Vec<String>,
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Those that have one; one that cannot be verified is refused.
    Optional,
    /// All.
    Required,
}
