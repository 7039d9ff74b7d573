//! The lines of a file, one in memory at a time, however long it is.

use std::io::{self, BufRead, Read as _};

pub(super) const LONGEST_LINE: usize = 64 * 1024;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Usual,
    /// More than [`LONGEST_LINE`]: only its beginning is kept.
    TooLong,
}

pub(super) struct Lines<R> {
    input: R,
    place: Place,
}

/// Where a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// In bytes.
    pub(super) position: u64,
    /// How many lines come before it.
    pub(super) line: u64,
}

impl<R: BufRead> Lines<R> {
    /// `input` begins at `place`.
    pub(super) const fn at(place: Place, input: R) -> Self {
        Self { input, place }
    }

    /// Where the next line begins; after reading one, its number is `place().line`.
    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// Reads the next line, without its end, into `line`; nothing at the end of the file.
    ///
    /// # Errors
    /// What reading gives.
    pub(super) fn read(&mut self, line: &mut Vec<u8>) -> io::Result<Option<Length>> {
        line.clear();
        let most = u64::try_from(LONGEST_LINE).expect("a small number") + 1;
        let read = (&mut self.input).take(most).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(None);
        }
        let mut length = Length::Usual;
        let mut bytes = read;
        if line.last() != Some(&b'\n') && read > LONGEST_LINE {
            length = Length::TooLong;
            bytes += self.input.skip_until(b'\n')?;
        }
        self.place.line += 1;
        self.place.position += u64::try_from(bytes).expect("no more than a file holds");
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_end_is_taken_off_and_long_lines_are_passed_over() -> io::Result<()> {
        let long = "x".repeat(3 * LONGEST_LINE);
        let text = format!("a\nb\r\n\n{long}\nlast");
        let mut lines = Lines::at(Place::default(), text.as_bytes());
        let mut line = Vec::new();
        let mut read = Vec::new();
        while let Some(length) = lines.read(&mut line)? {
            assert!(line.len() <= LONGEST_LINE + 1);
            read.push((lines.place().line, line.iter().take(4).copied().collect::<Vec<_>>(), length));
        }
        let expected = [
            (1, b"a".to_vec(), Length::Usual),
            (2, b"b".to_vec(), Length::Usual),
            (3, b"".to_vec(), Length::Usual),
            (4, b"xxxx".to_vec(), Length::TooLong),
            (5, b"last".to_vec(), Length::Usual),
        ];
        assert_eq!(read, expected);
        assert_eq!(lines.place().position, u64::try_from(text.len()).expect("a small number"));
        Ok(())
    }
}
