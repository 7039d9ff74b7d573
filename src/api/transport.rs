//! Connections to the gRPC port: accept, TLS, HTTP/1.1 or HTTP/2 with every limit said, and an end to each.

mod activity;
mod certificate;
mod handshake;
mod room;
mod tls;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::Instant,
};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::Service;

use super::STREAM_AT_MOST;
use crate::{auth::Peer, reload::Current, telemetry::metrics};

pub use certificate::OwnCertificate;
pub use tls::TlsFiles;

use activity::{Activity, Due, Told};
use handshake::Failed;
use room::{Place, Room};

const STREAMS_PER_CONNECTION: u32 = 256;
const HEADERS_AT_MOST: u32 = 16 * 1024;
const FRAME_AT_MOST: u32 = 16 * 1024;
/// What may be under way unasked-for on a stream, and on all of a connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// What waits of one answer for a peer that reads slowly.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a peer has reset before they were looked at, and that were reset for what it did: more end the connection.
const RESETS_UNSEEN: usize = 20;
const RESETS_OF_OURS: usize = 1024;
/// A request of HTTP/1.1 before its body.
const HTTP1_BUFFER: usize = 64 * 1024;
/// A listener that fails (too many open files) is asked again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Ages are spread, so that not all callers of a replica come again at once.
const AGE_JITTER: f64 = 0.1;

/// What connections are like.
#[derive(Debug, Clone)]
pub struct Transport {
    /// What handshakes are made with; plain text without it.
    pub tls: Option<Current<ServerConfig>>,
    /// How many connections there may be.
    pub connections: usize,
    /// How long everything may take.
    pub pace: Pace,
}

/// How long what a peer does may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Its handshake.
    pub handshake: Duration,
    /// A request, from its head to the end of its body; the head itself, on HTTP/1.1; the taking of an answer.
    pub arrive: Duration,
    /// A call that is no stream, until it is answered.
    pub unary: Duration,
    /// A connection without a call.
    pub idle: Duration,
    /// A connection, more or less; its calls may end after that.
    pub age: Duration,
    /// Between a peer's last frame and the question whether it is still there.
    pub ping: Duration,
    /// Until it has answered that. A head that comes in pieces holds the answer up, so this ends it too.
    pub pong: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            arrive: Duration::from_secs(30),
            unary: Duration::from_secs(35),
            idle: Duration::from_secs(5 * 60),
            // A little longer than streams live, so that a connection ends when its streams have.
            age: Duration::from_secs(31 * 60),
            ping: Duration::from_secs(15),
            pong: Duration::from_secs(15),
        }
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self { tls: None, connections: 1024, pace: Pace::default() }
    }
}

/// What all connections share.
struct Shared<S> {
    tls: Option<Current<ServerConfig>>,
    pace: Pace,
    http: auto::Builder<TokioExecutor>,
    service: S,
    shutdown: CancellationToken,
}

impl Transport {
    /// Has `service` answer on `listener` until `shutdown`; then takes no new connection, ends each once its calls are answered,
    /// and returns when all have ended.
    pub(super) async fn run<S>(self, listener: TcpListener, service: S, shutdown: CancellationToken)
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let room = Room::new(self.connections);
        let shared = Arc::new(Shared {
            http: http(&self.pace),
            tls: self.tls,
            pace: self.pace,
            service,
            shutdown: shutdown.clone(),
        });
        let mut connections = JoinSet::new();
        loop {
            let (stream, address) = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                },
                // Ended ones are forgotten.
                Some(_) = connections.join_next() => continue,
                () = shutdown.cancelled() => break,
            };
            match room.enter(address.ip()) {
                Ok(place) => {
                    connections.spawn(Arc::clone(&shared).serve(stream, address, place));
                }
                Err(cause) => {
                    metrics().security.refused(cause);
                    tracing::debug!(cause = cause.name(), peer = %address, "a connection was refused");
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }
}

impl<S> Shared<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr, _place: Place) {
        // Small messages that a person waits for.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.speak(stream, Peer { address, certificate: None }).await;
        };
        let shaken = tokio::select! {
            shaken = handshake::shake(stream, address, tls.get(), self.pace.handshake) => shaken,
            () = self.shutdown.cancelled() => return,
        };
        match shaken {
            Ok((stream, peer)) => Box::pin(self.speak(stream, peer)).await,
            Err(Failed { cause, why }) => {
                metrics().security.refused(cause);
                tracing::debug!(cause = cause.name(), %why, peer = %address, "a handshake failed");
            }
        }
    }

    async fn speak<T>(&self, stream: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Pace { idle, age, arrive, unary, .. } = self.pace;
        let activity = Activity::new();
        let told =
            Told { inner: self.service.clone(), peer, activity: activity.clone(), unary: unary + arrive };
        // A peer that sends and does not read holds up what would end it otherwise: the last word waits for it to be taken.
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(arrive));
        let stream = TokioIo::new(Box::pin(stream));
        let connection = self.http.serve_connection(stream, TowerToHyperService::new(told));
        tokio::pin!(connection);
        let old = Instant::now() + age.mul_f64(1.0 + AGE_JITTER * (2.0 * fastrand::f64() - 1.0));
        let mut look = Instant::now();
        let mut ends: Option<Instant> = None;
        let ended = loop {
            let until = look.min(ends.unwrap_or(old));
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = self.shutdown.cancelled(), if ends.is_none() => {}
                () = tokio::time::sleep_until(until) => {}
            }
            let now = Instant::now();
            let due = activity.due(now, idle, arrive);
            if ends.is_some_and(|at| at <= now) || due == Due::Stuck {
                tracing::debug!("a connection was cut that did not end");
                return;
            }
            if ends.is_none() && (self.shutdown.is_cancelled() || old <= now || due == Due::Idle) {
                connection.as_mut().graceful_shutdown();
                // By then its streams have ended.
                ends = Some(now + if due == Due::Idle { arrive } else { STREAM_AT_MOST + unary });
            }
            look = match due {
                Due::Look(at) => at,
                Due::Idle | Due::Stuck => now + arrive,
            };
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }
}

fn http(pace: &Pace) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_header_list_size(HEADERS_AT_MOST)
        .max_frame_size(FRAME_AT_MOST)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS_UNSEEN)
        .max_local_error_reset_streams(RESETS_OF_OURS)
        // Fixed: finding out how much may be under way costs a ping with every call.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(pace.ping)
        .keep_alive_timeout(pace.pong);
    http.http1().timer(TokioTimer::new()).header_read_timeout(pace.arrive).max_buf_size(HTTP1_BUFFER);
    http
}
