//! A receiver of telemetry that nobody here wrote: rotel, a collector, hands on to oteltest, which keeps it.

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

use super::{Result, service::eventually};

const FOLDER: &str = "target/otlp-receiver";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A running receiver. Killed when dropped.
pub(crate) struct Receiver {
    collector: Child,
    keeper: Child,
    ask: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
    /// Where it takes OTLP over gRPC.
    pub(crate) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Receiver {
    /// Nothing, with a word, where it cannot be had; in CI that is an error.
    #[expect(clippy::print_stderr, reason = "that a test was skipped is said to whoever runs it")]
    pub(crate) async fn start() -> Result<Option<Self>> {
        let made = Command::new("make").args(["--silent", "otlp-receiver"]).current_dir(root()).output()?;
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(std::env::var_os("CI").is_none(), "make otlp-receiver failed: {why}");
            eprintln!("SKIPPED: make otlp-receiver failed: {why}");
            return Ok(None);
        }
        let programs = root().join(FOLDER).join("bin");
        let mut keeper = Command::new(programs.join("python"))
            .arg(root().join("tests/receiver/receive.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = keeper.stdin.take().ok_or("no input")?;
        let mut said = BufReader::new(keeper.stdout.take().ok_or("no output")?).lines();
        let port = said.next().ok_or("the keeper said nothing")??;

        let folder = tempfile::tempdir()?;
        let (address, http) = (free_address()?, free_address()?);
        let collector = Command::new(programs.join("rotel-agent"))
            .args(["start", "--otlp-grpc-endpoint", &address.to_string()])
            .args(["--otlp-http-endpoint", &http.to_string(), "--exporter", "otlp"])
            .args(["--otlp-exporter-endpoint", &format!("http://127.0.0.1:{port}")])
            .arg("--pid-file")
            .arg(folder.path().join("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let receiver = Self { collector, keeper, ask, said, address, _folder: folder };
        eventually("the collector listens", async || {
            Ok(tokio::net::TcpStream::connect(address).await.is_ok())
        })
        .await?;
        Ok(Some(receiver))
    }

    /// All it has got so far: `trace_requests`, `log_requests`, `metric_requests`.
    pub(crate) fn received(&mut self) -> Result<Value> {
        writeln!(self.ask)?;
        Ok(serde_json::from_str(&self.said.next().ok_or("the keeper ended")??)?)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        for child in [&mut self.collector, &mut self.keeper] {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
