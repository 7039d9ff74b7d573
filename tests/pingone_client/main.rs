//! The PingOne client over real HTTP: what it sends, what it makes of each answer, and how it comes by its token.

mod table;
mod token;
mod wire;

use std::{error::Error, future::poll_fn, net::SocketAddr, pin::Pin, task::Poll, time::Duration};

use pingone_unblock::{
    device::{DeviceRef, EnvironmentId, Lane},
    job::{Failure, JobId},
    pingone::{Answer, ApiPath, AuthPath, Client, ClientAuth, Credential, Origin, PingOneError, Settings},
    simulator::{self, Device, Simulator},
};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

type Tested = Result<(), Box<dyn Error>>;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A running simulator and a client of it. Stops when dropped.
struct PingOne {
    simulator: Simulator,
    address: SocketAddr,
    client: Client,
    _stop: DropGuard,
}

async fn start() -> Result<PingOne, Box<dyn Error>> {
    start_with(ClientAuth::Basic, |_| ()).await
}

async fn start_with(
    method: ClientAuth,
    change: impl FnOnce(&mut Settings),
) -> Result<PingOne, Box<dyn Error>> {
    let simulator = Simulator::new(simulator::Settings::default());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let (served, stop) = (simulator.clone(), shutdown.clone());
    tokio::spawn(async move { served.run(listener, stop).await });
    let mut settings = Settings::new(api(address)?, worker(address, method)?);
    change(&mut settings);
    let client = Client::new(settings)?;
    Ok(PingOne { simulator, address, client, _stop: shutdown.drop_guard() })
}

impl PingOne {
    async fn unblock(&self) -> Answer {
        unblock(&self.client).await
    }

    /// The failure of an attempt that must not succeed.
    async fn failure(&self) -> Result<Failure, Box<dyn Error>> {
        Ok(self.unblock().await.outcome.err().ok_or("the attempt succeeded")?)
    }
}

async fn unblock(client: &Client) -> Answer {
    client.unblock(&example(), job(), &Origin { trace_parent: Some(TRACE), resent: 0 }).await
}

fn api(address: SocketAddr) -> Result<ApiPath, Box<dyn Error>> {
    Ok(ApiPath::parse(&format!("http://{address}"))?)
}

fn worker(address: SocketAddr, method: ClientAuth) -> Result<Credential, Box<dyn Error>> {
    Ok(Credential::ClientSecret {
        auth: AuthPath::parse(&format!("http://{address}"))?,
        environment: environment(),
        client_id: simulator::CLIENT_ID.to_owned(),
        client_secret: SecretString::from(simulator::CLIENT_SECRET),
        method,
    })
}

fn example() -> DeviceRef {
    Device::example().reference()
}

fn environment() -> EnvironmentId {
    example().environment
}

fn job() -> JobId {
    JobId::new(Lane::from_stored(7))
}

/// Polls a future once, so that it has begun, and says whether it ended.
async fn begin<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
    poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn settings_no_client_can_be_made_of_are_refused() -> Tested {
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    let token = |text: &str| Credential::AccessToken(SecretString::from(text));
    for wrong in ["", "two words", "a token\n"] {
        let refused = Client::new(Settings::new(api(address)?, token(wrong)));
        assert!(matches!(refused, Err(PingOneError::AccessToken)), "{wrong:?}");
    }
    let mut settings = Settings::new(api(address)?, token("t"));
    settings.connect_timeout = settings.attempt_deadline + Duration::from_secs(1);
    assert!(matches!(Client::new(settings), Err(PingOneError::Deadlines)));
    let mut empty = worker(address, ClientAuth::Post)?;
    if let Credential::ClientSecret { client_secret, .. } = &mut empty {
        *client_secret = SecretString::from("");
    }
    let refused = Client::new(Settings::new(api(address)?, empty));
    assert!(matches!(refused, Err(PingOneError::EmptyCredential)));
    Ok(())
}
