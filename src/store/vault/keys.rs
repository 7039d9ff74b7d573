//! Keys: of the configuration, by name, and what one does. AES-256-GCM, nonces at random.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::zeroize::Zeroizing;

use crate::store::StoreError;

const KEY_LEN: usize = 32;
const NAME_AT_MOST: usize = 64;

/// The keys that wrap data keys, by name. The first wraps, all open.
#[derive(Debug)]
pub struct SnapshotKeys(Vec<(String, Key)>);

/// What is wrong with a text of keys. Quotes none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// There is no key in it.
    #[error("there is no key; write a line such as 2026-11:BASE64, of 32 random bytes")]
    None,
    /// Of this line, the first being 1.
    #[error(
        "line {0} is no key; write NAME:BASE64, of 32 random bytes, the name of letters, digits, - and _"
    )]
    Line(usize),
    /// Of this line.
    #[error("line {0} has a name that another has")]
    Twice(usize),
}

impl SnapshotKeys {
    /// Reads lines of `name:base64 of 32 bytes`.
    ///
    /// # Errors
    /// [`KeysError`] says which line is wrong.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut keys: Vec<(String, Key)> = Vec::new();
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            let (name, key) = read(text.trim()).ok_or(KeysError::Line(line))?;
            if keys.iter().any(|(other, _)| *other == name) {
                return Err(KeysError::Twice(line));
            }
            keys.push((name, key));
        }
        if keys.is_empty() { Err(KeysError::None) } else { Ok(Self(keys)) }
    }

    /// The one that wraps.
    pub(super) fn first(&self) -> (&str, &Key) {
        let (name, key) = self.0.first().expect("without a key there are no keys: see parse");
        (name, key)
    }

    pub(super) fn find(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, key)| key)
    }
}

fn read(line: &str) -> Option<(String, Key)> {
    let (name, key) = line.split_once(':')?;
    let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let named = (1..=NAME_AT_MOST).contains(&name.len()) && name.chars().all(letters);
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(key.trim()).ok()?);
    let bytes: &[u8; KEY_LEN] = bytes.as_slice().try_into().ok()?;
    named.then(|| (name.to_owned(), Key::new(bytes)))
}

/// One key. Prints nothing of itself.
pub(super) struct Key(RandomizedNonceKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub(super) fn new(bytes: &[u8; KEY_LEN]) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, bytes).expect("a key of AES-256 has 32 bytes"))
    }

    /// Nonce, what is encrypted, tag.
    pub(super) fn seal(&self, belonging: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut sealed = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(belonging), &mut sealed);
        let nonce =
            nonce.map_err(|_| StoreError::Sealed("there is no randomness to encrypt with".to_owned()))?;
        Ok([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// The inverse of [`Key::seal`]; nothing where any of it differs.
    pub(super) fn open(&self, belonging: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let length = self.0.open_in_place(nonce, Aad::from(belonging), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

/// 32 random bytes.
pub(super) fn new_secret() -> Result<Zeroizing<[u8; KEY_LEN]>, StoreError> {
    let mut secret = Zeroizing::new([0; KEY_LEN]);
    aws_lc_rs::rand::fill(secret.as_mut_slice())
        .map_err(|_| StoreError::Sealed("there is no randomness for a key".to_owned()))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, byte: u8) -> String {
        format!("{name}:{}", BASE64_STANDARD.encode([byte; KEY_LEN]))
    }

    #[test]
    fn keys_are_read_line_by_line_and_the_first_wraps() {
        let text = format!("\n{}\r\n\n  {}\n", line("new", 1), line("old_2025-01", 2));
        let keys = SnapshotKeys::parse(&text);
        assert_eq!(keys.as_ref().map(|keys| keys.first().0), Ok("new"));
        assert!(keys.is_ok_and(|keys| keys.find("old_2025-01").is_some() && keys.find("other").is_none()));
    }

    #[test]
    fn each_mistake_names_its_line_and_quotes_no_key() {
        let short = format!("a:{}", BASE64_STANDARD.encode([7; 31]));
        for (text, wrong) in [
            (String::new(), KeysError::None),
            (" \n".to_owned(), KeysError::None),
            ("a".to_owned(), KeysError::Line(1)),
            (format!("{}\nb:%%", line("a", 1)), KeysError::Line(2)),
            (short, KeysError::Line(1)),
            (line("", 1), KeysError::Line(1)),
            (line("a b", 1), KeysError::Line(1)),
            (line(&"a".repeat(65), 1), KeysError::Line(1)),
            (format!("{}\n{}", line("a", 1), line("a", 2)), KeysError::Twice(2)),
        ] {
            assert_eq!(SnapshotKeys::parse(&text).err(), Some(wrong));
        }
        assert!(SnapshotKeys::parse(&line("a", 1)).is_ok_and(|keys| !format!("{keys:?}").contains("AQEB")));
    }

    #[test]
    fn what_was_changed_or_moved_does_not_open() -> Result<(), StoreError> {
        let key = Key::new(&[1; KEY_LEN]);
        let sealed = key.seal(b"here", b"told")?;
        assert_eq!(key.open(b"here", &sealed).as_deref(), Some(b"told".as_slice()));
        assert_ne!(key.seal(b"here", b"told")?, sealed, "no nonce is used twice");
        assert_eq!(key.open(b"there", &sealed), None);
        assert_eq!(Key::new(&[2; KEY_LEN]).open(b"here", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(b"here", &changed), None, "byte {at}");
            assert_eq!(key.open(b"here", &sealed[..at]), None, "{at} bytes");
        }
        Ok(())
    }
}
