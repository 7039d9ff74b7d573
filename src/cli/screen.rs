//! Where words go: data to stdout, everything else to stderr, colours only where a person sees them.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use clap::ValueEnum;
use comfy_table::Table;
use serde_json::Value;

use super::error::Error;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables that fit the terminal
    Table,
    /// One JSON object per line
    Json,
}

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hue {
    Good,
    Bad,
    Attention,
    Faint,
}

/// What is known of the terminal, asked once.
#[derive(Debug)]
pub(crate) struct Screen {
    format: Format,
    colour_on_stdout: bool,
    colour_on_stderr: bool,
    live: bool,
    live_on_stdout: bool,
    asks: bool,
}

const USUAL_WIDTH: u16 = 80;
const LEAST_WIDTH: u16 = 20;
/// Two columns, a label of eleven, and one between it and the text.
const DETAIL_INDENT: usize = 14;

impl Screen {
    pub(crate) fn new(format: Format, no_color: bool) -> Self {
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = !no_color && !refused && !dumb;
        Self {
            format,
            colour_on_stdout: colour && io::stdout().is_terminal(),
            colour_on_stderr: colour && io::stderr().is_terminal(),
            live: !dumb && io::stderr().is_terminal(),
            live_on_stdout: !dumb && io::stdout().is_terminal(),
            asks: io::stdin().is_terminal() && io::stderr().is_terminal(),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether data may be coloured.
    pub(crate) const fn colour(&self) -> bool {
        self.colour_on_stdout
    }

    /// Whether a line on stderr may be drawn again.
    pub(crate) const fn live(&self) -> bool {
        self.live
    }

    /// Whether data that was printed may be drawn again.
    pub(super) const fn redraws(&self) -> bool {
        self.live_on_stdout
    }

    /// Whether a person is there to be asked.
    pub(super) const fn asks(&self) -> bool {
        self.asks
    }

    /// The columns there are: `COLUMNS`, or the terminal's, or 80.
    pub(crate) fn width(&self) -> u16 {
        let asked = env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let terminal = || Table::new().use_stderr().width().or_else(|| Table::new().width());
        // A terminal that has not been told its size says 0.
        asked.or_else(terminal).filter(|columns| *columns > 0).unwrap_or(USUAL_WIDTH).max(LEAST_WIDTH)
    }

    /// The lines there are where data can be drawn again; nothing elsewhere.
    pub(super) fn height(&self) -> Option<u16> {
        let size = self.live_on_stdout.then(|| rustix::termios::tcgetwinsize(io::stdout()));
        size.and_then(Result::ok).map(|size| size.ws_row).filter(|rows| *rows > 0)
    }

    /// Prints data.
    ///
    /// # Errors
    /// [`Error::Output`], also when the reader is gone.
    pub(crate) fn print(&self, text: &str) -> Result<(), Error> {
        self.put(&format!("{text}\n"))
    }

    /// Writes to stdout as it stands.
    ///
    /// # Errors
    /// As [`Screen::print`].
    pub(super) fn put(&self, text: &str) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Output)
    }

    /// Prints one JSON object on a line of its own.
    ///
    /// # Errors
    /// As [`Screen::print`].
    pub(crate) fn print_json(&self, value: &Value) -> Result<(), Error> {
        self.print(&value.to_string())
    }

    /// Says a line that is no data.
    pub(crate) fn say(&self, line: &str) {
        self.draw(&format!("{line}\n"));
    }

    /// Says a sentence behind a coloured label, such as `error:`.
    pub(super) fn headline(&self, hue: Hue, label: &str, sentence: &str) {
        let indent = label.chars().count() + 1;
        let lines = self.lines(sentence, indent);
        self.say(&format!("{} {}", self.paint(hue, label), lines.join(&format!("\n{:indent$}", ""))));
    }

    /// Says what belongs to the headline before it.
    pub(super) fn detail(&self, label: &str, text: &str) {
        let lines = self.lines(text, DETAIL_INDENT);
        self.labelled(label, &lines.join(&format!("\n{:DETAIL_INDENT$}", "")));
    }

    /// As [`Screen::detail`], for a command to be pasted: on one line, however long.
    pub(super) fn detail_command(&self, label: &str, command: &str) {
        self.labelled(label, &printable(command));
    }

    fn labelled(&self, label: &str, text: &str) {
        let label = format!("{:<11}", printable(label));
        self.say(&format!("  {} {text}", self.paint(Hue::Faint, &label)));
    }

    /// `text` in lines that fit behind `indent` columns of a terminal; in one line where there is no terminal.
    fn lines(&self, text: &str, indent: usize) -> Vec<String> {
        let room = if self.live { usize::from(self.width()).saturating_sub(indent + 1) } else { usize::MAX };
        folded(&printable(text), room)
    }

    /// Writes to stderr as it stands. A closed stderr leaves nobody to tell.
    pub(super) fn draw(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }

    /// `text` in its colour, for stderr.
    pub(super) fn paint(&self, hue: Hue, text: &str) -> String {
        if self.colour_on_stderr { painted(hue, text) } else { text.to_owned() }
    }

    /// `text` in its colour, for stdout.
    pub(super) fn paint_data(&self, hue: Hue, text: &str) -> String {
        if self.colour_on_stdout { painted(hue, text) } else { text.to_owned() }
    }
}

fn painted(hue: Hue, text: &str) -> String {
    let code = match hue {
        Hue::Good => 32,
        Hue::Bad => 31,
        Hue::Attention => 33,
        Hue::Faint => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// `text` without control characters: what others wrote must not steer this terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Breaks `text` between words; a word longer than the room stays whole.
pub(super) fn folded(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is a first line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(folded("one two three", 7), ["one two", "three"]);
        assert_eq!(folded("one incomprehensible", 7), ["one", "incomprehensible"]);
        assert_eq!(folded("one two three", usize::MAX), ["one two three"]);
    }

    #[test]
    fn foreign_text_can_not_steer_the_terminal() {
        assert_eq!(printable("Zoë's \x1b[31mphone\n\u{9b}2J"), "Zoë's \u{fffd}[31mphone\u{fffd}\u{fffd}2J");
    }
}
