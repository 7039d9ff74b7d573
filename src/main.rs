//! The one binary: reads the arguments, runs the command, hands back its exit code.

use std::process::ExitCode;

use pingone_unblock::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::from_arguments() {
        Ok(cli) => cli.run().await,
        Err(already_told) => already_told,
    }
}
