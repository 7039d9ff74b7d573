//! A TCP proxy that lets through as much as it is told to, and cuts what runs through it on demand.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Result;

/// Between clients and one server that may change its address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _running: DropGuard,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// Ends the connections there are.
    cut: Mutex<CancellationToken>,
    /// Bytes that clients may still send.
    allowed: Semaphore,
    /// How long what clients send is on its way.
    delay: Mutex<Duration>,
}

impl Proxy {
    /// Lets nothing through that clients send.
    pub(crate) async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            cut: Mutex::default(),
            allowed: Semaphore::new(0),
            delay: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let (accepting, stopped) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            stopped.run_until_cancelled(accept(listener, accepting, stopped.clone())).await;
        });
        Ok(Self { address, shared, _running: stop.drop_guard() })
    }

    /// New connections go there.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *held(&self.shared.target) = target;
    }

    /// Clients may send so many bytes more.
    pub(crate) fn allow(&self, bytes: usize) {
        self.shared.allowed.add_permits(bytes);
    }

    /// From now on what clients send takes so long to arrive.
    pub(crate) fn delay(&self, delay: Duration) {
        *held(&self.shared.delay) = delay;
    }

    /// Whether clients have sent all that they may.
    pub(crate) fn is_used_up(&self) -> bool {
        self.shared.allowed.available_permits() == 0
    }

    /// Ends every connection, in the middle of whatever it carries.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *held(&self.shared.cut)).cancel();
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stopped: CancellationToken) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let (cut, stopped) = (held(&shared.cut).clone(), stopped.clone());
        tokio::spawn(async move {
            let target = *held(&shared.target);
            // A server that is not there: the client sees a connection that ends.
            let Ok(server) = TcpStream::connect(target).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = cut.cancelled() => {}
                () = stopped.cancelled() => {}
                _ = copy(from_client, to_server, Some(&shared)) => {}
                _ = copy(from_server, to_client, None) => {}
            }
        });
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    limits: Option<&Shared>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if let Some(limits) = limits {
            let delay = *held(&limits.delay);
            tokio::time::sleep(delay).await;
        }
        for some in buffer[..read].chunks(256) {
            if let Some(limits) = limits {
                let bytes = u32::try_from(some.len()).expect("a chunk is small");
                limits.allowed.acquire_many(bytes).await.expect("it is never closed").forget();
            }
            to.write_all(some).await?;
        }
    }
}
