//! Callers in a process of their own: those that `simulate --call` plays.

use std::process::{Child, Stdio};

use super::{Result, process};

/// Running callers. Killed when dropped.
pub(crate) struct Callers(Child);

impl Callers {
    /// So many calls per second at that replica.
    pub(crate) fn start(replica: &process::Process, per_second: u32) -> Result<Self> {
        let (server, rate) = (format!("http://{}", replica.address()), per_second.to_string());
        let arguments =
            ["simulate", "--listen", "127.0.0.1:0", "--call", &server, "--calls-per-second", &rate];
        Ok(Self(process::command(&arguments).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
