//! Batches as they go on, on stderr: a bar each on a terminal, a line each every ten seconds elsewhere.

use std::{cell::RefCell, convert::Infallible, time::Duration};

use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval_at};

use super::{
    follow::is_final,
    table::{hue_of, state_name},
};
use crate::{
    cli::{
        error::printed,
        progress::shortened,
        screen::{Screen, printable},
        table::instant,
    },
    proto::v1::{Batch, batch::State},
};

const REDRAW: Duration = Duration::from_millis(200);
const SAY: Duration = Duration::from_secs(10);
const BAR: usize = 20;
/// Of a line with less room than this the bar takes half as much.
const NARROW: usize = 100;
/// More would scroll away; the others still count.
const MOST_BARS: usize = 10;

pub(in crate::cli) struct Progress<'a> {
    screen: &'a Screen,
    lines: RefCell<Vec<Line>>,
    /// How many lines of the terminal are drawn again.
    drawn: RefCell<usize>,
}

/// What is known of one batch.
#[derive(Default)]
struct Line {
    name: String,
    /// Rows that are there, of those that will be.
    uploaded: Option<(i64, i64)>,
    batch: Option<Batch>,
    /// Why the upload waits.
    waits: String,
    said: String,
}

impl<'a> Progress<'a> {
    /// One line for each of `names`.
    pub(in crate::cli) fn start(screen: &'a Screen, names: impl Iterator<Item = String>) -> Self {
        let line = |name| Line { name, ..Line::default() };
        Self { screen, lines: RefCell::new(names.map(line).collect()), drawn: RefCell::new(0) }
    }

    /// So many rows are uploaded.
    pub(in crate::cli) fn uploaded(&self, line: usize, rows: i64, of: i64) {
        let line = &mut self.lines.borrow_mut()[line];
        line.uploaded = Some((rows, of));
        line.waits.clear();
    }

    /// The upload waits, and why.
    pub(in crate::cli) fn waits(&self, line: usize, why: &str) {
        self.lines.borrow_mut()[line].waits = format!("; {why}");
    }

    /// The batch as it stands.
    pub(in crate::cli) fn batch(&self, line: usize, batch: &Batch) {
        let mut lines = self.lines.borrow_mut();
        let line = &mut lines[line];
        let changed = line.batch.as_ref().is_none_or(|known| known.state != batch.state);
        line.uploaded = None;
        line.batch = Some(batch.clone());
        if changed && !self.screen.live() {
            say(self.screen, line);
        }
    }

    /// Says a line above the bars.
    pub(in crate::cli) fn say(&self, sentence: &str) {
        self.screen.draw(&format!("{}{sentence}\n", self.erased()));
    }

    /// Shows how it goes on, for as long as it is polled.
    pub(in crate::cli) async fn show(&self) -> Infallible {
        let every = if self.screen.live() { REDRAW } else { SAY };
        let mut tick = interval_at(tokio::time::Instant::now() + every, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.screen.live() {
                self.draw();
            } else {
                self.lines.borrow_mut().iter_mut().for_each(|line| say(self.screen, line));
            }
        }
    }

    fn draw(&self) {
        // All in one write: a terminal never shows the lines gone.
        let mut text = self.erased();
        // One column stays free: a terminal that fills its last one begins a new line.
        let room = usize::from(self.screen.width()).saturating_sub(1);
        let lines = self.lines.borrow();
        for line in lines.iter().take(MOST_BARS) {
            let (state, rest) = (line.state(), line.rest(Some(room)));
            let width = state.chars().count() + 1;
            let hue = line.batch.as_ref().and_then(hue_of);
            let state = hue.map_or_else(|| state.clone(), |hue| self.screen.paint(hue, &state));
            text.push_str(&format!("{state} {}\n", shortened(&rest, room.saturating_sub(width))));
        }
        self.screen.draw(&text);
        self.drawn.replace(lines.len().min(MOST_BARS));
    }

    /// What takes away the lines that are drawn.
    fn erased(&self) -> String {
        match self.drawn.replace(0) {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}F\x1b[J"),
        }
    }
}

impl Drop for Progress<'_> {
    /// What is drawn last is what is left standing.
    fn drop(&mut self) {
        if *self.drawn.borrow() > 0 {
            self.draw();
        }
    }
}

fn say(screen: &Screen, line: &mut Line) {
    let sentence = format!("{} {}", line.state(), line.rest(None));
    if sentence != line.said {
        screen.say(&sentence);
        line.said = sentence;
    }
}

impl Line {
    fn state(&self) -> String {
        let state = match (&self.uploaded, &self.batch) {
            (Some(_), _) | (None, None) => "UPLOADING".to_owned(),
            (None, Some(batch)) => state_name(batch),
        };
        format!("{state:<9}")
    }

    /// What stands behind the state; `room`: on a line of so many columns, with a bar.
    fn rest(&self, room: Option<usize>) -> String {
        let name = printable(&self.name);
        // The end of a name is worth less than the count behind it.
        let name = room.map_or_else(|| name.clone(), |room| shortened(&name, room / 3));
        let (done, all, more) = match (&self.uploaded, &self.batch) {
            (Some((rows, of)), _) => (*rows, *of, self.waits.clone()),
            (None, None) => return name,
            (None, Some(batch)) => (done(batch), total(batch), more(batch)),
        };
        let percent = if all > 0 { done.saturating_mul(100) / all } else { 0 };
        let bar = room.map(|room| format!(" {}", bar(percent, if room < NARROW { BAR / 2 } else { BAR })));
        let bar = bar.unwrap_or_default();
        format!("{name}{bar} {percent:>3}% {done}/{all}{more}")
    }
}

/// Rows that need nothing any more. A row by user counts as often as it has devices.
fn done(batch: &Batch) -> i64 {
    total(batch) - batch.pending_count
}

fn total(batch: &Batch) -> i64 {
    batch.pending_count
        + batch.succeeded_count
        + batch.failed_count
        + batch.cancelled_count
        + batch.expired_count
        + batch.rejected_count
        + batch.duplicate_count
}

/// What there is to say of a batch beside its count; what a narrow terminal may cut off comes last.
fn more(batch: &Batch) -> String {
    let mut parts = Vec::new();
    let not_unblocked = not_unblocked(batch);
    if not_unblocked > 0 {
        parts.push(format!("{not_unblocked} not unblocked"));
    }
    // Of one that has ended it would be the rate of its last seconds.
    if batch.current_rate > 0.0 && !is_final(batch) {
        parts.push(format!("{:.1}/s", batch.current_rate));
    }
    let left = batch.estimated_complete_time.and_then(instant).map(|at| at - OffsetDateTime::now_utc());
    if let Some(left) = left.and_then(|left| Duration::try_from(left).ok())
        && left >= Duration::from_secs(1)
    {
        parts.push(format!("{} left", printed(Duration::from_secs(left.as_secs()))));
    }
    match batch.state() {
        State::Running => parts.push(batch.waiting_for.clone()),
        _ => parts.push(batch.state_reason.clone()),
    }
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() { String::new() } else { format!("; {}", printable(&parts.join("; "))) }
}

/// How many ended otherwise than they should.
pub(in crate::cli) const fn not_unblocked(batch: &Batch) -> i64 {
    batch.failed_count + batch.cancelled_count + batch.expired_count + batch.rejected_count
}

fn bar(percent: i64, width: usize) -> String {
    let full = usize::try_from(percent.clamp(0, 100)).unwrap_or(0) * width / 100;
    format!("[{}{}]", "#".repeat(full), "-".repeat(width - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_far_it_is_and_what_it_waits_for() {
        let batch = Batch {
            state: State::Running.into(),
            pending_count: 60,
            succeeded_count: 38,
            failed_count: 1,
            duplicate_count: 1,
            current_rate: 19.75,
            waiting_for: "PingOne's rate limit".to_owned(),
            ..Batch::default()
        };
        let mut line = Line { name: "x".to_owned(), uploaded: Some((5, 100)), ..Line::default() };
        assert_eq!((line.state().trim(), line.rest(None).as_str()), ("UPLOADING", "x   5% 5/100"));
        line.uploaded = None;
        line.batch = Some(batch);
        let expected = "x [########------------]  40% 40/100; 1 not unblocked; 19.8/s; PingOne's rate limit";
        assert_eq!((line.state().trim(), line.rest(Some(120)).as_str()), ("RUNNING", expected));
    }

    #[test]
    fn a_narrow_terminal_keeps_the_count_of_a_long_name() {
        let batch = Batch {
            state: State::Running.into(),
            pending_count: 12_000,
            succeeded_count: 8_000,
            current_rate: 20.0,
            ..Batch::default()
        };
        let name = "a-file-with-a-long-name-3c4b8b2cc56548cd".to_owned();
        let line = Line { name, batch: Some(batch), ..Line::default() };
        assert_eq!(line.rest(Some(79)), "a-file-with-a-long-name-3… [####------]  40% 8000/20000; 20.0/s");
        assert!(line.state().chars().count() + 1 + line.rest(Some(79)).chars().count() <= 79);
        let done = Batch { state: State::Done.into(), current_rate: 20.0, ..Batch::default() };
        assert_eq!(more(&done), "", "what has ended has no rate");
    }
}
