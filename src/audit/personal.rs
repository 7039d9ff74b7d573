//! What an event says about a person, in a form of its own: it can be erased, and its digest stays.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::device::{DeviceId, UserId};

/// Without it a digest would tell who it is of to anybody who tries all users.
const SALT: usize = 16;

/// Of whom, for whom and why.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Personal {
    /// Whose device.
    pub user: Option<UserId>,
    /// Which; nothing: all that are blocked, or all of them.
    pub device: Option<DeviceId>,
    /// The person the caller acted for, as its verified token said.
    pub acting_for: String,
    /// For whom, in the caller's word only.
    pub on_behalf_of: String,
    /// Why.
    pub reason: String,
    /// For which case.
    pub ticket: String,
    /// The caller's name for the row of a batch.
    pub reference: String,
}

/// What is personal as it is stored, and what a seal covers of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed {
    /// The salt, then the fields that are not empty.
    pub bytes: Vec<u8>,
    /// SHA-256 of all of it.
    pub digest: [u8; 32],
}

/// Without what it says.
impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Personal").finish_non_exhaustive()
    }
}

/// Without what it says.
impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").finish_non_exhaustive()
    }
}

pub(super) fn digest(packed: &[u8]) -> [u8; 32] {
    Sha256::digest(packed).into()
}

impl Personal {
    /// Why, and for which case; about nobody.
    #[must_use]
    pub fn because(reason: &str, ticket: &str) -> Self {
        Self { reason: reason.to_owned(), ticket: ticket.to_owned(), ..Self::default() }
    }

    /// What stands behind the salt of whatever is about `user`, and of nothing else.
    #[must_use]
    pub fn about(user: UserId) -> [u8; 19] {
        let mut bytes = [0; 19];
        let (front, id) = bytes.split_at_mut(3);
        front.copy_from_slice(&[USER, 0, 16]);
        id.copy_from_slice(user.as_uuid().as_bytes());
        bytes
    }

    /// Packs it with a salt that nobody can guess.
    #[must_use]
    pub fn pack(&self) -> Packed {
        // 122 bits of it are random.
        self.pack_with(Uuid::new_v4().into_bytes())
    }

    /// The salt; then for each field that is not empty, in the order of their numbers, its number, its length in two bytes, and
    /// itself. A user, where there is one, comes first: its sixteen bytes are always the same ones.
    #[must_use]
    pub fn pack_with(&self, salt: [u8; SALT]) -> Packed {
        let user = self.user.map(|id| id.as_uuid().into_bytes());
        let device = self.device.map(|id| id.as_uuid().into_bytes());
        let texts = self.texts();
        let length = texts.iter().map(|text| text.len() + 3).sum::<usize>();
        let mut bytes = Vec::with_capacity(SALT + 2 * 19 + length);
        bytes.extend_from_slice(&salt);
        put(&mut bytes, USER, user.as_ref().map_or(&[], |id| &id[..]));
        put(&mut bytes, DEVICE, device.as_ref().map_or(&[], |id| &id[..]));
        for (text, number) in texts.into_iter().zip(DEVICE + 1..) {
            put(&mut bytes, number, up_to(text, usize::from(u16::MAX)).as_bytes());
        }
        Packed { digest: digest(&bytes), bytes }
    }

    /// Reads what was packed; nothing where it was not packed so.
    #[must_use]
    pub fn unpack(packed: &[u8]) -> Option<Self> {
        let mut rest = packed.get(SALT..)?;
        let mut personal = Self::default();
        let mut last = 0;
        while let [number, high, low, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let value = after.get(..length)?;
            rest = &after[length..];
            if *number <= last || value.is_empty() {
                return None;
            }
            last = *number;
            match *number {
                USER => personal.user = Some(Uuid::from_slice(value).ok()?.into()),
                DEVICE => personal.device = Some(Uuid::from_slice(value).ok()?.into()),
                number => {
                    let text = personal.texts_mut().into_iter().nth(usize::from(number - DEVICE - 1))?;
                    *text = String::from_utf8(value.to_vec()).ok()?;
                }
            }
        }
        rest.is_empty().then_some(personal)
    }

    const fn texts(&self) -> [&String; 5] {
        [&self.acting_for, &self.on_behalf_of, &self.reason, &self.ticket, &self.reference]
    }

    const fn texts_mut(&mut self) -> [&mut String; 5] {
        [
            &mut self.acting_for,
            &mut self.on_behalf_of,
            &mut self.reason,
            &mut self.ticket,
            &mut self.reference,
        ]
    }
}

const USER: u8 = 1;
const DEVICE: u8 = 2;

fn put(bytes: &mut Vec<u8>, number: u8, value: &[u8]) {
    let Ok(length) = u16::try_from(value.len()) else { return };
    if length > 0 {
        bytes.push(number);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(value);
    }
}

/// Far beyond what any field may hold: so that a length always fits.
fn up_to(text: &str, longest: usize) -> &str {
    let end = (0..=text.len().min(longest)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}
