//! A role of this program: a tonic server with nothing behind it, the least a unary call can cost.

use std::net::SocketAddr;

use anyhow::Result;

/// What is called.
pub(crate) const METHOD: &str = "/grpc.health.v1.Health/Check";

/// Answers until it is ended.
pub(crate) async fn run(listen: SocketAddr) -> Result<()> {
    let (_, health) = tonic_health::server::health_reporter();
    Ok(tonic::transport::Server::builder().add_service(health).serve(listen).await?)
}
