//! A line of the screen: some of it coloured, none of it wider than there is room.

use crate::cli::{
    progress::shortened,
    screen::{Hue, Screen, printable},
};

#[derive(Debug, Clone, Default)]
pub(super) struct Line(Vec<(Option<Hue>, String)>);

impl Line {
    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push((None, printable(text)));
        self
    }

    pub(super) fn hued(mut self, hue: Hue, text: &str) -> Self {
        self.0.push((Some(hue), printable(text)));
        self
    }

    /// For stdout.
    pub(super) fn drawn(&self, screen: &Screen, room: usize) -> String {
        let mut left = room;
        let mut drawn = String::new();
        for (hue, text) in &self.0 {
            let text = shortened(text, left);
            left -= text.chars().count().min(left);
            drawn.push_str(&hue.map_or_else(|| text.clone(), |hue| screen.paint_data(hue, &text)));
            if left == 0 {
                break;
            }
        }
        drawn.trim_end().to_owned()
    }
}
