//! Processes the benchmark starts. They end with it.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};

use crate::arguments::Role;

/// How long a process may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pid: u32,
}

impl Process {
    /// With nothing of this shell's variables but where programs are. What it says goes into `log`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let child = command.spawn()?;
        let pid = child.id().context("it has ended")?;
        Ok(Self { child, pid })
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until `is_ready`, asked again and again.
    pub(crate) async fn ready(&mut self, is_ready: impl AsyncFn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !is_ready().await {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}");
            }
            ensure!(begun.elapsed() < PATIENCE, "not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it does not stop")??;
        Ok(())
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid)?).context("no pid")?;
        Ok(kill_process(pid, signal)?)
    }
}

/// A program with nothing of this shell's variables but where programs are.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    for kept in ["PATH", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// This program again, in another role.
pub(crate) fn role(role: &Role) -> Result<Command> {
    let mut command = command(&std::env::current_exe()?);
    command.arg("--role").arg(serde_json::to_string(role)?);
    Ok(command)
}

/// Runs this program in another role and takes what it reports.
pub(crate) async fn report<T: DeserializeOwned>(asked: &Role) -> Result<T> {
    let said = role(asked)?.stderr(Stdio::inherit()).output().await?;
    ensure!(said.status.success(), "a role ended with {}", said.status);
    Ok(serde_json::from_slice(&said.stdout)?)
}

/// An address on this machine that is free now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
