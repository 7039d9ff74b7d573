//! `completions`: a script that teaches a shell the arguments.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, NAME, error::Error, exit::Exit, screen::Screen};

/// Prints a completion script, e.g. for `source <(pingone-unblock completions bash)`
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Shell to complete in
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        // Into memory first: the generator panics when its writer fails, as a closed pipe does.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), NAME, &mut script);
        screen.print(String::from_utf8_lossy(&script).trim_end())?;
        Ok(Exit::Done)
    }
}
