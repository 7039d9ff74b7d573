//! The one binary: reads the arguments, runs the command, hands back its exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use pingone_unblock::cli::Cli;

/// A job is some hundred small allocations on several threads: the system's allocator takes an eighth of the time for them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // Before anything speaks TLS. Fails only where one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::from_arguments() {
        Ok(cli) => cli.run().await,
        Err(already_told) => already_told,
    }
}
