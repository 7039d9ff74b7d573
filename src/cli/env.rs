//! `env`: shows the environments that the server sends for, pauses and resumes them.

mod list;
mod pause;
mod resume;
mod table;

pub(super) use table::{hue_of, per_second, short, state_name};

use clap::{Args, Subcommand};

use super::{
    error::Error,
    exit::Exit,
    json,
    screen::{Hue, Screen},
};
use crate::{device::EnvironmentId, proto::v1};

/// Shows the environments that are sent to, pauses and resumes them
#[derive(Debug, Subcommand)]
pub(super) enum Env {
    List(list::List),
    Pause(pause::Pause),
    Resume(resume::Resume),
}

impl Env {
    pub(super) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        match self {
            Self::List(list) => list.run(screen).await,
            Self::Pause(pause) => pause.run(screen).await,
            Self::Resume(resume) => resume.run(screen).await,
        }
    }
}

/// One environment, or everything.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// PingOne environment
    #[arg(value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: Option<EnvironmentId>,
    /// Everything, environments that nobody has seen yet included
    #[arg(long)]
    all: bool,
}

impl Target {
    /// As the contract names it: nothing is everything.
    fn to_proto(&self) -> String {
        self.environment.map(|id| id.to_string()).unwrap_or_default()
    }
}

/// Prints an environment, or how everything stands.
///
/// # Errors
/// [`Error::Output`] when the output can not be written.
fn print(screen: &Screen, environment: &v1::Environment) -> Result<(), Error> {
    if screen.is_json() {
        screen.print_json(&json::environment(environment))
    } else {
        screen.print(&table::environment(screen, environment))
    }
}

/// Says that nothing is sent, why, and how that ends.
fn tell_all_paused(screen: &Screen, sentence: &str) {
    screen.headline(Hue::Attention, "paused:", sentence);
    screen.detail("next", "nothing is sent to any environment until `env resume --all`");
}
