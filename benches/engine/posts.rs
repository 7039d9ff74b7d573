//! A role of this program: POSTs to the simulator as the service makes them, over plain sockets. What is left of the cost is
//! the simulator's own.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use pingone_unblock::simulator::{CLIENT_ID, CLIENT_SECRET};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use uuid::Uuid;

use crate::names;

/// What to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) simulator: SocketAddr,
    pub(crate) in_flight: u32,
    pub(crate) posts: u32,
}

/// Sends them; seconds it took.
pub(crate) async fn run(spec: Spec) -> Result<f64> {
    let token = token(spec.simulator).await?;
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..spec.in_flight {
        tasks.spawn(send(spec.clone(), token.clone(), spec.posts / spec.in_flight));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(begun.elapsed().as_secs_f64())
}

async fn token(simulator: SocketAddr) -> Result<String> {
    let form =
        [("grant_type", "client_credentials"), ("client_id", CLIENT_ID), ("client_secret", CLIENT_SECRET)];
    let url = format!("http://{simulator}/{}/as/token", names::environment(0));
    let answer: serde_json::Value =
        reqwest::Client::new().post(url).form(&form).send().await?.error_for_status()?.json().await?;
    Ok(answer["access_token"].as_str().context("a token")?.to_owned())
}

async fn send(spec: Spec, token: String, posts: u32) -> Result<()> {
    let mut stream = TcpStream::connect(spec.simulator).await?;
    stream.set_nodelay(true)?;
    let path = format!("/v1/environments/{}/users/{}/devices/", names::environment(0), names::user());
    let head = format!(
        " HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\naccept: application/json\r\n\
         content-type: application/vnd.pingidentity.device.unblock+json\r\ncontent-length: 0\r\n\r\n",
        spec.simulator
    );
    let mut answer = Vec::with_capacity(4096);
    for _ in 0..posts {
        let request = format!("POST {path}{}{head}", Uuid::new_v4());
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        while !is_whole(&answer) {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the simulator hung up");
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// Every answer of the simulator says how long it is.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answer[..head]);
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    answer.len() >= head + 4 + length.unwrap_or_default()
}
