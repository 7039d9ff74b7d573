//! A terminal for the binary to ask on, and a person who types.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};

use crate::{
    harness::{Ended, binary},
    server::Fake,
};

const PROMPT: &str = "Enter for none: ";

/// Runs `arguments` with a terminal for stdin and stderr, where each question gets the next of `answers`. How it ended, and what the
/// terminal showed.
pub(crate) async fn at_a_terminal(
    server: &Fake,
    arguments: &[&str],
    answers: &[&str],
) -> Result<(Ended, String), Box<dyn std::error::Error>> {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&person)?;
    unlockpt(&person)?;
    let terminal = open(ptsname(&person, Vec::new())?, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    let mut command = binary(arguments);
    command.env("UNBLOCK_SERVER", &server.url).env("NO_COLOR", "1").env("COLUMNS", "100");
    let child = command.stdin(terminal.try_clone()?).stderr(terminal).spawn()?;
    // It holds the terminal open, whose end is awaited.
    drop(command);
    let answers: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    let typing = tokio::task::spawn_blocking(move || answer_questions(person, answers));
    let output = child.wait_with_output().await?;
    let told = typing.await??;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((Ended { code: output.status.code(), stdout, stderr: told.clone() }, told))
}

fn answer_questions(person: OwnedFd, answers: Vec<String>) -> std::io::Result<String> {
    let mut person = File::from(person);
    let (mut told, mut asked, mut bytes) = (String::new(), 0, [0; 4096]);
    // Linux ends it with an error where other systems say that nothing more comes.
    while let Ok(read @ 1..) = person.read(&mut bytes) {
        told.push_str(&String::from_utf8_lossy(&bytes[..read]));
        while told.matches(PROMPT).count() > asked {
            person.write_all(answers.get(asked).map_or(&b"\n"[..], |answer| answer.as_bytes()))?;
            asked += 1;
        }
    }
    Ok(told)
}
