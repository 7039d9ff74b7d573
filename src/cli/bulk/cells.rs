//! The cells of one line. A row never goes on in the next line, so that a forgotten quotation mark costs one line and not the
//! rest of the file.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::lines::{LONGEST_LINE, Length};

/// More than a file with results has, and then some.
const MOST_CELLS: usize = 64;

pub(super) struct Cells {
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Cells {
    pub(super) fn new() -> Self {
        let reader = ReaderBuilder::new().terminator(Terminator::Any(b'\n')).build();
        Self { reader, text: Vec::new(), ends: vec![0; MOST_CELLS], count: 0 }
    }

    /// Takes `line` apart; it stands without its end, and is given one.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the line as a whole.
    pub(super) fn split(&mut self, line: &mut Vec<u8>, length: Length) -> Result<(), String> {
        self.count = 0;
        if length == Length::TooLong {
            return Err(format!("is longer than {} KiB", LONGEST_LINE / 1024));
        }
        if let Err(error) = std::str::from_utf8(line) {
            let byte = error.valid_up_to() + 1;
            return Err(format!("is not UTF-8 at its byte {byte}: save the file as \"CSV UTF-8\""));
        }
        line.push(b'\n');
        self.text.resize(line.len(), 0);
        self.reader.reset();
        let (result, _, _, count) = self.reader.read_record(line, &mut self.text, &mut self.ends);
        match result {
            ReadRecordResult::Record => self.count = count,
            // A line of nothing.
            ReadRecordResult::End => {}
            ReadRecordResult::InputEmpty if is_blank(line) => {}
            ReadRecordResult::InputEmpty => return Err("has a quotation mark that nothing closes".to_owned()),
            ReadRecordResult::OutputEndsFull | ReadRecordResult::OutputFull => {
                return Err(format!("has more than {MOST_CELLS} cells"));
            }
        }
        Ok(())
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// The cell without the blanks around it; empty where there is none.
    pub(super) fn get(&self, at: usize) -> &str {
        if at >= self.count {
            return "";
        }
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        std::str::from_utf8(&self.text[start..self.ends[at]])
            .expect("cut between characters")
            .trim_matches(' ')
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.count).map(|at| self.get(at))
    }

    /// Whether nothing stands in the line: spreadsheets leave such lines behind.
    pub(super) fn is_blank(&self) -> bool {
        self.iter().all(str::is_empty)
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &[u8]) -> Result<Vec<String>, String> {
        let mut cells = Cells::new();
        // What a line leaves behind must not show in the next one.
        let _ = cells.split(&mut b"\"left open, ".to_vec(), Length::Usual);
        cells.split(&mut line.to_vec(), Length::Usual)?;
        Ok(cells.iter().map(str::to_owned).collect())
    }

    #[test]
    fn cells_are_cut_at_commas_and_rid_of_their_quotes() {
        let cases: [(&str, &[&str]); 7] = [
            ("a,b,c", &["a", "b", "c"]),
            ("\"a,b\", c ", &["a,b", "c"]),
            ("\"say \"\"hi\"\"\",", &["say \"hi\"", ""]),
            (",,", &["", "", ""]),
            ("a\rb,c", &["a\rb", "c"]),
            ("Zoë,", &["Zoë", ""]),
            ("", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(split(line.as_bytes()).as_deref(), Ok(&expected.map_to_owned()[..]), "{line:?}");
        }
    }

    trait Owned {
        fn map_to_owned(&self) -> Vec<String>;
    }

    impl Owned for &[&str] {
        fn map_to_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn lines_that_can_not_be_read_say_why() {
        let many = ",".repeat(100);
        let cases: [(&[u8], &str); 3] = [
            (b"a,\"b", "quotation mark"),
            (b"a,\xffb", "not UTF-8 at its byte 3"),
            (many.as_bytes(), "more than 64 cells"),
        ];
        for (line, expected) in cases {
            let said = split(line).expect_err(expected);
            assert!(said.contains(expected), "{said}");
        }
        let said = Cells::new().split(&mut b"a".to_vec(), Length::TooLong).expect_err("too long");
        assert_eq!(said, "is longer than 64 KiB");
    }
}
