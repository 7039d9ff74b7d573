//! A whole service in this process: real Postgres, real gRPC over a socket, a simulated PingOne behind real HTTP.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use pingone_unblock::{
    api,
    app::{App, Listeners, Reloads, Settings},
    auth::Policy,
    device::{DeviceId, DeviceRef, EnvironmentId, UserId},
    engine::{self, Limits, QueueLimits, Route, Routes},
    job::RetryPolicy,
    pingone::{self, ApiPath, AuthPath, Client, ClientAuth, Credential},
    proto::v1::{
        self, device_service_client::DeviceServiceClient,
        environment_service_client::EnvironmentServiceClient, job::State,
        job_service_client::JobServiceClient,
    },
    simulator::{self, Simulator},
    store::{Access, Role},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use uuid::Uuid;

use super::{Result, database::Database};

/// The device of PingOne's own documentation.
pub(crate) const ENVIRONMENT: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
pub(crate) const USER: &str = "b30ac647-e33e-464f-a6ea-0275082d4c26";
pub(crate) const DEVICE: &str = "6697f628-7712-4e71-b52b-920ba0635020";

/// Nothing here takes so long; a test that does hangs.
const PATIENCE: Duration = Duration::from_secs(40);

/// A simulated PingOne on a port of its own.
pub(crate) struct PingOne {
    pub(crate) simulator: Simulator,
    pub(crate) address: SocketAddr,
    _running: DropGuard,
}

impl PingOne {
    pub(crate) async fn start(settings: simulator::Settings) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let simulator = Simulator::new(settings);
        let stop = CancellationToken::new();
        let running = simulator.clone();
        let stopped = stop.clone();
        tokio::spawn(async move { running.run(listener, stopped).await });
        Ok(Self { simulator, address, _running: stop.drop_guard() })
    }

    /// A client with the simulator's own worker application, whose secret is `secret`.
    pub(crate) fn client(&self, secret: &str) -> Result<Client> {
        let base = format!("http://{}", self.address);
        let credential = Credential::ClientSecret {
            auth: AuthPath::parse(&base)?,
            environment: EnvironmentId::parse(ENVIRONMENT)?,
            client_id: simulator::CLIENT_ID.to_owned(),
            client_secret: secret.to_owned().into(),
            method: ClientAuth::Basic,
        };
        Ok(Client::new(pingone::Settings::new(ApiPath::parse(&base)?, credential))?)
    }
}

/// How a service differs from the ordinary one.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) secret: String,
    pub(crate) limits: Limits,
    pub(crate) policy: RetryPolicy,
    pub(crate) role: Role,
    pub(crate) only: Option<EnvironmentId>,
    /// Whether it hears no notification, as behind a transaction pooler.
    pub(crate) deaf: bool,
    /// Environments that share one licence, and its rate.
    pub(crate) grouped: (Vec<EnvironmentId>, f64),
    pub(crate) queue: QueueLimits,
    pub(crate) stale_after: Duration,
    /// Whether it pauses everything when it starts.
    pub(crate) hold: bool,
    pub(crate) retention: Duration,
    /// What its connections are like.
    pub(crate) transport: api::Transport,
    /// Who is let in.
    pub(crate) admission: api::Admission,
}

impl Default for Variant {
    fn default() -> Self {
        Self {
            secret: simulator::CLIENT_SECRET.to_owned(),
            limits: Limits { rate: 1000.0, max_in_flight: 200 },
            policy: RetryPolicy::new(Duration::from_millis(50), Duration::from_secs(1), 10)
                .expect("these waits are in range"),
            role: Role::All,
            only: None,
            deaf: false,
            grouped: (Vec::new(), 1000.0),
            queue: QueueLimits { interactive: 1_000_000, bulk: 1_000_000 },
            stale_after: Duration::from_secs(900),
            hold: false,
            retention: Duration::from_secs(90 * 24 * 3600),
            transport: api::Transport::default(),
            admission: api::Admission::off(Policy::open().without_device_bound()),
        }
    }
}

/// One replica.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) devices: DeviceServiceClient<Channel>,
    pub(crate) jobs: JobServiceClient<Channel>,
    pub(crate) environments: EnvironmentServiceClient<Channel>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Service {
    pub(crate) async fn start(database: &str, pingone: &PingOne, variant: Variant) -> Result<Self> {
        // Shown where a test fails. Only the first of a process is taken.
        let log = tracing_subscriber::fmt().with_env_filter("warn,pingone_unblock=debug").with_ansi(false);
        let _ = log.with_test_writer().try_init();
        let route = |limit_group| -> Result<Route> {
            Ok(Route { client: pingone.client(&variant.secret)?, limits: variant.limits, limit_group })
        };
        let licence: Arc<str> = Arc::from("licence");
        let grouped = variant.grouped.0.iter().map(|id| Ok((*id, route(Some(Arc::clone(&licence)))?)));
        let routes = Routes {
            own: grouped.collect::<Result<_>>()?,
            default: Some(route(None)?),
            default_serves: variant.only.map(|only| [only].into()),
            limit_groups: HashMap::from([(licence, variant.grouped.1)]),
            elsewhere: false,
        };
        // A direct address that leads nowhere: then nobody listens, and nobody could migrate.
        let direct = if variant.deaf { "postgres://nobody@127.0.0.1:1/none" } else { database };
        let settings = Settings {
            access: Access {
                url: database.to_owned().into(),
                direct_url: direct.to_owned().into(),
                pooled: variant.deaf,
                connections: 8,
            },
            migrate: !variant.deaf,
            hold: variant.hold,
            engine: engine::Settings {
                policy: variant.policy,
                retention: variant.retention,
                queue: variant.queue,
                stale_after: variant.stale_after,
                ..engine::Settings::new(variant.role, routes)
            },
            api: api::Options { concurrent_calls: 1024, reflection: true, transport: variant.transport },
            admission: variant.admission,
            reloads: Reloads::default(),
        };
        let app = App::build(settings).await?;
        let readiness = app.readiness();
        let listeners = Listeners {
            grpc: TcpListener::bind("127.0.0.1:0").await?,
            admin: TcpListener::bind("127.0.0.1:0").await?,
        };
        let (address, admin) = (listeners.grpc.local_addr()?, listeners.admin.local_addr()?);
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        let running = tokio::spawn(async move {
            if let Err(error) = app.run(listeners, shutdown).await {
                panic!("the service failed: {error}");
            }
        });
        let channel = Channel::from_shared(format!("http://{address}"))?.connect_lazy();
        let service = Self {
            address,
            admin,
            devices: DeviceServiceClient::new(channel.clone()),
            jobs: JobServiceClient::new(channel.clone()),
            environments: EnvironmentServiceClient::new(channel),
            stop,
            running,
        };
        eventually("the service is ready", async || Ok(readiness.reason().is_none())).await?;
        Ok(service)
    }

    /// Drains it, as SIGTERM would.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.running.await?)
    }

    pub(crate) async fn unblock(
        &self,
        request: v1::UnblockRequest,
    ) -> Result<v1::UnblockResponse, tonic::Status> {
        Ok(self.devices.clone().unblock(request).await?.into_inner())
    }

    pub(crate) async fn job(&self, id: &str) -> Result<v1::Job> {
        let request = v1::GetJobRequest { job_id: id.to_owned() };
        Ok(self.jobs.clone().get_job(request).await?.into_inner().job.ok_or("a reply without a job")?)
    }

    /// The job once it is in one of `states`.
    pub(crate) async fn job_in(&self, id: &str, states: &[State]) -> Result<v1::Job> {
        let mut last = None;
        let reached = eventually("the job is in the state waited for", async || {
            let job = self.job(id).await?;
            let there = states.contains(&job.state());
            last = Some(job);
            Ok(there)
        })
        .await;
        reached.map_err(|error| format!("{error}; it is {last:?}"))?;
        Ok(last.ok_or("no job")?)
    }

    /// Every state the job is seen in until its stream ends.
    pub(crate) async fn watch(&self, id: &str) -> Result<Vec<v1::Job>> {
        let request = v1::WatchJobRequest { job_id: id.to_owned() };
        let mut stream = self.jobs.clone().watch_job(request).await?.into_inner();
        let mut seen = Vec::new();
        while let Some(update) = stream.message().await? {
            seen.extend(update.job);
        }
        Ok(seen)
    }
}

/// The ordinary surroundings of a test: one database, one PingOne, one replica.
pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) pingone: PingOne,
    pub(crate) database: Database,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        Self::with(Variant::default(), simulator::Settings::default()).await
    }

    pub(crate) async fn with(variant: Variant, settings: simulator::Settings) -> Result<Self> {
        let database = Database::create().await?;
        let pingone = PingOne::start(settings).await?;
        let service = Service::start(database.url(), &pingone, variant).await?;
        Ok(Self { service, pingone, database })
    }

    /// The simulated PingOne.
    pub(crate) const fn simulator(&self) -> &Simulator {
        &self.pingone.simulator
    }
}

/// A new device of a new user in the example's environment.
pub(crate) fn some_device() -> Result<DeviceRef> {
    Ok(DeviceRef {
        environment: EnvironmentId::parse(ENVIRONMENT)?,
        user: UserId::from(Uuid::new_v4()),
        device: DeviceId::from(Uuid::new_v4()),
    })
}

pub(crate) fn example_device() -> v1::DeviceRef {
    v1::DeviceRef {
        environment_id: ENVIRONMENT.to_owned(),
        user_id: USER.to_owned(),
        device_id: DEVICE.to_owned(),
    }
}

pub(crate) fn wire(device: &DeviceRef) -> v1::DeviceRef {
    v1::DeviceRef {
        environment_id: device.environment.to_string(),
        user_id: device.user.to_string(),
        device_id: device.device.to_string(),
    }
}

/// Unblock `device`, and wait for it.
pub(crate) fn request(device: v1::DeviceRef) -> v1::UnblockRequest {
    v1::UnblockRequest { device_ref: Some(device), ..v1::UnblockRequest::default() }
}

/// Unblock `device`, and reply as soon as the job is durable.
pub(crate) fn request_without_wait(device: v1::DeviceRef) -> v1::UnblockRequest {
    v1::UnblockRequest { wait: Some(prost_types::Duration::default()), ..request(device) }
}

/// Asks until it is so.
pub(crate) async fn eventually(what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let asking = async {
        while !ask().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, asking).await.map_err(|_| format!("never happened: {what}"))?
}
