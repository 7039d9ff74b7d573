//! `bulk`: every row of a file, as one batch for each environment; shown, uploaded, followed, written down.

mod again;
mod cells;
mod columns;
mod feed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod input;
mod lines;
mod mistakes;
mod options;
mod plan;
mod preview;
mod results;
mod row;
mod run;
mod source;
mod upload;

use std::{
    fs,
    path::{Path, PathBuf},
    pin::pin,
};

use clap::Args;

use super::{
    batch::sink::try_out,
    error::Error,
    exit::Exit,
    screen::{Hue, Screen},
    server::ServerOptions,
    unblock::interrupt,
};
use crate::device::EnvironmentId;
use input::Input;
use mistakes::Mistakes;
use options::BatchOptions;
use run::Run;
use source::Source;

/// Unblocks every row of a CSV file and writes down what became of each
///
/// The file is UTF-8 and begins with environment_id,user_id,device_id,reference, in any order; a row is one line. Without a
/// device_id a row means every blocked device of the user. The environment_id may be left out with --environment, the
/// reference always; it comes back with the result. Each environment becomes one batch.
///
/// The whole file is checked before anything is sent. The batch's id follows from its rows, the file's name and the options under
/// Batch: the same command goes on where it was, after Ctrl-C or a crash too, and once it is done gives the same results without
/// sending anything. Another --canary or --reason makes another batch.
///
/// The results can be given to `bulk` again; their further columns are passed over, and every row is sent.
#[derive(Debug, Args)]
pub(super) struct Bulk {
    /// File to read; `-` is stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Environment of rows that name none
    #[arg(long, value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: Option<EnvironmentId>,
    /// Leave out bad lines, instead of sending nothing
    #[arg(long)]
    skip_invalid: bool,
    /// Check the file, show what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Send without asking
    #[arg(long)]
    yes: bool,
    /// End once everything is uploaded; the server goes on
    #[arg(long)]
    detach: bool,
    /// File for the results, there once they are complete; without it FILE.results.csv
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only write down rows that were not unblocked
    #[arg(long)]
    failures_only: bool,
    #[command(flatten)]
    batch: BatchOptions,
    #[command(flatten)]
    server: ServerOptions,
}

impl Bulk {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let source = Source::open(&self.file)?;
        let out = self.out.clone().unwrap_or_else(|| source.beside("results.csv"));
        self.check_out(screen, &out)?;
        let mut mistakes = Mistakes::new(screen, source.beside("errors.csv"));
        let input = Input::check(source, self.environment, &mut mistakes)?;
        if mistakes.lines() > 0 && !self.skip_invalid {
            let sentence = "nothing was sent; correct the lines, or send the others with --skip-invalid";
            return Err(Error::Usage(sentence.to_owned()));
        }
        let planned = plan::batches(&input, &self.batch)?;

        let connected = self.server.connect(screen).await;
        let client = match connected {
            Err(error) if self.dry_run => {
                preview::show(screen, &input, mistakes.lines(), &planned, &preview::Rates::new())?;
                screen.say(&format!("{error}; nothing was sent"));
                return Ok(Exit::Done);
            }
            connected => connected?,
        };
        let rates = preview::rates(&client, screen).await;
        preview::show(screen, &input, mistakes.lines(), &planned, &rates)?;
        if self.dry_run {
            screen.say("a dry run: nothing was sent");
            return Ok(Exit::Done);
        }
        if !self.yes {
            preview::confirm(screen, input.row_count())?;
        }

        let run = Run { client: &client, screen, server: &self.server, input: &input, planned: &planned };
        let mut interrupt = pin!(interrupt());
        let ended = tokio::select! {
            ended = run.to_the_end(self.detach, &out, self.failures_only) => ended,
            () = &mut interrupt => {
                screen.headline(Hue::Attention, "interrupted:", "what was uploaded goes on");
                self.say_again(screen, &input);
                return Ok(Exit::Interrupted);
            }
        };
        match ended {
            Err(error) if error.exit() == Exit::Unreachable => {
                error.tell(screen);
                self.say_again(screen, &input);
                Ok(error.exit())
            }
            Ok(run::End::Paused) => {
                self.say_again(screen, &input);
                Ok(Exit::Failed)
            }
            Ok(run::End::Exit(exit)) => Ok(exit),
            Err(error) => Err(error),
        }
    }

    /// How to go on: with the same command.
    fn say_again(&self, screen: &Screen, input: &Input) {
        let same_input = if input.source.has_name() { "" } else { "  # with the same input" };
        screen.detail_command("go on", &format!("{}{same_input}", again::command()));
    }

    fn check_out(&self, screen: &Screen, out: &Path) -> Result<(), Error> {
        if screen.is_json() && super::batch::sink::is_stdout(out) {
            return Err(Error::Usage("--out - and --output json would both write to stdout".to_owned()));
        }
        let is_input = |out: PathBuf| fs::canonicalize(&self.file).is_ok_and(|file| file == out);
        if fs::canonicalize(out).is_ok_and(is_input) {
            return Err(Error::Usage("--out would overwrite the file that is read".to_owned()));
        }
        if self.dry_run || self.detach { Ok(()) } else { try_out(out) }
    }
}

/// Whoever reads stdout may go away: the rows are sent and their results written down all the same.
fn heard(printed: Result<(), Error>) -> Result<(), Error> {
    printed.or_else(|error| if error.is_closed_output() { Ok(()) } else { Err(error) })
}
