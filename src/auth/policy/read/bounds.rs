//! `bounds`: those of a caller, those of whoever has none of their own, and that of a device.

use std::{ops::RangeInclusive, time::Duration};

use toml::{Spanned, de::DeValue};

use super::{
    super::{Bounds, DeviceBound, grants::Granted},
    section::{Section, quoted},
};
use crate::{auth::Scope, duration, job::DeviceLimit};

const OF_CALLER: &[&str] =
    &["calls_per_second", "unblocks_per_hour", "unblocks_per_day", "batch_rows", "open_streams"];
const FOR_ALL: &[&str] = &[
    "calls_per_second",
    "unblocks_per_hour",
    "unblocks_per_day",
    "batch_rows",
    "open_streams",
    "unblocks_per_device",
];
const OF_DEVICE: &[&str] = &["count", "within"];
/// What is written where there is to be no bound.
const NONE: &str = "none";
const MOST: u32 = 1_000_000_000;
/// Each use of a device is remembered by its time: so many, for so long.
const OF_DEVICE_MOST: u32 = 1000;
const WITHIN: RangeInclusive<Duration> = Duration::from_secs(60)..=DeviceLimit::WITHIN_AT_MOST;

/// The `[bounds]` of the file.
pub(super) fn for_all(file: &Section<'_>) -> (Bounds, Option<DeviceBound>) {
    let Some((at, table)) = file.table("bounds") else {
        return (Bounds::default(), Some(DeviceBound::default()));
    };
    let section = Section::new(file.notes, at, table, FOR_ALL);
    (read(&section, Bounds::default()), of_device(&section))
}

/// The bounds of a caller that is granted that: its own, and where it has none those of all.
pub(super) fn of_caller(caller: &Section<'_>, for_all: Bounds, granted: &Granted) -> Bounds {
    let Some((at, table)) = caller.table("bounds") else { return for_all };
    let section = Section::new(caller.notes, at, table, OF_CALLER);
    for (key, scopes) in [
        ("unblocks_per_hour", &[Scope::Unblock, Scope::Bulk][..]),
        ("unblocks_per_day", &[Scope::Unblock, Scope::Bulk]),
        ("batch_rows", &[Scope::Bulk]),
    ] {
        if section.get(key).is_some() && !scopes.iter().any(|scope| granted.reaches(*scope)) {
            let names: Vec<_> = scopes.iter().map(|scope| scope.name()).collect();
            let what = format!("{key} bounds what this caller may not do: it lacks {}", names.join(" and "));
            section.notes.mistake(place(&section, key), what, "grant it or leave the bound out");
        }
    }
    read(&section, for_all)
}

fn read(section: &Section<'_>, otherwise: Bounds) -> Bounds {
    let bounds = Bounds {
        calls_per_second: bound(section, "calls_per_second", otherwise.calls_per_second),
        unblocks_per_hour: bound(section, "unblocks_per_hour", otherwise.unblocks_per_hour),
        unblocks_per_day: bound(section, "unblocks_per_day", otherwise.unblocks_per_day),
        batch_rows: bound(section, "batch_rows", otherwise.batch_rows),
        open_streams: bound(section, "open_streams", otherwise.open_streams),
    };
    if let (Some(hour), Some(day)) = (bounds.unblocks_per_hour, bounds.unblocks_per_day)
        && hour > day
    {
        let what = format!("{hour} unblocks in an hour, but {day} in a whole day");
        section.notes.mistake(section.at, what, "let the day have as many as the hour, or more");
    }
    bounds
}

fn bound(section: &Section<'_>, key: &str, otherwise: Option<u32>) -> Option<u32> {
    let Some(value) = section.get(key) else { return otherwise };
    if is_none(value) { None } else { count(section, value, MOST, ", or \"none\" for no bound") }
}

fn count(section: &Section<'_>, value: &Spanned<DeValue<'_>>, most: u32, or: &str) -> Option<u32> {
    let number = value.get_ref().as_integer().and_then(|number| {
        u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| (1..=most).contains(number))
    });
    if number.is_none() {
        let remedy = format!("write a whole number from 1 to {most}{or}");
        section.notes.mistake(value.span().start, "this is no bound", remedy);
    }
    number
}

/// The bound on a device. It is lifted by a word, not by a zero that somebody may take for "never".
fn of_device(section: &Section<'_>) -> Option<DeviceBound> {
    let Some(value) = section.get("unblocks_per_device") else { return Some(DeviceBound::default()) };
    if is_none(value) {
        return None;
    }
    let (at, table) = section.table_in(value)?;
    let section = Section::new(section.notes, at, table, OF_DEVICE);
    let (Some(number), Some(within)) = (section.get("count"), section.get("within")) else {
        let remedy = "write { count = 3, within = \"24h\" }, or \"none\" for no bound";
        section.notes.mistake(at, "a bound on each device has a count and a time", remedy);
        return None;
    };
    let (number, within) = (count(&section, number, OF_DEVICE_MOST, ""), section.text_in(within));
    let within = within.and_then(|(at, text)| {
        let given = duration::parse(text).ok().filter(|given| WITHIN.contains(given));
        if given.is_none() {
            let what = format!("{} is no time to count in", quoted(text));
            section.notes.mistake(at, what, "write a duration from 1m to 7d, such as 24h");
        }
        given
    });
    Some(DeviceBound { count: number?, within: within? })
}

fn is_none(value: &Spanned<DeValue<'_>>) -> bool {
    value.get_ref().as_str() == Some(NONE)
}

fn place(section: &Section<'_>, key: &str) -> usize {
    section.get(key).map_or(section.at, |value| value.span().start)
}
