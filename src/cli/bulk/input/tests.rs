use std::io::Write as _;

use super::*;
use crate::cli::{
    bulk::lines::LONGEST_LINE,
    screen::{Format, Screen},
};

const ENV: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
const OTHER: &str = "bbfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
const USER: &str = "b30ac647-e33e-464f-a6ea-0275082d4c26";
const DEVICE: &str = "6697f628-7712-4e71-b52b-920ba0635020";
const HEADER: &str = "environment_id,user_id,device_id,reference";

/// A file of that text, checked; every line of it is good.
pub(in crate::cli::bulk) fn input(text: &str) -> Result<Input, Error> {
    let (input, said) = check(text.as_bytes(), None);
    assert_eq!(said, "", "{text}");
    input
}

/// A file of those bytes, checked, and the mistakes that were written down.
fn check(bytes: &[u8], environment: Option<&str>) -> (Result<Input, Error>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let written = folder.path().join("errors.csv");
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(bytes).expect("written");
    let screen = Screen::new(Format::Table, true);
    let mut mistakes = Mistakes::new(&screen, written.clone());
    let environment = environment.map(|id| EnvironmentId::parse(id).expect("a UUID"));
    let input = Input::check(Source::of(file), environment, &mut mistakes);
    drop(mistakes);
    (input, std::fs::read_to_string(written).unwrap_or_default())
}

fn refused(bytes: &[u8]) -> String {
    match check(bytes, None) {
        (Err(Error::Usage(sentence)), _) => sentence,
        (other, said) => panic!("not refused: {other:?} {said}"),
    }
}

#[test]
fn good_lines_in_every_spelling_are_rows() -> Result<(), Error> {
    let text = format!(
        "\u{feff}{HEADER}\r\n{ENV},{USER},{DEVICE},Zoë\r\n\n \n,,,\n{OTHER}, {USER} ,,\n\"{ENV}\",\"{USER}\",,\"a, \"\"b\"\"\"",
    );
    let input = input(&text)?;
    let counts: Vec<_> = input.parts.iter().map(|part| (part.rows, part.by_user)).collect();
    assert_eq!(counts, [(2, 1), (1, 1)]);
    let mut rows = input.rows();
    let mut references = Vec::new();
    while let Some((place, row)) = rows.next()? {
        references.push((place.line + 1, row.expect("a good row").reference));
    }
    assert_eq!(references, [(2, "Zoë".to_owned()), (6, String::new()), (7, "a, \"b\"".to_owned())]);
    Ok(())
}

#[test]
fn rows_of_a_part_begin_where_it_does() -> Result<(), Error> {
    let input = input(&format!("{HEADER}\n{ENV},{USER},,1\n{OTHER},{USER},,2\n{ENV},{USER},,3\n"))?;
    let (_, row) = input.rows_of(&input.parts[1]).next()?.expect("a row");
    assert_eq!(row.expect("a good row").reference, "2");
    Ok(())
}

#[test]
fn an_environment_can_be_given_for_rows_that_name_none() {
    let (input, said) = check(format!("user_id\n{USER}\n").as_bytes(), Some(OTHER));
    assert_eq!((input.expect("good").parts[0].environment.to_string().as_str(), said.as_str()), (OTHER, ""));
    let text = format!("user_id,environment_id\n{USER},\n{USER},{ENV}\n");
    let (input, said) = check(text.as_bytes(), Some(OTHER));
    let environments: Vec<_> =
        input.expect("good").parts.iter().map(|part| part.environment.to_string()).collect();
    assert_eq!((environments, said.as_str()), (vec![OTHER.to_owned(), ENV.to_owned()], ""));
}

#[test]
fn every_kind_of_bad_line_is_told_with_its_line_and_column() {
    let long = "x".repeat(LONGEST_LINE + 1);
    let hundred_and_one = "ä".repeat(101);
    let cases: [(String, &str); 12] = [
        (format!("{ENV},abc,,"), "2,user_id,\"\"\"abc\"\" is not a UUID such as"),
        (format!("abc,{USER},,"), "2,environment_id,\"\"\"abc\"\" is not a UUID"),
        (format!("{ENV},{USER},abc,"), "2,device_id,\"\"\"abc\"\" is not a UUID"),
        (format!("{ENV},,,"), "2,user_id,is empty"),
        (format!(",{USER},,"), "2,environment_id,\"is empty: fill it, or give --environment\""),
        (format!("{ENV},{USER},"), "2,,\"has 3 cells, too few: the header has 4\""),
        (format!("{ENV},{USER},,,"), "2,,\"has 5 cells, too many: the header has 4\""),
        (format!("{ENV},{USER},,\"open"), "2,,has a quotation mark that nothing closes"),
        (format!("{ENV},{USER},,{hundred_and_one}"), "2,reference,has 101 characters; 100 are allowed"),
        (format!("{ENV},{USER},,a\tb"), "2,reference,\"holds a control character, such as a tab\""),
        (format!("{ENV},{USER},,a\rb"), "2,reference,\"holds a control character, such as a tab\""),
        (format!("{ENV},{USER},,{long}"), "2,,is longer than 64 KiB"),
    ];
    for (line, expected) in cases {
        let text = format!("{HEADER}\n{line}\n{ENV},{USER},,good\n");
        let (input, said) = check(text.as_bytes(), None);
        assert!(said.contains(expected), "{expected}\n{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
        assert_eq!(input.expect("the other row is good").row_count(), 1);
    }
    let (_, said) = check(format!("{HEADER}\nabc,abc,abc,\n").as_bytes(), None);
    assert_eq!(said.lines().count(), 4, "all mistakes of a line: {said}");
    let not_utf8 = [HEADER.as_bytes(), b"\nZo\xeb,,,\n"].concat();
    assert!(check(&not_utf8, None).1.contains("not UTF-8 at its byte 3"));
}

#[test]
fn a_file_of_another_kind_is_refused_with_what_to_do() {
    let utf16: Vec<u8> = "\u{feff}environment_id".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&[u8], &str); 7] = [
        (&utf16, "is UTF-16: save it as"),
        (b"\xfe\xff\0e", "is UTF-16"),
        (b"", "is empty"),
        (b"\n", "line 1: the column environment_id is missing"),
        (b"environment_id,user_id\r\n\r\n", "has a header but no rows"),
        (b"environment_id,user_id\nx,y\n", "has no good row"),
        (b"environment_id,user_id,colour\n", "line 1: there is no column \"colour\""),
    ];
    for (bytes, expected) in cases {
        let said = refused(bytes);
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn a_column_of_wrong_environments_does_not_fill_the_memory() {
    let row = |n: u32| format!("{n:08x}{},{USER}\n", &ENV[8..]);
    let text = format!("environment_id,user_id\n{}", (0..=1000).map(row).collect::<String>());
    assert!(refused(text.as_bytes()).contains("more than 1000 environments"));
}
