//! A server that means harm: it hears a request as HTTP has it, and answers in bytes, as it likes.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

use crate::harness::Result;

/// What it would send at most of what has no end.
pub(super) const OFFERED: u64 = 64 * 1024 * 1024;
/// Little is under way between the two: what was sent was read, or nearly.
const SEND_BUFFER: u32 = 64 * 1024;
const DRIP: Duration = Duration::from_millis(20);

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(super) enum Says {
    /// This; then it hears the next request.
    Bytes(Vec<u8>),
    /// This; then it closes the connection.
    Last(Vec<u8>),
    /// This; then it resets the connection.
    Reset(Vec<u8>),
    /// The first once, the other [`OFFERED`] bytes long.
    Flood(Vec<u8>, Vec<u8>),
    /// The first once, the other byte by byte and again, slowly, for ever.
    Drip(Vec<u8>, Vec<u8>),
}

type Answer = Box<dyn Fn(&str) -> Says + Send + Sync>;

/// A running server. Stops when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _running: AbortOnDropHandle<()>,
}

struct Shared {
    answer: Answer,
    connections: AtomicUsize,
    flooded: AtomicU64,
    heads: Mutex<Vec<String>>,
}

impl Server {
    /// Answers each request by its head.
    pub(super) fn start(answer: impl Fn(&str) -> Says + Send + Sync + 'static) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Handed on to what it accepts.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            connections: AtomicUsize::default(),
            flooded: AtomicU64::default(),
            heads: Mutex::default(),
        });
        let running = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _running: AbortOnDropHandle::new(running) })
    }

    pub(super) fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many came.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How much of all floods found somebody who took it.
    pub(super) fn flooded(&self) -> u64 {
        self.shared.flooded.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub(super) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        // Whoever is served badly goes away: that is no error here.
        connections.spawn(async move { drop(serve(stream, &shared).await) });
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let head = hear(&mut stream).await?;
        let says = (shared.answer)(&head);
        shared.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        match says {
            Says::Bytes(bytes) => stream.write_all(&bytes).await?,
            Says::Last(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Says::Reset(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.set_zero_linger();
            }
            Says::Flood(first, again) => return flood(&mut stream, shared, &first, &again).await,
            Says::Drip(first, again) => {
                stream.write_all(&first).await?;
                for byte in again.iter().cycle() {
                    stream.write_all(&[*byte]).await?;
                    tokio::time::sleep(DRIP).await;
                }
            }
        }
    }
}

async fn flood(stream: &mut TcpStream, shared: &Shared, first: &[u8], again: &[u8]) -> io::Result<()> {
    stream.write_all(first).await?;
    let many = again.repeat((64 * 1024 / again.len()).max(1));
    let mut sent = 0;
    while sent < OFFERED {
        let written = stream.write(&many[(sent as usize) % many.len()..]).await? as u64;
        sent += written;
        shared.flooded.fetch_add(written, Ordering::SeqCst);
    }
    stream.shutdown().await
}

/// One request with its body, as far as its length was said; the head alone is given.
async fn hear(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&piece[..read]),
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length: ").and_then(|length| length.parse::<usize>().ok())
        });
        if body.len() >= length.unwrap_or_default() {
            return Ok(head.to_owned());
        }
    }
}
