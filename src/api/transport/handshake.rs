//! One TLS handshake: who is at the other end, or why it was refused.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{CertificateError, ServerConfig};
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    auth::{Certificate, Peer, Unfit},
    telemetry::metrics::Refused,
};

/// Why a connection did not come about.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) cause: Refused,
    pub(super) why: String,
}

/// Shakes hands within `limit`, the wait for one of `at_once` included.
pub(super) async fn shake(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    at_once: &Semaphore,
    limit: Duration,
) -> Result<(TlsStream<TcpStream>, Peer), Failed> {
    let shaking = async {
        // Closed never.
        let _permit = at_once.acquire().await;
        TlsAcceptor::from(config).accept(stream).await
    };
    let timed_out = || Failed { cause: Refused::HandshakeTimeout, why: "it took too long".to_owned() };
    let stream = tokio::time::timeout(limit, shaking).await.map_err(|_| timed_out())?.map_err(failed)?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(|leaf| Certificate::of(leaf)).transpose();
    let certificate =
        certificate.map_err(|unfit| Failed { cause: Refused::CertificateName, why: unfit.to_string() })?;
    Ok((stream, Peer { address, certificate: certificate.map(Arc::new) }))
}

fn failed(error: io::Error) -> Failed {
    let cause = match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => cause(error),
        None => Refused::HandshakeBroken,
    };
    Failed { cause, why: error.to_string() }
}

fn cause(error: &rustls::Error) -> Refused {
    use rustls::Error;
    match error {
        Error::NoCertificatesPresented => Refused::CertificateMissing,
        Error::InvalidCertificate(wrong) => of_certificate(wrong),
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Refused::Unsupported,
        Error::AlertReceived(_) => Refused::ByPeer,
        _ => Refused::HandshakeBroken,
    }
}

fn of_certificate(wrong: &CertificateError) -> Refused {
    match wrong {
        CertificateError::UnknownIssuer => Refused::CertificateAuthority,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refused::CertificateExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Refused::CertificateNotYetValid
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Refused::CertificatePurpose
        }
        CertificateError::BadSignature => Refused::CertificateSignature,
        CertificateError::Other(other) if other.0.is::<Unfit>() => Refused::CertificateName,
        _ => Refused::CertificateInvalid,
    }
}
