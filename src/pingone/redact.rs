//! Makes foreign text fit to be stored, logged and shown: one line, short, without contacts and tokens.

use uuid::Uuid;

const REDACTED: &str = "[redacted]";
/// Digits in a row, separators aside, that could be a telephone number.
const PHONE_DIGITS: usize = 7;
const UUID_LENGTH: usize = 36;

/// `text` on one line of at most `longest` characters. What looks like an e-mail address, a telephone number or a token is
/// taken out, rather too much than too little; UUIDs stay, as support asks for them.
pub(crate) fn redact(text: &str, longest: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = clean.split_whitespace().map(without_address_or_token).collect();
    cut(&without_phones(&words.join(" ")), longest)
}

/// `text` if it is a name such as `NOT_FOUND` or an id: short, and of letters, digits, `-`, `_` and `.` alone.
pub(crate) fn name(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!text.is_empty() && text.len() <= 64 && text.chars().all(plain)).then(|| text.to_owned())
}

fn without_address_or_token(word: &str) -> &str {
    // Every JSON web token begins with the base64 of `{"`.
    let telling = ["@", "%40", "eyJ"];
    if telling.iter().any(|part| word.contains(part)) { REDACTED } else { word }
}

fn without_phones(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = if let Some(uuid) = leading_uuid(rest, kept.chars().last()) {
            kept.push_str(uuid);
            uuid.len()
        } else if let Some(length) = leading_phone(rest) {
            kept.push_str(REDACTED);
            length
        } else {
            kept.push(first);
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    kept
}

fn leading_uuid(text: &str, before: Option<char>) -> Option<&str> {
    let candidate = text.get(..UUID_LENGTH)?;
    let starts_word = !before.is_some_and(char::is_alphanumeric);
    (starts_word && candidate.contains('-') && Uuid::try_parse(candidate).is_ok()).then_some(candidate)
}

/// The length in bytes of the number that `text` begins with.
fn leading_phone(text: &str) -> Option<usize> {
    if !text.starts_with(|c: char| c.is_numeric() || c == '+' || c == '(') {
        return None;
    }
    let part = |c: char| c.is_numeric() || matches!(c, '+' | '(' | ')' | '-' | '.' | '/' | ' ');
    let run = &text[..text.find(|c| !part(c)).unwrap_or(text.len())];
    let number = run.trim_end_matches(|c: char| !c.is_numeric());
    (number.chars().filter(|c| c.is_numeric()).count() >= PHONE_DIGITS).then_some(number.len())
}

fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(longest.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn contacts_and_tokens_are_taken_out_and_the_rest_stays() {
        for (said, kept) in [
            ("The device was not found.", "The device was not found."),
            ("user \"jane@example.com\", not found", "user [redacted] not found"),
            ("user=jane%40example.com", "[redacted]"),
            ("phone +14135550150 is wrong", "phone [redacted] is wrong"),
            ("phone (413) 555-0150x7, wrong", "phone [redacted]x7, wrong"),
            ("phone 413 555 0150.", "phone [redacted]."),
            ("tel:4135550150", "tel:[redacted]"),
            ("got Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "got Bearer [redacted]"),
            ("between 1 and 7, 400 of 500", "between 1 and 7, 400 of 500"),
            ("id 6697f628-7712-4e71-b52b-920ba0635020.", "id 6697f628-7712-4e71-b52b-920ba0635020."),
            ("two\nlines\tand \u{7}a bell", "two lines and a bell"),
        ] {
            assert_eq!(redact(said, 300), kept);
        }
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        let cut = redact(&"ü".repeat(400), 300);
        assert_eq!(cut.chars().count(), 300);
        assert!(cut.ends_with('…'));
    }

    #[test]
    fn only_plain_names_are_names() {
        assert_eq!(name("NOT_FOUND").as_deref(), Some("NOT_FOUND"));
        for wrong in ["", "jane@example.com", "two words", &"A".repeat(65)] {
            assert_eq!(name(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_short_line(text in any::<String>()) {
            let line = redact(&text, 300);
            prop_assert!(line.chars().count() <= 300);
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert!(!line.contains('@'));
        }
    }
}
