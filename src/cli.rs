//! The command line: what can be asked, and who answers. One file per command; those that ask a running server speak gRPC
//! only. Data goes to stdout, everything else to stderr.

mod advice;
mod args;
mod audit;
mod batch;
mod bulk;
mod check;
mod choose;
mod client;
mod completions;
mod demo;
mod device;
mod device_table;
mod env;
mod erase;
mod error;
mod exit;
mod follow;
mod health;
mod job;
mod json;
mod keys;
mod migrate;
mod outcome;
mod policy;
mod progress;
mod repeat;
mod screen;
mod serve;
mod server;
mod signals;
mod simulate;
mod status;
mod table;
mod tls;
mod token;
mod unblock;

use std::{ffi::OsStr, process::ExitCode};

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};

#[cfg(any(test, fuzzing))]
pub(crate) use bulk::fuzz;
use error::Error;
use exit::Exit;
use screen::{Format, Screen};

/// Unblocks PingOne MFA devices: durable, idempotent, inside PingOne's limits
#[derive(Debug, Parser)]
#[command(name = NAME, version, after_help = exit::help(), after_long_help = long_help(), propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How data is printed: tables for people, JSON for programs
    #[arg(long, global = true, value_enum, default_value_t = Format::Table, value_name = "FORMAT", help_heading = "Output")]
    output: Format,
    /// No colours; the same as setting NO_COLOR
    #[arg(long, global = true, help_heading = "Output")]
    no_color: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Serve(serve::Serve),
    Migrate(migrate::Migrate),
    Check(check::Check),
    #[command(subcommand)]
    Keys(keys::Keys),
    Erase(Box<erase::Erase>),
    Unblock(unblock::Unblock),
    Bulk(bulk::Bulk),
    #[command(subcommand)]
    Batch(batch::Batch),
    #[command(subcommand)]
    Device(device::Device),
    #[command(subcommand)]
    Job(job::Job),
    #[command(subcommand)]
    Env(env::Env),
    #[command(subcommand)]
    Audit(audit::Audit),
    Status(status::Status),
    #[command(subcommand)]
    Policy(policy::Policy),
    Simulate(simulate::Simulate),
    Health(health::Health),
    Completions(completions::Completions),
}

const NAME: &str = "pingone-unblock";

impl Cli {
    /// Reads the arguments of this process.
    ///
    /// # Errors
    /// The exit code, where there is nothing to run: wrong usage, `--help` and `--version`. What there is to say has been
    /// printed.
    pub fn from_arguments() -> Result<Self, ExitCode> {
        // Asked for before anything is parsed: a mistake in the arguments is to be told without colours too.
        let plain = std::env::args_os().any(|argument| argument == OsStr::new("--no-color"));
        let colour = if plain { ColorChoice::Never } else { ColorChoice::Auto };
        let parsed = Self::command().color(colour).try_get_matches();
        parsed.and_then(|matches| Self::from_arg_matches(&matches)).map_err(|told| {
            // Nobody is left to tell when even this can not be printed.
            let _ = told.print();
            if told.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
        })
    }

    /// Runs the command to its end and says on stderr what went wrong, if something did.
    pub async fn run(self) -> ExitCode {
        let screen = Screen::new(self.output, self.no_color);
        match self.command.run(&screen).await {
            Ok(exit) => exit.into(),
            Err(error) => {
                error.tell(&screen);
                error.exit().into()
            }
        }
    }
}

impl Command {
    async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        match self {
            Self::Demo(demo) => demo.run(screen).await,
            Self::Serve(serve) => serve.run(screen).await,
            Self::Migrate(migrate) => migrate.run(screen).await,
            Self::Check(check) => check.run(screen).await,
            Self::Keys(keys) => keys.run(screen).await,
            Self::Erase(erase) => erase.run(screen).await,
            Self::Unblock(unblock) => unblock.run(screen).await,
            Self::Bulk(bulk) => bulk.run(screen).await,
            Self::Batch(batch) => batch.run(screen).await,
            Self::Device(device) => device.run(screen).await,
            Self::Job(job) => job.run(screen).await,
            Self::Env(env) => env.run(screen).await,
            Self::Audit(audit) => audit.run(screen).await,
            Self::Status(status) => status.run(screen).await,
            Self::Policy(policy) => policy.run(screen),
            Self::Simulate(simulate) => simulate.run(screen).await,
            Self::Health(health) => health.run(screen).await,
            Self::Completions(completions) => completions.run(screen),
        }
    }
}

fn long_help() -> String {
    format!("{}\n\n{}", exit::help(), json::HELP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
