//! The one binary: reads the arguments, runs the command, hands back its exit code.

use std::process::ExitCode;

use pingone_unblock::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    // Before anything speaks TLS. Fails only where one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::from_arguments() {
        Ok(cli) => cli.run().await,
        Err(already_told) => already_told,
    }
}
