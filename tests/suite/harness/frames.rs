//! A client of HTTP/2 that writes its frames itself (RFC 9113, 4.1), also such as no library would send.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, watch},
};

use super::Result;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;

/// Kinds of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const CONTINUATION: u8 = 9;
}

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Error codes.
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame as it is written.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = Vec::with_capacity(HEAD + payload.len());
    frame.extend_from_slice(&length[1..]);
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The head of a gRPC call to `path`, with nothing to be remembered (RFC 7541: indexed fields, literals without indexing).
pub(crate) fn head(path: &str) -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    head.extend(literal(&[0x04], path));
    head.extend(literal(&[0x01], "localhost"));
    head.extend(literal(&[0x0f, 0x10], "application/grpc"));
    head.extend(field("te", "trailers"));
    head
}

/// A field of any name, both shorter than a length of one byte can say.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut named = vec![0x00, u8::try_from(name.len()).unwrap_or(126)];
    named.extend_from_slice(name.as_bytes());
    literal(&named, value)
}

fn literal(name: &[u8], value: &str) -> Vec<u8> {
    let mut field = name.to_vec();
    field.push(u8::try_from(value.len()).unwrap_or(126));
    field.extend_from_slice(value.as_bytes());
    field
}

/// What the server sent until it ended the connection, or the reader was stopped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// The code of the last GOAWAY.
    pub(crate) goaway: Option<u32>,
    /// Streams that it reset, by code.
    pub(crate) refused: usize,
    pub(crate) reset: usize,
    /// Streams that it answered to the end.
    pub(crate) answered: usize,
    /// Pieces of its answers.
    pub(crate) messages: usize,
    /// SETTINGS and PINGs it has acknowledged.
    pub(crate) acknowledged: usize,
}

/// One connection.
pub(crate) struct Frames {
    write: Arc<Mutex<OwnedWriteHalf>>,
    heard: watch::Receiver<Heard>,
}

/// A connection to `address` from another address of this machine than that of ordinary callers.
pub(crate) async fn stranger(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
    socket.connect(address).await
}

impl Frames {
    /// Says hello, and reads whatever comes. Answers nothing, no ping either.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        Self::with(address, false).await
    }

    /// That answers pings, so that it counts as living.
    pub(crate) async fn living(address: SocketAddr) -> Result<Self> {
        Self::with(address, true).await
    }

    async fn with(address: SocketAddr, answers: bool) -> Result<Self> {
        let (read, mut write) = stranger(address).await?.into_split();
        write.write_all(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat()).await?;
        let (telling, heard) = watch::channel(Heard::default());
        let write = Arc::new(Mutex::new(write));
        tokio::spawn(listen(read, telling, answers.then(|| Arc::clone(&write))));
        Ok(Self { write, heard })
    }

    /// Sends that; false where the server does not take any more.
    pub(crate) async fn send(&self, bytes: &[u8]) -> bool {
        self.write.lock().await.write_all(bytes).await.is_ok()
    }

    /// Waits until that was heard, or the server has ended the connection.
    pub(crate) async fn until(&self, enough: impl FnMut(&Heard) -> bool) {
        let _ = self.heard.clone().wait_for(enough).await;
    }

    /// How many streams were answered so far.
    pub(crate) fn answered(&self) -> usize {
        self.heard.borrow().answered
    }

    /// Whether the connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.heard.has_changed().is_err()
    }

    /// What was heard, once the server has ended the connection.
    pub(crate) async fn ended(self) -> Heard {
        self.until(|_| false).await;
        self.heard.borrow().clone()
    }

    /// Ends the connection from this side: what was heard until then.
    pub(crate) async fn close(self) -> Heard {
        let _ = self.write.lock().await.shutdown().await;
        self.ended().await
    }
}

async fn listen(
    mut read: OwnedReadHalf,
    telling: watch::Sender<Heard>,
    answering: Option<Arc<Mutex<OwnedWriteHalf>>>,
) {
    // What ends it is the end, also where it is an error: a reset.
    while let Ok((kind, flags, payload)) = next(&mut read).await {
        telling.send_modify(|heard| heard.note(kind, flags, &payload));
        if let (Some(write), kind::PING, 0) = (&answering, kind, flags) {
            let _ = write.lock().await.write_all(&frame(kind::PING, ACK, 0, &payload)).await;
        }
    }
}

impl Heard {
    fn note(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let number = |at: usize| {
            payload.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes)
        };
        match kind {
            kind::GOAWAY => self.goaway = Some(number(4)),
            kind::RST_STREAM if number(0) == REFUSED_STREAM => self.refused += 1,
            kind::RST_STREAM => self.reset += 1,
            kind::SETTINGS | kind::PING if flags & ACK != 0 => self.acknowledged += 1,
            kind::DATA => self.messages += 1,
            kind::HEADERS if flags & END_STREAM != 0 => self.answered += 1,
            _ => {}
        }
    }
}

async fn next(read: &mut OwnedReadHalf) -> io::Result<(u8, u8, Vec<u8>)> {
    let mut head = [0; HEAD];
    read.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    read.read_exact(&mut payload).await?;
    Ok((head[3], head[4], payload))
}
