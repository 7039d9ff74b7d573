//! gRPC calls over HTTP/2 without a client's layers: what is measured shares the machine with who measures.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Version, header};
use tokio::net::TcpStream;

/// Bytes that the server may send before it hears from us.
const WINDOW: u32 = 4 << 20;
/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// One connection; many calls at once.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
}

/// What came back.
pub(crate) struct Reply {
    /// The gRPC code.
    pub(crate) code: u16,
    /// The message without its frame.
    pub(crate) message: Bytes,
}

/// The head of every call of a method.
pub(crate) fn head(server: SocketAddr, path: &str) -> Result<Request<()>> {
    let request = Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{server}{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header("grpc-timeout", format!("{}S", DEADLINE.as_secs()));
    Ok(request.body(())?)
}

/// A message in its frame.
pub(crate) fn framed(message: &impl prost::Message) -> Result<Bytes> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length)?);
    message.encode(&mut frame)?;
    Ok(frame.freeze())
}

impl Connection {
    pub(crate) async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await?;
        // It ends with the connection; the calls on it say why.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub(crate) async fn call(&self, head: &Request<()>, frame: Bytes) -> Result<Reply> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut body) = sender.send_request(head.clone(), false)?;
        body.send_data(frame, true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut message = Bytes::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            message = if message.is_empty() { piece } else { [message, piece].concat().into() };
        }
        let trailers = body.trailers().await?;
        let code = code(&head.headers).or_else(|| code(trailers.as_ref()?)).context("no grpc-status")?;
        Ok(Reply { code, message: message.slice(message.len().min(5)..) })
    }
}

fn code(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
