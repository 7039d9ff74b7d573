//! Connections. An accept loop of our own, because a fault may have to reset a connection.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{Simulator, exchange::exchange};

/// A pause when the system has nothing left to accept with.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// The connection a request came on.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) number: u64,
    reset: Arc<Notify>,
}

impl Link {
    /// Has the connection reset as soon as its task gets to it.
    pub(super) fn reset(&self) {
        self.reset.notify_one();
    }
}

/// Serves until `shutdown`; then every connection ends, whatever it is doing.
pub(super) async fn run(simulator: &Simulator, listener: TcpListener, shutdown: CancellationToken) {
    let count = AtomicU64::new(0);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let number = count.fetch_add(1, Ordering::Relaxed) + 1;
                connections.spawn(serve(simulator.clone(), stream, number));
            }
            Err(error) if gone_already(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "simulator: cannot accept a connection");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

fn gone_already(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn serve(simulator: Simulator, stream: TcpStream, number: u64) {
    let link = Link { number, reset: Arc::new(Notify::new()) };
    // Small answers must not wait for the acknowledgement of the one before; without it they are only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let (simulator, link) = (simulator.clone(), link.clone());
        async move { exchange(&simulator, &link, request).await }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a connection ends is the caller's affair.
        _ = &mut connection => {}
        () = link.reset.notified() => {
            let stream = connection.into_parts().io.into_inner();
            if let Err(error) = stream.set_zero_linger() {
                tracing::warn!(%error, "simulator: closing a connection that should be reset");
            }
        }
    }
}
