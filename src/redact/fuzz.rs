//! Fuzzing: whatever stands around a contact, a passcode or a token, none of it is in the result.

use super::{Name, Redacted};

const LONGEST: usize = 300;
/// What must not be told.
const CANARIES: [&str; 6] = [
    "jane.doe@example.com",
    "+1 413 555 0150",
    "739154",
    "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
    "JBSWY3DPEHPK3PXP",
    "user%40example.com",
];
/// What may stand beside it. Not what could make it a part of something else, such as a UUID.
const BESIDE: [char; 8] = [' ', '\n', ':', ',', '"', '=', '\u{a0}', ';'];

/// The first two bytes choose what is hidden and what stands beside it; the rest surrounds it.
pub(crate) fn redaction(data: &[u8]) {
    let Some(([canary, beside], rest)) = data.split_first_chunk() else { return };
    let canary = CANARIES[usize::from(*canary) % CANARIES.len()];
    let beside = BESIDE[usize::from(*beside) % BESIDE.len()];
    let text = String::from_utf8_lossy(rest);
    is_fit(&text, &Redacted::of(&text, LONGEST));

    let (before, after) = text.split_at(text.floor_char_boundary(text.len() / 2));
    let hidden = format!("{before}{beside}{canary}{beside}{after}");
    let line = Redacted::of(&hidden, LONGEST);
    is_fit(&hidden, &line);
    if !text.contains(canary) {
        assert!(!line.contains(canary), "{hidden:?} became {:?}", line.as_str());
    }
    assert!(
        hidden.contains(Redacted::unquoted(&hidden, LONGEST).trim_end_matches('…'))
            || line.contains("[redacted]")
    );
    if let Some(name) = Name::of(&text) {
        assert_eq!(name.as_str(), text);
        assert_eq!(Redacted::of(name.as_str(), LONGEST).as_str(), text, "a name needs no redaction");
    }
}

fn is_fit(text: &str, line: &Redacted) {
    assert!(line.chars().count() <= LONGEST);
    assert!(!line.chars().any(char::is_control));
    assert!(
        !["@", "%40", "eyJ"].iter().any(|part| line.contains(part)),
        "{text:?} became {:?}",
        line.as_str()
    );
    // What was cut may end in half of something.
    if !line.ends_with('…') {
        assert_eq!(&Redacted::of(line, LONGEST), line, "{text:?} is not done with at once");
    }
}
