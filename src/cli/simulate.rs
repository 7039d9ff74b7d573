//! `simulate`: the PingOne simulator alone, and callers where they are asked for.

mod callers;

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use tokio::net::TcpListener;

use callers::Callers;

use super::{args, error::Error, exit::Exit, screen::Screen, signals};
use crate::{
    simulator::{CLIENT_ID, CLIENT_SECRET, Settings, Simulator},
    telemetry,
};

/// Plays PingOne on this machine: tokens, devices, limits, and faults on request
#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9080")]
    listen: SocketAddr,
    /// Client id of its worker application
    #[arg(long, value_name = "ID", default_value = CLIENT_ID)]
    client_id: String,
    /// How long every answer takes
    #[arg(long, value_name = "DURATION", default_value = "30ms", value_parser = args::duration)]
    latency: Duration,
    /// Up to so much longer, evenly spread
    #[arg(long, value_name = "DURATION", default_value = "20ms", value_parser = args::duration)]
    jitter: Duration,
    /// Requests that its licence allows in any one second; none: any number
    #[arg(long, value_name = "RATE")]
    rate_limit: Option<u32>,
    /// How long a token is good for
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = args::duration)]
    token_lifetime: Duration,
    /// Only registered devices exist; otherwise every device does, blocked
    #[arg(long)]
    strict: bool,
    /// How many requests are remembered; with 0 no device but registered ones is, either, which costs least
    #[arg(long, value_name = "NUMBER", default_value_t = Settings::default().records)]
    records: usize,
    /// Refuse to unblock what is not blocked: PingOne's documents leave it open
    #[arg(long)]
    refuse_unblocked: bool,
    #[command(flatten)]
    callers: Callers,
}

impl Simulate {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let _telemetry = telemetry::init(&telemetry::Options::default()).map_err(Error::failed)?;
        let shutdown = signals::shutdown().map_err(Error::failed)?;
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(|error| Error::Failed(format!("cannot listen on {}: {error}", self.listen)))?;
        let address = listener.local_addr().map_err(Error::failed)?;
        screen.say(&format!("a simulated PingOne listens on http://{address}; point a server at it with"));
        screen.detail("", &format!("PINGONE_API_PATH=http://{address} PINGONE_AUTH_PATH=http://{address}"));
        screen.detail(
            "",
            &format!("PINGONE_CLIENT_ID={} PINGONE_CLIENT_SECRET={CLIENT_SECRET}", self.client_id),
        );
        screen.detail("", "PINGONE_AUTH_ENVIRONMENT_ID=abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6");
        let settings = Settings {
            client_id: self.client_id,
            latency: self.latency,
            jitter: self.jitter,
            rate_limit: self.rate_limit,
            token_lifetime: self.token_lifetime,
            strict: self.strict,
            records: self.records,
            refuse_unblocked: self.refuse_unblocked,
            ..Settings::default()
        };
        let simulator = Simulator::new(settings);
        tokio::join!(simulator.run(listener, shutdown.clone()), self.callers.run(&shutdown));
        let counts = simulator.counts();
        screen.say(&format!(
            "{} requests, {} POSTs, {} not as documented",
            counts.requests, counts.posts, counts.deviations
        ));
        Ok(Exit::Done)
    }
}
