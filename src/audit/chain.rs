//! The chain of a lane: each seal covers the one before it and the events it names, in their order. Pure.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Event;
use crate::device::Lane;

/// Leads what is hashed: another order or another set of fields would be another version.
const VERSION: u8 = 1;

/// The hash of a seal.
pub type Hash = [u8; 32];

/// What the first seal of a lane follows.
pub const BEGINNING: Hash = [0; 32];

/// The end of a chain: what the next seal follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the newest seal; 0: there is none yet.
    pub number: i64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// Of a lane where nothing is sealed.
    pub const NONE: Self = Self { number: 0, hash: BEGINNING };
}

/// A seal as it is stored, with nothing interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Whose chain it is in.
    pub lane: i16,
    /// Its place there, from 1 on.
    pub number: i64,
    /// When, by Postgres's clock.
    pub sealed_at: OffsetDateTime,
    /// The hash of the seal before it.
    pub previous: Vec<u8>,
    /// Of all of it, see [`hash`].
    pub hash: Vec<u8>,
    /// What it seals.
    pub events: Vec<Uuid>,
}

impl Seal {
    /// Seals `events` behind `head`.
    #[must_use]
    pub fn new(lane: Lane, head: Head, sealed_at: OffsetDateTime, events: &[Event]) -> Self {
        let mut seal = Self {
            lane: lane.number(),
            number: head.number + 1,
            sealed_at,
            previous: head.hash.to_vec(),
            hash: Vec::new(),
            events: events.iter().map(|event| event.id).collect(),
        };
        seal.hash = hash(&seal, events).to_vec();
        seal
    }

    /// What the next one follows; nothing where its hash is none.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let hash = self.hash.as_slice().try_into().ok()?;
        Some(Head { number: self.number, hash })
    }
}

/// SHA-256 of: a version, the lane, the number, the microsecond, how long the hash before it is and that hash, how many events
/// there are, and the [canonical bytes](Event::canonical) of each. Numbers with the highest byte first.
#[must_use]
pub fn hash<'a>(
    seal: &Seal,
    events: impl IntoIterator<Item = &'a Event, IntoIter: ExactSizeIterator>,
) -> Hash {
    let events = events.into_iter();
    let micros = i64::try_from(seal.sealed_at.unix_timestamp_nanos() / 1000).unwrap_or_default();
    let mut digest = Sha256::new()
        .chain_update([VERSION])
        .chain_update(seal.lane.to_be_bytes())
        .chain_update(seal.number.to_be_bytes())
        .chain_update(micros.to_be_bytes())
        .chain_update(length(seal.previous.len()))
        .chain_update(&seal.previous)
        .chain_update(length(events.len()));
    for event in events {
        digest.update(event.canonical());
    }
    digest.finalize().into()
}

/// In four bytes: neither a hash nor a seal comes near what does not fit.
fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).unwrap_or(u32::MAX).to_be_bytes()
}

/// The millisecond an id was made in, by the clock of whoever made it.
#[must_use]
pub fn millis_of(id: Uuid) -> u64 {
    // The upper 48 bits of version 7.
    u64::try_from(id.as_u128() >> 80).unwrap_or_default()
}

/// Below every id of that millisecond and later ones, above all earlier ones.
#[must_use]
pub fn first_id(millis: u64) -> Uuid {
    Uuid::from_u128(u128::from(millis.min((1 << 48) - 1)) << 80)
}

/// The milliseconds of an instant, as ids have them.
#[must_use]
pub fn millis_at(instant: OffsetDateTime) -> u64 {
    u64::try_from(instant.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

/// Which of the events there are no seal names: one pass over both, each in its order. What is kept is what one is ahead of the
/// other, not what there is.
#[derive(Debug, Default)]
pub struct Unnamed {
    waiting: BTreeSet<Uuid>,
    /// All events up to this were shown.
    shown: Uuid,
    ended: bool,
}

impl Unnamed {
    /// Begins with the events above `after`.
    #[must_use]
    pub fn after(after: Uuid) -> Self {
        Self { waiting: BTreeSet::new(), shown: after, ended: false }
    }

    /// From where on events must be shown before it can be said whether `id` is one of them.
    #[must_use]
    pub fn wants(&self, id: Uuid) -> Option<Uuid> {
        (!self.ended && id > self.shown).then_some(self.shown)
    }

    /// The next events there are, in their order; none: there are no more.
    pub fn show(&mut self, ids: &[Uuid]) {
        self.ended = ids.is_empty();
        self.shown = ids.last().copied().unwrap_or(self.shown);
        self.waiting.extend(ids);
    }

    /// A seal names `id`. Whether it is the first to do so.
    pub fn name(&mut self, id: Uuid) -> bool {
        self.waiting.remove(&id)
    }

    /// What was shown and no seal has named so far.
    #[must_use]
    pub const fn left(&self) -> &BTreeSet<Uuid> {
        &self.waiting
    }

    /// Up to where events were shown.
    #[must_use]
    pub const fn shown(&self) -> Uuid {
        self.shown
    }
}
