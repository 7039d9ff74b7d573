//! The command that is running, to be typed again.

use std::{env, ffi::OsString};

use crate::cli::{NAME, server::shell_word};

/// This very command: it goes on where it was.
pub(super) fn command() -> String {
    of(env::args_os().skip(1))
}

fn of(arguments: impl Iterator<Item = OsString>) -> String {
    let words = arguments.map(|argument| shell_word(&argument.to_string_lossy()));
    std::iter::once(NAME.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_survives_the_shell() {
        let arguments = ["bulk", "März 2026.csv", "--reason", "it's \"late\" $HOME", "--yes", ""];
        assert_eq!(
            of(arguments.into_iter().map(OsString::from)),
            r#"pingone-unblock bulk 'März 2026.csv' --reason 'it'\''s "late" $HOME' --yes ''"#
        );
    }
}
