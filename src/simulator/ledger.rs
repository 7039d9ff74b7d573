//! What reached the simulator and what became of it.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::{Duration, Instant},
};

use http::{Method, header};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{
    deviation::{self, Deviation, Deviations},
    fault::Fault,
    seen::{Route, Seen},
    watched::Watched,
};
use crate::device::DeviceId;

/// A timer may wake so much too early without being called impatient.
const CLOCK_SLACK: Duration = Duration::from_millis(5);

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Counted from 1 in order of arrival.
    pub number: u64,
    /// The connection it came on, counted from 1.
    pub connection: u64,
    /// When it had been read whole; since the simulator's start, on the monotonic clock.
    #[serde(serialize_with = "milliseconds")]
    pub arrived: Duration,
    /// When its end was decided, just before the answer was written.
    #[serde(serialize_with = "optional_milliseconds")]
    pub ended: Option<Duration>,
    /// How it ended.
    pub ending: Ending,
    /// `POST`, `GET` …
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The environment in the path, where PingOne has such a path.
    pub environment: Option<Uuid>,
    /// The device in the path.
    pub device: Option<Uuid>,
    /// Which of the simulator's tokens was sent, counted from 1.
    pub token: Option<u64>,
    /// Bytes of the body.
    pub body_length: u64,
    /// The fault it met.
    pub fault: Fault,
    /// Whether a device was changed, or would have been if it had not been so already.
    pub effect: bool,
    headers: Box<str>,
}

impl Record {
    /// Whether this is a POST to a device.
    #[must_use]
    pub fn is_post(&self) -> bool {
        self.method == "POST" && self.device.is_some()
    }

    /// Whether this is a request to the API, which the licence limits, and not to the token endpoint.
    #[must_use]
    pub fn is_api(&self) -> bool {
        self.path.starts_with("/v1/") && self.environment.is_some()
    }

    /// The value of a header as it was sent (the first, where there are several). `authorization` is not kept.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Not yet.
    Open,
    /// With an answer of this status; a fault may have garbled or cut it.
    Answered(u16),
    /// The connection was reset instead.
    Reset,
    /// The caller went away first.
    Abandoned,
}

/// Totals since the start, and what is going on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All requests but those to `/control`.
    pub requests: u64,
    /// POSTs to a device.
    pub posts: u64,
    /// GETs of a device or of a user's devices.
    pub reads: u64,
    /// Requests to the token endpoint.
    pub token_requests: u64,
    /// Actions on devices that were carried out.
    pub effects: u64,
    /// Answers 429 because of the rate limit (not by a fault).
    pub limited: u64,
    /// Deviations from the documents.
    pub deviations: u64,
    /// Requests without an end.
    pub in_flight: u64,
    /// The most requests any one device ever had at once.
    pub most_on_a_device: u32,
}

/// Totals of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DeviceCounts {
    /// POSTs.
    pub posts: u64,
    /// GETs.
    pub reads: u64,
    /// Actions carried out.
    pub effects: u64,
    /// Requests without an end.
    pub in_flight: u32,
    /// The most requests it ever had at once.
    pub most_in_flight: u32,
}

/// Records within bounds, counters without.
pub(super) struct Ledger {
    pub(super) counts: Counts,
    pub(super) deviations: Deviations,
    started: Instant,
    capacity: usize,
    records: VecDeque<Record>,
    of_device: HashMap<DeviceId, DeviceCounts>,
    not_before: HashMap<DeviceId, Instant>,
    pub(super) watched: Watched,
}

impl Ledger {
    pub(super) fn new(capacity: usize, started: Instant) -> Self {
        Self {
            counts: Counts::default(),
            deviations: Deviations::default(),
            started,
            capacity,
            records: VecDeque::new(),
            of_device: HashMap::new(),
            not_before: HashMap::new(),
            watched: Watched::default(),
        }
    }

    /// Takes note of a request that has just been read; its number.
    pub(super) fn arrive(
        &mut self,
        seen: &Seen,
        connection: u64,
        token: Option<u64>,
        fault: Fault,
        now: Instant,
    ) -> u64 {
        self.counts.requests += 1;
        let number = self.counts.requests;
        self.count(seen);
        for deviation in deviation::of(seen).into_iter().chain(self.too_soon(seen, now)) {
            self.counts.deviations += 1;
            self.deviations.add(number, &seen.path, deviation);
        }
        if self.capacity > 0 {
            if self.records.len() == self.capacity {
                self.records.pop_front();
            }
            self.records.push_back(Record {
                number,
                connection,
                arrived: now - self.started,
                ended: None,
                ending: Ending::Open,
                method: seen.method.to_string(),
                path: seen.path.clone(),
                environment: seen.target().map(|(_, environment, _)| environment.as_uuid()),
                device: seen.device().map(DeviceId::as_uuid),
                token,
                body_length: seen.body_length,
                fault,
                effect: false,
                headers: headers(seen),
            });
        }
        number
    }

    fn count(&mut self, seen: &Seen) {
        self.counts.in_flight += 1;
        let (post, read) = (seen.method == Method::POST, seen.method == Method::GET);
        match seen.route {
            Route::Unknown => {}
            Route::Token(_) => self.counts.token_requests += 1,
            Route::Devices(..) => self.counts.reads += u64::from(read),
            Route::Device(of) => {
                self.counts.posts += u64::from(post);
                self.counts.reads += u64::from(read);
                let device = self.of_device.entry(of.device).or_default();
                device.posts += u64::from(post);
                device.reads += u64::from(read);
                device.in_flight += 1;
                device.most_in_flight = device.most_in_flight.max(device.in_flight);
                self.counts.most_on_a_device = self.counts.most_on_a_device.max(device.most_in_flight);
                if post {
                    self.watched.arrived(of);
                }
            }
        }
    }

    fn too_soon(&mut self, seen: &Seen, now: Instant) -> Option<Deviation> {
        if self.not_before.is_empty() {
            return None;
        }
        let until = self.not_before.remove(&seen.device()?)?;
        let early = until.saturating_duration_since(now).saturating_sub(CLOCK_SLACK);
        (!early.is_zero()).then(|| Deviation::TooSoon(u64::try_from(early.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The answer asked to come back no sooner.
    pub(super) fn not_before(&mut self, device: Option<DeviceId>, until: Instant) {
        self.not_before.extend(device.map(|device| (device, until)));
    }

    pub(super) fn effect(&mut self, number: u64, device: Option<DeviceId>) {
        self.counts.effects += 1;
        if let Some(counts) = device.and_then(|device| self.of_device.get_mut(&device)) {
            counts.effects += 1;
        }
        if let Some(record) = self.record(number) {
            record.effect = true;
        }
    }

    pub(super) fn end(&mut self, number: u64, device: Option<DeviceId>, ending: Ending, now: Instant) {
        self.counts.in_flight -= 1;
        if let Some(Entry::Occupied(mut counts)) = device.map(|device| self.of_device.entry(device)) {
            counts.get_mut().in_flight -= 1;
            if self.capacity == 0 && counts.get().in_flight == 0 {
                counts.remove();
            }
        }
        let ended = now - self.started;
        if let Some(record) = self.record(number) {
            record.ended = Some(ended);
            record.ending = ending;
        }
    }

    pub(super) fn records(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        self.records.iter()
    }

    pub(super) fn of_device(&self, device: DeviceId) -> DeviceCounts {
        self.of_device.get(&device).copied().unwrap_or_default()
    }

    fn record(&mut self, number: u64) -> Option<&mut Record> {
        let first = self.records.front()?.number;
        self.records.get_mut(usize::try_from(number.checked_sub(first)?).ok()?)
    }
}

/// All headers but the credential in one piece of memory: there may be hundreds of thousands of records.
fn headers(seen: &Seen) -> Box<str> {
    let mut text = String::with_capacity(seen.head_length());
    for (name, value) in seen.headers.iter().filter(|(name, _)| **name != header::AUTHORIZATION) {
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        text.push('\n');
    }
    text.into_boxed_str()
}

fn milliseconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64() * 1_000.0)
}

fn optional_milliseconds<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64() * 1_000.0).serialize(to)
}
