//! The service as a process of its own: what signals do to it is real.

use std::{
    collections::HashMap,
    fs::File,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use pingone_unblock::{
    proto::v1::{self, device_service_client::DeviceServiceClient, job_service_client::JobServiceClient},
    simulator,
};
use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::Channel;

use super::{
    Result,
    service::{ENVIRONMENT, PingOne, eventually},
};

/// The binary that the tests are about.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_pingone-unblock");

/// A running `serve`. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    grpc: SocketAddr,
    admin: SocketAddr,
}

/// A command without any of this shell's variables.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_clear().stdin(Stdio::null());
    for kept in ["PATH", "LD_LIBRARY_PATH", "PG_BIN_DIR"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// What `serve` needs to know to work with that database and that PingOne.
pub(crate) fn configuration(database: &str, pingone: &PingOne) -> HashMap<&'static str, String> {
    let base = format!("http://{}", pingone.address);
    HashMap::from([
        ("UNBLOCK_DATABASE_URL", database.to_owned()),
        ("PINGONE_API_PATH", base.clone()),
        ("PINGONE_AUTH_PATH", base),
        ("PINGONE_AUTH_ENVIRONMENT_ID", ENVIRONMENT.to_owned()),
        ("PINGONE_CLIENT_ID", simulator::CLIENT_ID.to_owned()),
        ("PINGONE_CLIENT_SECRET", simulator::CLIENT_SECRET.to_owned()),
        ("PINGONE_RATE_LIMIT", "1000".to_owned()),
        ("PINGONE_MAX_IN_FLIGHT", "200".to_owned()),
        ("UNBLOCK_LOG", "warn".to_owned()),
    ])
}

impl Process {
    pub(crate) async fn serve(database: &str, pingone: &PingOne) -> Result<Self> {
        Self::serve_with(database, pingone, &[]).await
    }

    /// With variables of its own.
    pub(crate) async fn serve_with(
        database: &str,
        pingone: &PingOne,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let mut serve = command(&["serve"]);
        serve.envs(configuration(database, pingone)).envs(settings.iter().copied());
        Self::start(serve).await
    }

    /// With what it logs going there.
    pub(crate) async fn serve_writing(
        database: &str,
        pingone: &PingOne,
        settings: &[(&str, &str)],
        log: impl Into<Stdio>,
    ) -> Result<Self> {
        let mut serve = command(&["serve"]);
        serve.envs(configuration(database, pingone)).envs(settings.iter().copied()).stderr(log);
        Self::start(serve).await
    }

    /// With these variables, and its log in a file.
    pub(crate) async fn serve_into(settings: &[(&str, &str)], log: File) -> Result<Self> {
        let mut serve = command(&["serve"]);
        serve.env("PINGONE_AUTH_ENVIRONMENT_ID", ENVIRONMENT).env("PINGONE_CLIENT_ID", simulator::CLIENT_ID);
        serve.envs(settings.iter().copied()).stderr(log);
        Self::start(serve).await
    }

    async fn start(mut serve: Command) -> Result<Self> {
        let (grpc, admin) = (free_address()?, free_address()?);
        let child = serve
            .env("UNBLOCK_LISTEN", grpc.to_string())
            .env("UNBLOCK_ADMIN_LISTEN", admin.to_string())
            .spawn()?;
        let process = Self { child, grpc, admin };
        eventually("the process is ready", async || {
            let answer = reqwest::get(format!("http://{}/readyz", process.admin)).await;
            Ok(answer.is_ok_and(|answer| answer.status().is_success()))
        })
        .await?;
        Ok(process)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.grpc
    }

    pub(crate) const fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.admin)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn channel(&self) -> Result<Channel> {
        Ok(Channel::from_shared(format!("http://{}", self.grpc))?.connect_lazy())
    }

    pub(crate) fn devices(&self) -> Result<DeviceServiceClient<Channel>> {
        Ok(DeviceServiceClient::new(self.channel()?))
    }

    /// Whose calls end after so long: the process may be frozen.
    pub(crate) fn devices_within(&self, time: Duration) -> Result<DeviceServiceClient<Channel>> {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc))?.timeout(time);
        Ok(DeviceServiceClient::new(endpoint.connect_lazy()))
    }

    /// The job, as this process sees it.
    pub(crate) async fn job(&self, id: &str) -> Result<v1::Job> {
        let request = v1::GetJobRequest { job_id: id.to_owned() };
        let mut jobs = JobServiceClient::new(self.channel()?);
        Ok(jobs.get_job(request).await?.into_inner().job.ok_or("a reply without a job")?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).ok_or("no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// How it ended, once it has.
    pub(crate) async fn end(mut self) -> Result<ExitStatus> {
        let waiting = tokio::task::spawn_blocking(move || self.child.wait());
        Ok(tokio::time::timeout(Duration::from_secs(40), waiting).await???)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
