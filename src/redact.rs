//! Makes foreign text fit to be stored, logged and shown: one line, short, without contacts and tokens.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;

use std::{fmt, ops::Deref};

use time::OffsetDateTime;
use uuid::Uuid;

const REDACTED: &str = "[redacted]";
/// Digits in a row, separators aside, that could be a telephone number or a passcode: PingOne's have six at least.
const TELLING_DIGITS: usize = 6;
/// Letters and digits mixed, this many in a row, could be a key or a token. No group of a UUID is so long.
const KEY_LENGTH: usize = 16;
const UUID_LENGTH: usize = 36;

/// A sentence fit to be stored, logged and shown. Made only of the program's own words, numbers and instants, and of foreign text
/// that was redacted: there is no way from a `String` to it but [`Redacted::of`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redacted(String);

impl Redacted {
    /// `foreign` on one line of at most `longest` characters. What looks like an e-mail address, a telephone number, a passcode or a
    /// token is taken out, rather too much than too little; UUIDs stay, as support asks for them.
    #[must_use]
    pub fn of(foreign: &str, longest: usize) -> Self {
        let clean: String = foreign.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let words: Vec<&str> = clean.split_whitespace().map(without_address_or_token).collect();
        Self(cut(&without_phones(&words.join(" ")), longest))
    }

    /// The same, only up to where `foreign` begins to quote: what formats a value puts it into quotation marks or brackets, or
    /// after a colon.
    #[must_use]
    pub fn unquoted(foreign: &str, longest: usize) -> Self {
        let quotes = |c: char| matches!(c, '"' | '\'' | '`' | '(' | '[' | '{' | ':');
        let end = foreign.find(quotes).unwrap_or(foreign.len());
        Self::of(&foreign[..end], longest)
    }

    /// A sentence that this service has stored, so that it was redacted before.
    pub(crate) const fn from_stored(sentence: String) -> Self {
        Self(sentence)
    }

    /// This, followed by `more`.
    #[must_use]
    pub fn and(mut self, more: impl Into<Self>) -> Self {
        self.0.push_str(&more.into().0);
        self
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name such as `NOT_FOUND`, or an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// `text` if it is one: short, of letters, digits, `-`, `_` and `.` alone, neither a token nor a telephone number, and no bare
    /// number either, which could be a passcode.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let short = text.len() <= 64 && text.chars().any(|c| c.is_ascii_alphabetic());
        let named = short && text.chars().all(plain) && Redacted::of(text, text.len()).as_str() == text;
        named.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Name> for Redacted {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// The program's own words.
impl From<&'static str> for Redacted {
    fn from(words: &'static str) -> Self {
        Self(words.to_owned())
    }
}

/// A status.
impl From<u16> for Redacted {
    fn from(number: u16) -> Self {
        Self(number.to_string())
    }
}

impl From<OffsetDateTime> for Redacted {
    fn from(at: OffsetDateTime) -> Self {
        Self(at.to_string())
    }
}

impl From<Redacted> for String {
    fn from(sentence: Redacted) -> Self {
        sentence.0
    }
}

/// To be read, never to be made.
impl Deref for Redacted {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn without_address_or_token(word: &str) -> &str {
    // Every JSON web token begins with the base64 of `{"`.
    let telling = ["@", "%40", "eyJ"];
    let key = |part: &str| {
        part.len() >= KEY_LENGTH
            && part.contains(|c: char| c.is_ascii_digit())
            && part.contains(|c: char| c.is_ascii_alphabetic())
    };
    let has_key = word.split(|c: char| !c.is_ascii_alphanumeric()).any(key);
    if has_key || telling.iter().any(|part| word.contains(part)) { REDACTED } else { word }
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
    (number.chars().filter(|c| c.is_numeric()).count() >= TELLING_DIGITS).then_some(number.len())
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
            ("passcode 739154 has expired", "passcode [redacted] has expired"),
            ("token simulated.1.00ff00ff00ff00ff is not valid", "token [redacted] is not valid"),
            ("key=JBSWY3DPEHPK3PXP;", "[redacted]"),
            ("two\nlines\tand \u{7}a bell", "two lines and a bell"),
        ] {
            assert_eq!(Redacted::of(said, 300).as_str(), kept);
        }
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        let cut = Redacted::of(&"ü".repeat(400), 300);
        assert_eq!(cut.as_str().chars().count(), 300);
        assert!(cut.as_str().ends_with('…'));
    }

    #[test]
    fn what_is_quoted_is_left_out() {
        for (said, kept) in [
            ("invalid input syntax for type uuid: \"hunter2\"", "invalid input syntax for type uuid"),
            (
                "byte index 1 is not a char boundary; it is inside 'é'",
                "byte index 1 is not a char boundary; it is inside",
            ),
            ("it holds: Secret(hunter2)", "it holds"),
            ("the len is 3 but the index is 5", "the len is 3 but the index is 5"),
        ] {
            assert_eq!(Redacted::unquoted(said, 300).as_str(), kept);
        }
    }

    #[test]
    fn only_plain_names_are_names() {
        for right in ["NOT_FOUND", "6697f628-7712-4e71-b52b-920ba0635020"] {
            assert_eq!(Name::of(right).as_ref().map(Name::as_str), Some(right));
        }
        for wrong in [
            "",
            "jane@example.com",
            "two words",
            &"A".repeat(65),
            "123456",
            "tel-413-555-0150",
            "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
        ] {
            assert_eq!(Name::of(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_short_line(text in any::<String>()) {
            let line = String::from(Redacted::of(&text, 300));
            prop_assert!(line.chars().count() <= 300);
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert!(!line.contains('@'));
        }
    }
}
