//! The test binary runs itself again: another process for a test, as killable as any.

use std::{
    env,
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use super::Result;

/// Tells a test that it is the other process.
const ROLE: &str = "TEST_ROLE";
/// Precedes what the other process says; the rest of its output is the test harness's.
const MARK: &str = "said: ";

/// What this process was started for with [`command`]; nothing in an ordinary run.
pub(crate) fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// A command that runs the one test `name` of this binary, ignored or not, in `role`.
pub(crate) fn command(name: &str, role: &str) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--exact", name, "--include-ignored", "--nocapture"]).env(ROLE, role);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Says a line to the process that started this one.
pub(crate) fn say(line: &str) -> Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK}{line}")?;
    Ok(out.flush()?)
}

/// Starts the command and listens to what it says.
pub(crate) fn start(mut command: Command) -> Result<(Child, Said)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().expect("the output was asked for");
    Ok((child, Said(BufReader::new(out).lines())))
}

/// The lines another process says, to its end.
pub(crate) struct Said(Lines<BufReader<ChildStdout>>);

impl Iterator for Said {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.0
            .by_ref()
            .map_while(std::result::Result::ok)
            .find_map(|line| Some(line.strip_prefix(MARK)?.into()))
    }
}
