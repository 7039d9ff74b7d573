//! One TLS handshake: who is at the other end, or why it was refused.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{CertificateError, ServerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    auth::{Certificate, Peer, Unfit},
    telemetry::metrics::Refused,
};

/// How long, and how much, somebody who was refused is still listened to.
const LINGER: Duration = Duration::from_secs(1);
const HEARD_AT_MOST: u64 = 64 * 1024;

/// Why a connection did not come about.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) cause: Refused,
    pub(super) why: String,
}

/// Shakes hands within `limit`. Nothing else bounds how many do at once: places for it could be taken by who never ends.
pub(super) async fn shake(
    stream: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    limit: Duration,
) -> Result<(TlsStream<TcpStream>, Peer), Failed> {
    let shaking = TlsAcceptor::from(config).accept(stream).into_fallible();
    let timed_out = || Failed { cause: Refused::HandshakeTimeout, why: "it took too long".to_owned() };
    let stream = match tokio::time::timeout(limit, shaking).await.map_err(|_| timed_out())? {
        Ok(stream) => stream,
        Err((error, stream)) => {
            let _ = tokio::time::timeout(LINGER, hear_out(stream)).await;
            return Err(failed(error));
        }
    };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = shown.map(|leaf| Certificate::of(leaf)).transpose();
    let certificate =
        certificate.map_err(|unfit| Failed { cause: Refused::CertificateName, why: unfit.to_string() })?;
    Ok((stream, Peer { address, certificate: certificate.map(Arc::new) }))
}

/// With TLS 1.3 a client has sent its first request by the time it is refused. To close with that unread would reset the connection,
/// and the client would not get to know why.
async fn hear_out(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut stream.take(HEARD_AT_MOST), &mut tokio::io::sink()).await;
    }
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
