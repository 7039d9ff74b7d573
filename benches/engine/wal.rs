//! What was written to Postgres's log between two positions.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

use crate::server::Server;

/// Bytes of records, full-page images apart.
pub(crate) async fn bytes(server: &Server, from: &str, to: &str) -> Result<f64> {
    let Some(program) = server.program("pg_waldump") else { bail!("pg_waldump is not installed") };
    let said = Command::new(program)
        .args(["--stats", "--start", from, "--end", to, "--path"])
        .arg(server.folder().join("data/pg_wal"))
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(said.status.success(), "pg_waldump: {}", String::from_utf8_lossy(&said.stderr));
    // Total  <records>  <bytes of records> [share]  <bytes of images> [share] …
    let text = String::from_utf8_lossy(&said.stdout);
    let total = text.lines().rfind(|line| line.starts_with("Total")).context("no total")?;
    let bytes = total.split_whitespace().nth(2).context("no bytes in the total")?;
    Ok(bytes.parse()?)
}
