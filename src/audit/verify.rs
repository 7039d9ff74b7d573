//! Goes through the chain of a lane and says what is not as it was sealed. Pure: seals and events are shown to it.

use std::collections::{BTreeMap, HashMap, HashSet};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Action, Event, Hash, Head, Seal, Unnamed, first_id, hash, millis_at, millis_of};

/// What is not in a seal this long after its id was made never will be: nothing the service writes takes so long to commit.
pub const SETTLED_MS: u64 = 3_600_000;
/// What was sealed so much later than its id was made is worth a word.
const LATE_MS: u64 = 120_000;
/// Of one kind in one lane so many are told one by one; the others are counted.
const TOLD: usize = 20;
/// Seals that are wrong are compared with so many places on either side.
const NEIGHBOURS: i64 = 256;
/// Erasures and entries without what was personal, kept to be matched with each other.
const KEPT: usize = 1_000_000;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $sentence:literal),+ $(,)?) => {
        /// What can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $name),+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name for programs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// What it means.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence),+ }
            }
        }
    };
}

kinds! {
    /// A seal, or an event it names.
    Changed = "changed", "the seal, or an event it names, is not as it was sealed",
    /// An event that a seal names.
    EventMissing = "event_missing", "an event that was sealed is not there",
    /// An event that no seal names, though its time is long past.
    EventUnsealed = "event_unsealed", "an event is in no seal, and too old to be sealed still: it was put there afterwards, or its seal is gone",
    /// An event that two seals name.
    EventRepeated = "event_repeated", "an event is sealed twice",
    /// What is personal of an event.
    PersonalChanged = "personal_changed", "what is personal of an event is not as it was sealed",
    /// What is personal of an event, though no erasure was sealed.
    PersonalMissing = "personal_missing", "what was personal of an event is gone, and no erasure of it is sealed",
    /// One or more seals in the middle.
    SealMissing = "seal_missing", "seals are missing",
    /// A seal in the place of another.
    SealMoved = "seal_moved", "a seal is in the place of another",
    /// Two seals of one number.
    Forked = "forked", "there are two seals of one number",
    /// A seal that is sound by itself.
    Unlinked = "unlinked", "a seal does not follow the one before it: that one was made anew",
    /// Seals at the end, which there were when the head was exported.
    TailCut = "tail_cut", "the chain ends before its exported head: its end was cut off",
    /// The chain has another seal in the place of the exported head.
    HeadChanged = "head_changed", "the chain does not go through its exported head: it was written anew",
}

/// One thing that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// In which lane.
    pub lane: i16,
    /// At which seal.
    pub seal: Option<i64>,
    /// With which event.
    pub event: Option<Uuid>,
}

/// What became of a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The first of each kind.
    pub findings: Vec<Finding>,
    /// How many of each kind.
    pub counts: BTreeMap<Kind, u64>,
    /// Seals that were checked.
    pub seals: u64,
    /// Events that they name.
    pub events: u64,
    /// Of those: sealed minutes after their time.
    pub late: u64,
    /// The number of the first seal; above 1, what was before was forgotten.
    pub first: Option<i64>,
    /// Events that wait to be sealed.
    pub unsealed: u64,
    /// When the oldest of them was made, in milliseconds.
    pub oldest_unsealed: Option<u64>,
    /// The exported head is older than what is kept, so nothing was compared with it.
    pub head_forgotten: bool,
}

/// The chain of one lane, seal by seal.
#[derive(Debug)]
pub struct Chain {
    lane: i16,
    now: u64,
    /// What the next seal may follow: two after a fork.
    follows: Vec<Hash>,
    number: Option<i64>,
    /// Whether the seal before was wrong already: then that the next does not follow it says nothing new.
    broken: bool,
    expected: Option<Head>,
    from: Uuid,
    unnamed: Unnamed,
    highest: Uuid,
    /// Without what was personal, and no erasure seen yet.
    blank: HashMap<Uuid, i64>,
    /// Erased, and not met yet without what was personal.
    erased: HashSet<Uuid>,
    verdict: Verdict,
}

impl Chain {
    /// The chain of `lane` as of `now`, which should go through `expected`; from `since` on where it is not to be all of it.
    #[must_use]
    pub fn new(
        lane: i16,
        now: OffsetDateTime,
        expected: Option<Head>,
        since: Option<OffsetDateTime>,
    ) -> Self {
        let from = since.map_or(Uuid::nil(), |since| first_id(millis_at(since)));
        Self {
            lane,
            now: millis_at(now),
            follows: Vec::new(),
            number: None,
            broken: false,
            expected,
            from,
            // What was sealed late may be older than the first seal that is looked at.
            unnamed: Unnamed::after(from),
            highest: Uuid::nil(),
            blank: HashMap::new(),
            erased: HashSet::new(),
            verdict: Verdict::default(),
        }
    }

    /// Above which id events must be shown before a seal that names `ids` can be.
    #[must_use]
    pub fn wants(&self, seal: &Seal) -> Option<Uuid> {
        let possible = first_id(millis_at(seal.sealed_at) + SETTLED_MS);
        let highest = seal.events.iter().filter(|id| **id < possible).max()?;
        self.unnamed.wants(*highest)
    }

    /// The next events there are, in their order; none: there are no more.
    pub fn show(&mut self, ids: &[Uuid]) {
        self.unnamed.show(ids);
    }

    /// Up to where events were shown.
    #[must_use]
    pub const fn shown(&self) -> Uuid {
        self.unnamed.shown()
    }

    /// The next seal, and those of its events that are there, in the order of their ids.
    pub fn seal(&mut self, seal: &Seal, events: &[Event]) {
        let forked = self.number == Some(seal.number);
        self.verdict.first.get_or_insert(seal.number);
        self.verdict.seals += 1;
        self.count_events(seal, events, forked);
        let sound = self.contents(seal, events);
        let linked = self.link(seal, forked);
        if forked {
            self.found(Kind::Forked, Some(seal.number), None);
        } else if sound && !linked && !self.broken {
            self.found(Kind::Unlinked, Some(seal.number), None);
        }
        self.compare(seal);
        self.broken = !sound;
        if !forked {
            self.follows.clear();
        }
        self.follows.extend(seal.head().map(|head| head.hash));
        self.number = Some(seal.number);
    }

    /// The seals have ended, and whatever events are left were shown or are told of: `unsealed` more, the oldest made then.
    #[must_use]
    pub fn end(mut self, unsealed: u64, oldest: Option<Uuid>) -> Verdict {
        let settled = first_id(self.now.saturating_sub(SETTLED_MS));
        let left = std::mem::take(&mut self.unnamed);
        for id in left.left().iter().copied() {
            let inside = id < self.highest && id < settled;
            if id >= self.from && (inside || millis_of(id) > self.now.saturating_add(SETTLED_MS)) {
                self.found(Kind::EventUnsealed, None, Some(id));
            } else if id >= self.from {
                self.waits(1, id);
            }
        }
        if let Some(oldest) = oldest.filter(|_| unsealed > 0) {
            self.waits(unsealed, oldest);
        }
        if let Some(head) = self.expected.filter(|head| head.number > self.number.unwrap_or_default()) {
            self.found(Kind::TailCut, Some(head.number), None);
        }
        let mut blank: Vec<(Uuid, i64)> = std::mem::take(&mut self.blank).into_iter().collect();
        blank.sort_unstable();
        for (id, seal) in blank {
            self.found(Kind::PersonalMissing, Some(seal), Some(id));
        }
        self.verdict
    }

    fn waits(&mut self, events: u64, oldest: Uuid) {
        self.verdict.unsealed += events;
        let made = millis_of(oldest);
        self.verdict.oldest_unsealed =
            Some(self.verdict.oldest_unsealed.map_or(made, |known| known.min(made)));
    }

    fn found(&mut self, kind: Kind, seal: Option<i64>, event: Option<Uuid>) {
        let count = self.verdict.counts.entry(kind).or_default();
        *count += 1;
        if *count <= TOLD as u64 {
            self.verdict.findings.push(Finding { kind, lane: self.lane, seal, event });
        }
    }

    /// Each event is there and named once, and what is personal of it is as it was.
    fn count_events(&mut self, seal: &Seal, events: &[Event], forked: bool) {
        let sealed_at = millis_at(seal.sealed_at);
        for id in &seal.events {
            let Ok(at) = events.binary_search_by_key(id, |event| event.id) else {
                self.unnamed.name(*id);
                self.found(Kind::EventMissing, Some(seal.number), Some(*id));
                continue;
            };
            // What was not shown is older than where this began, or far younger than its seal.
            let shown = *id > self.from && *id <= self.unnamed.shown();
            if !self.unnamed.name(*id) && shown && !forked {
                self.found(Kind::EventRepeated, Some(seal.number), Some(*id));
            }
            self.highest = self.highest.max(*id);
            self.verdict.events += 1;
            self.verdict.late += u64::from(sealed_at > millis_of(*id) + LATE_MS);
            self.personal(seal.number, &events[at]);
        }
    }

    fn personal(&mut self, seal: i64, event: &Event) {
        if event.personal_is_genuine() == Some(false) {
            self.found(Kind::PersonalChanged, Some(seal), Some(event.id));
        }
        if event.is_erased() && !self.erased.remove(&event.id) && self.blank.len() < KEPT {
            self.blank.insert(event.id, seal);
        }
        if event.action() == Some(Action::Erased) {
            for id in event.erased.iter().flatten() {
                if self.blank.remove(id).is_none() && self.erased.len() < KEPT {
                    self.erased.insert(*id);
                }
            }
        }
    }

    /// Whether the seal covers what is there.
    fn contents(&mut self, seal: &Seal, events: &[Event]) -> bool {
        let named: Option<Vec<&Event>> = seal
            .events
            .iter()
            .map(|id| events.binary_search_by_key(id, |event| event.id).ok().map(|at| &events[at]))
            .collect();
        // What is missing has been told.
        let Some(named) = named else { return false };
        let covers =
            |number: i64| hash(&Seal { number, ..seal.clone() }, named.iter().copied())[..] == seal.hash;
        if covers(seal.number) {
            return true;
        }
        let places = (seal.number - NEIGHBOURS).max(1)..=seal.number.saturating_add(NEIGHBOURS);
        let told = self.verdict.counts.get(&Kind::Changed).copied().unwrap_or_default();
        let moved = told < TOLD as u64 && places.into_iter().any(covers);
        self.found(if moved { Kind::SealMoved } else { Kind::Changed }, Some(seal.number), None);
        false
    }

    /// Whether it follows the one before it.
    fn link(&mut self, seal: &Seal, forked: bool) -> bool {
        let Some(before) = self.number else {
            // The beginning, or what retention has left of it.
            return seal.number > 1 || seal.previous == super::BEGINNING;
        };
        if forked {
            return true;
        }
        if seal.number != before.saturating_add(1) {
            self.found(Kind::SealMissing, Some(before.saturating_add(1)), None);
            return true;
        }
        self.follows.is_empty() || self.follows.iter().any(|hash| hash[..] == seal.previous)
    }

    fn compare(&mut self, seal: &Seal) {
        let Some(expected) = self.expected else { return };
        if self.number.is_none() && expected.number < seal.number && expected.number > 0 {
            self.verdict.head_forgotten = true;
        }
        if expected.number == seal.number && seal.hash != expected.hash {
            self.found(Kind::HeadChanged, Some(seal.number), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_tells_every_kind_in_the_same_words() {
        let told = include_str!("../../docs/audit-verify.md");
        for kind in Kind::ALL {
            let row = format!("| `{}` | {} |", kind.name(), kind.sentence());
            assert!(told.contains(&row), "no row {row}");
        }
    }
}
