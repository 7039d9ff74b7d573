//! `demo`: everything on this machine, for real: a private Postgres, a simulated PingOne, the server, one unblock.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser as _};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{Cli, NAME, error::Error, exit::Exit, screen::Screen, signals};
use crate::{
    api,
    app::{App, AppError, Listeners, Reloads, Settings},
    auth::Policy,
    device::EnvironmentId,
    engine::{self, Limits, Route, Routes},
    pingone::{self, ApiPath, AuthPath, Client, ClientAuth, Credential},
    postgres::{Cluster, Options},
    simulator::{self, CLIENT_ID, CLIENT_SECRET, Simulator},
    store::{Access, Role},
    telemetry,
};

/// Starts everything on this machine, unblocks the device of PingOne's own documentation and keeps serving
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// End after the unblock
    #[arg(long)]
    once: bool,
    /// Where to answer calls; port 0: any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// Folder of the private Postgres
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

/// The device of PingOne's page «Unblock MFA User Device».
const ENVIRONMENT: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
const USER: &str = "b30ac647-e33e-464f-a6ea-0275082d4c26";
const DEVICE: &str = "6697f628-7712-4e71-b52b-920ba0635020";

const ANY_PORT: &str = "127.0.0.1:0";
const READY_WITHIN: Duration = Duration::from_secs(30);

impl Demo {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        // The states are shown anyway: only what someone should act on is worth a line.
        let filter = telemetry::Filter::parse("warn").map_err(Error::failed)?;
        let options = telemetry::Options { filter, ..telemetry::Options::default() };
        let _telemetry = telemetry::init(&options).map_err(Error::failed)?;
        let shutdown = signals::shutdown().map_err(Error::failed)?;
        screen.say("starting a private PostgreSQL …");
        let folder = self.data.clone().unwrap_or_else(default_folder);
        let cluster = Cluster::start(Options::new(folder)).await.map_err(Error::failed)?;
        let ended = self.with_database(screen, &cluster, shutdown).await;
        cluster.stop().await.map_err(Error::failed)?;
        ended
    }

    async fn with_database(
        &self,
        screen: &Screen,
        cluster: &Cluster,
        shutdown: CancellationToken,
    ) -> Result<Exit, Error> {
        screen
            .detail("Postgres", &format!("127.0.0.1:{}, in {}", cluster.port(), cluster.folder().display()));
        let ended = CancellationToken::new();
        let _ends_with_this = ended.clone().drop_guard();
        let pingone = simulate(ended).await?;
        screen.detail("PingOne", &format!("simulated, http://{pingone}"));
        let (server, running) = self.serve(&cluster.url("postgres"), pingone, shutdown.clone()).await?;
        screen.detail("server", &format!("http://{server}"));

        let unblocked = tokio::select! {
            unblocked = unblock(screen, server) => unblocked?,
            () = shutdown.cancelled() => Exit::Interrupted,
        };
        if !self.once && unblocked == Exit::Done {
            screen.say(&format!("\nserving on http://{server} until Ctrl-C; try"));
            screen.detail("", &format!("{NAME} job list --environment {ENVIRONMENT}{}", at(server)));
            screen.detail("", &format!("{NAME} unblock {ENVIRONMENT} {USER} <any UUID>{}", at(server)));
            shutdown.cancelled().await;
            screen.say("ending …");
        }
        shutdown.cancel();
        running.await.map_err(Error::failed)?.map_err(Error::failed)?;
        Ok(unblocked)
    }

    async fn serve(
        &self,
        database: &str,
        pingone: SocketAddr,
        shutdown: CancellationToken,
    ) -> Result<(SocketAddr, JoinHandle<Result<(), AppError>>), Error> {
        let settings = settings(database, pingone).map_err(Error::failed)?;
        let listeners = Listeners { grpc: bind(self.listen).await?, admin: bind(any_port()).await? };
        let address = listeners.grpc.local_addr().map_err(Error::failed)?;
        let app = App::build(settings).await.map_err(Error::failed)?;
        let readiness = app.readiness();
        let running = tokio::spawn(app.run(listeners, shutdown));
        let ready = tokio::time::timeout(READY_WITHIN, async {
            while readiness.reason().is_some() && !running.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        if ready.await.is_err() {
            return Err(Error::Failed(readiness.reason().unwrap_or_default()));
        }
        Ok((address, running))
    }
}

/// Runs the very command a user would.
async fn unblock(screen: &Screen, server: SocketAddr) -> Result<Exit, Error> {
    let arguments = format!("unblock {ENVIRONMENT} {USER} {DEVICE}{}", at(server));
    screen.say(&format!("\n$ {NAME} {arguments}"));
    let command = Cli::try_parse_from(std::iter::once(NAME).chain(arguments.split(' ')));
    let command = command.map_err(|error| Error::Failed(error.to_string()))?.command;
    Box::pin(command.run(screen)).await
}

/// How a command is told where the server is, where it would not find it by itself.
fn at(server: SocketAddr) -> String {
    match server.to_string().as_str() {
        "127.0.0.1:50051" => String::new(),
        elsewhere => format!(" --server http://{elsewhere}"),
    }
}

async fn simulate(ended: CancellationToken) -> Result<SocketAddr, Error> {
    let listener = bind(any_port()).await?;
    let address = listener.local_addr().map_err(Error::failed)?;
    let settings = simulator::Settings {
        latency: Duration::from_millis(40),
        api_base: Some("https://api.pingone.eu/v1".to_owned()),
        ..simulator::Settings::default()
    };
    let simulator = Simulator::new(settings);
    tokio::spawn(async move { simulator.run(listener, ended).await });
    Ok(address)
}

fn settings(database: &str, pingone: SocketAddr) -> Result<Settings, anyhow::Error> {
    let base = format!("http://{pingone}");
    let credential = Credential::ClientSecret {
        auth: AuthPath::parse(&base)?,
        environment: EnvironmentId::parse(ENVIRONMENT)?,
        client_id: CLIENT_ID.to_owned(),
        client_secret: CLIENT_SECRET.into(),
        method: ClientAuth::Basic,
    };
    let client = Client::new(pingone::Settings::new(ApiPath::parse(&base)?, credential))?;
    let route = Route { client, limits: Limits { rate: 20.0, max_in_flight: 32 }, limit_group: None };
    let routes = Routes { default: Some(route), ..Routes::default() };
    Ok(Settings {
        access: Access { url: database.into(), direct_url: database.into(), pooled: false, connections: 16 },
        migrate: true,
        hold: false,
        engine: engine::Settings {
            grace: Duration::from_secs(12),
            ..engine::Settings::new(Role::All, routes)
        },
        api: api::Options { concurrent_calls: 1024, reflection: true, transport: api::Transport::default() },
        admission: api::Admission::off(Policy::open().without_device_bound()),
        reloads: Reloads::default(),
    })
}

fn any_port() -> SocketAddr {
    ANY_PORT.parse().expect("the text above is an address")
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::Failed(format!(
            "cannot listen on {address}: {error}; choose another with --listen 127.0.0.1:0"
        ))
    })
}

/// Where data of programs lives, else below the folder for temporary files.
fn default_folder() -> PathBuf {
    let of = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = of("XDG_DATA_HOME").or_else(|| of("HOME").map(|home| home.join(".local/share")));
    data.unwrap_or_else(std::env::temp_dir).join(NAME).join("demo")
}
