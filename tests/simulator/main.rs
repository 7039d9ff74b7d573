//! The simulator on the wire: what PingOne documents, each fault, the control API, and what is noted of clients.

mod control;
mod documented;
mod faults;
mod ledger;

use std::{error::Error, net::SocketAddr};

use pingone_unblock::{
    device::{DeviceId, DeviceRef, EnvironmentId, UserId},
    simulator::{Device, Settings, Simulator},
};
use reqwest::{Client, RequestBuilder, Response, redirect::Policy};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

type Tested = Result<(), Box<dyn Error>>;

const UNBLOCK: &str = "application/vnd.pingidentity.device.unblock+json";
const BLOCK: &str = "application/vnd.pingidentity.device.block+json";

/// A running simulator, a client and a token. Stops when dropped.
struct PingOne {
    simulator: Simulator,
    address: SocketAddr,
    client: Client,
    token: String,
    _stop: DropGuard,
}

async fn start(settings: Settings) -> Result<PingOne, Box<dyn Error>> {
    let simulator = Simulator::new(settings);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let (served, stop) = (simulator.clone(), shutdown.clone());
    tokio::spawn(async move { served.run(listener, stop).await });
    let client = Client::builder().redirect(Policy::none()).no_proxy().build()?;
    let token = simulator.issue_token();
    Ok(PingOne { simulator, address, client, token, _stop: shutdown.drop_guard() })
}

impl PingOne {
    fn url(&self, device: DeviceRef) -> String {
        let DeviceRef { environment, user, device } = device;
        self.at(&format!("/v1/environments/{environment}/users/{user}/devices/{device}"))
    }

    fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn post(&self, device: DeviceRef, media_type: &str) -> RequestBuilder {
        let request = self.client.post(self.url(device)).bearer_auth(&self.token);
        request.header("content-type", media_type).header("content-length", "0")
    }

    fn unblock(&self, device: DeviceRef) -> RequestBuilder {
        self.post(device, UNBLOCK)
    }

    async fn unblocked(&self, device: DeviceRef) -> reqwest::Result<Response> {
        self.unblock(device).send().await
    }

    fn get(&self, url: String) -> RequestBuilder {
        self.client.get(url).bearer_auth(&self.token)
    }
}

fn example() -> DeviceRef {
    Device::example().reference()
}

/// A device nobody registered.
fn unknown(number: u128) -> DeviceRef {
    let id = |kind: u128| uuid::Builder::from_random_bytes(((kind << 64) + number).to_be_bytes()).into_uuid();
    DeviceRef {
        environment: EnvironmentId::from(id(1)),
        user: UserId::from(id(2)),
        device: DeviceId::from(id(3)),
    }
}
