//! Looks again and again: drawn in place on a terminal, a block each elsewhere. A server that goes away is waited for.

use std::{pin::pin, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    ask::Asker,
    found::{Away, Found},
    print, screen as lines,
};
use crate::cli::{error::Error, exit::Exit, screen::Screen, unblock::interrupt};

/// Looks every so often, until Ctrl-C.
///
/// # Errors
/// As [`Asker::look`], and an output that nobody reads.
pub(super) async fn run(screen: &Screen, mut asker: Asker<'_>, every: Duration) -> Result<Exit, Error> {
    let mut interrupt = pin!(interrupt());
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut board = Board { screen, drawn: None };
    let mut away = None;
    loop {
        let look = async {
            tick.tick().await;
            asker.look().await
        };
        let mut found = tokio::select! {
            found = look => found?,
            () = &mut interrupt => {
                board.leave()?;
                return Ok(Exit::Interrupted);
            }
        };
        away = next(away, &found);
        found.away = away;
        board.show(&found)?;
    }
}

/// When the server was away last.
fn next(away: Option<Away>, found: &Found) -> Option<Away> {
    match (away, found.is_gone()) {
        (Some(Away { until: None, .. }), true) => away,
        (_, true) => Some(Away { since: found.at, until: None }),
        (Some(Away { since, until: None }), false) => Some(Away { since, until: Some(found.at) }),
        (_, false) => away,
    }
}

struct Board<'a> {
    screen: &'a Screen,
    /// How many lines stand there; nothing before the first.
    drawn: Option<usize>,
}

impl Board<'_> {
    fn show(&mut self, found: &Found) -> Result<(), Error> {
        if self.screen.is_json() {
            return print(self.screen, found);
        }
        let lines = lines::of(self.screen, found);
        let before = match (self.drawn.replace(lines.len()), self.screen.redraws()) {
            (None, _) => String::new(),
            // All in one write: a terminal never shows the lines gone.
            (Some(drawn), true) => format!("\x1b[{drawn}F\x1b[J"),
            (Some(_), false) => "\n".to_owned(),
        };
        self.screen.put(&format!("{before}{}\n", lines.join("\n")))
    }

    /// What is drawn last stays, without the ^C behind it.
    fn leave(&self) -> Result<(), Error> {
        if self.screen.redraws() { self.screen.put("\r\x1b[K") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::{super::found::Service, *};

    #[test]
    fn an_absence_is_told_from_its_first_look_to_its_last() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).expect("in range");
        let gone = |seconds| Found::new("", at(seconds), Service::Gone(String::new()));
        let there = |seconds| Found::new("", at(seconds), Service::Serving(Duration::ZERO));
        let ended = Some(Away { since: at(2), until: Some(at(4)) });
        let looks = [
            (there(1), None),
            (gone(2), Some(Away { since: at(2), until: None })),
            (gone(3), Some(Away { since: at(2), until: None })),
            (there(4), ended),
            (there(5), ended),
            (gone(6), Some(Away { since: at(6), until: None })),
        ];
        let mut away = None;
        for (found, expected) in looks {
            away = next(away, &found);
            assert_eq!(away, expected, "{:?}", found.at);
        }
    }
}
