//! Fuzzing: the files that people give to `bulk`.

use std::io::BufReader;

use super::{
    cells::Cells,
    columns::Columns,
    lines::{LONGEST_LINE, Lines, Place},
    row::Row,
};
use crate::cli::batch::row::armed;

/// Every file is read to its end, row by row; a row that is good is the same when it is written and read again.
pub(crate) fn bulk_file(data: &[u8]) {
    let (mut lines, mut cells, mut line) =
        (Lines::at(Place::default(), BufReader::new(data)), Cells::new(), Vec::new());
    let Some(columns) =
        next(&mut lines, &mut line, &mut cells).and_then(|()| Columns::read(&cells, false).ok())
    else {
        return;
    };
    loop {
        let place = lines.place();
        let start = usize::try_from(place.position).expect("within the file");
        assert!(start <= data.len());
        let Ok(Some(length)) = lines.read(&mut line) else { break };
        assert!(line.len() <= LONGEST_LINE + 1 && lines.place().position > place.position);
        if cells.split(&mut line, length).is_err() {
            continue;
        }
        match Row::read(&columns, &cells, None, place.line + 1) {
            Ok(row) => is_the_same_again(&row, &columns, &data[start..]),
            Err(mistakes) => {
                assert!(!mistakes.is_empty() && mistakes.iter().all(|one| one.line == place.line + 1))
            }
        }
    }
}

fn is_the_same_again(row: &Row, columns: &Columns, from_there: &[u8]) {
    let read = |bytes: &[u8], columns: &Columns| {
        let (mut lines, mut cells, mut line) = (Lines::at(Place::default(), bytes), Cells::new(), Vec::new());
        next(&mut lines, &mut line, &mut cells)?;
        Row::read(columns, &cells, None, 1).ok()
    };
    assert_eq!(
        read(from_there, columns).as_ref(),
        Some(row),
        "an upload goes on at a row it has not read before"
    );

    let mut writer = csv::Writer::from_writer(Vec::new());
    let device = row.device.map(|device| device.to_string()).unwrap_or_default();
    let written =
        [row.environment.to_string(), row.user.to_string(), device, armed(&row.reference).into_owned()];
    writer.write_record(&written).expect("memory takes it");
    let written = writer.into_inner().expect("memory takes it");
    let own = Columns { environment: Some(0), user: 1, device: Some(2), reference: Some(3), count: 4 };
    assert_eq!(read(&written, &own).as_ref(), Some(row), "{}", String::from_utf8_lossy(&written));
}

/// The cells of the next line, if it has any.
fn next<R: std::io::BufRead>(lines: &mut Lines<R>, line: &mut Vec<u8>, cells: &mut Cells) -> Option<()> {
    let length = lines.read(line).ok()??;
    cells.split(line, length).ok()
}
