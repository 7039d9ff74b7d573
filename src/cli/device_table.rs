//! A user's devices as a table for people.

use comfy_table::{Cell, ColumnConstraint, Width};
use prost_types::Timestamp;

use super::{
    screen::{Hue, Screen, printable},
    table::{WIDE, cell, drawn, heading, short_time, table},
};
use crate::proto::v1::Device;

const ID_LENGTH: u16 = 36;

/// Whether an unblock is for it.
pub(super) fn is_blocked(device: &Device) -> bool {
    device.block_status == "BLOCKED"
}

/// Whether failed attempts locked it, when PingOne said so.
pub(super) fn is_locked(device: &Device) -> bool {
    device.lock_status == "LOCKED"
}

/// Devices with their ids, to be copied. Where there is no room, what bars them and what they are called by are lines of their own.
pub(super) fn devices(screen: &Screen, devices: &[Device]) -> String {
    if screen.width() >= WIDE {
        return one_a_line(screen, "DEVICE", devices.iter().map(|device| (id(device), device)));
    }
    let mut table = table(screen);
    table.set_header(["DEVICE", "TYPE", "STATE"].map(|title| heading(screen, title)));
    for device in devices {
        let bars = [
            bar("BLOCKED since", is_blocked(device), device.block_time),
            bar("LOCKED until", is_locked(device), device.lock_expire_time),
        ];
        let mut lines = bars.into_iter().flatten().map(|bar| (bar, Some(Hue::Attention))).collect::<Vec<_>>();
        lines.extend([&device.nickname, contact(device)].into_iter().cloned().map(|name| (name, None)));
        lines.retain(|(line, _)| !line.is_empty());
        let mut name = (id(device), printable(&device.r#type));
        for (line, hue) in lines {
            let (id, kind) = std::mem::take(&mut name);
            table.add_row([Cell::new(id), Cell::new(kind), cell(screen, &line, hue)]);
        }
        if !name.0.is_empty() {
            table.add_row([name.0, name.1]);
        }
    }
    if let Some(id) = table.column_mut(0) {
        id.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(ID_LENGTH + 2)));
    }
    drawn(&mut table)
}

/// Devices to choose from: those that are blocked with a number, counted from 1.
pub(super) fn choices(screen: &Screen, devices: &[Device]) -> String {
    let mut count = 0;
    let mut number = |device: &Device| {
        count += u32::from(is_blocked(device));
        if is_blocked(device) { count.to_string() } else { "-".to_owned() }
    };
    let numbered: Vec<_> = devices.iter().map(|device| (number(device), device)).collect();
    one_a_line(screen, "#", numbered.into_iter())
}

fn one_a_line<'a>(
    screen: &Screen,
    first: &str,
    devices: impl Iterator<Item = (String, &'a Device)>,
) -> String {
    let mut table = table(screen);
    let titles = [first, "TYPE", "NICKNAME", "CONTACT", "BLOCKED SINCE", "LOCKED UNTIL"];
    table.set_header(titles.map(|title| heading(screen, title)));
    for (name, device) in devices {
        let at = |holds: bool, at: Option<Timestamp>| match (holds, at) {
            (false, _) => String::new(),
            (true, None) => "yes".to_owned(),
            (true, Some(at)) => short_time(at),
        };
        let attention = Some(Hue::Attention);
        table.add_row([
            Cell::new(name),
            Cell::new(printable(&device.r#type)),
            Cell::new(printable(&device.nickname)),
            Cell::new(printable(contact(device))),
            cell(screen, &at(is_blocked(device), device.block_time), attention),
            cell(screen, &at(is_locked(device), device.lock_expire_time), attention),
        ]);
    }
    drawn(&mut table)
}

/// `BLOCKED since 2026-01-02 03:04`, where it is.
fn bar(what: &str, holds: bool, at: Option<Timestamp>) -> Option<String> {
    let told = match at {
        Some(at) => format!("{what} {}", short_time(at)),
        None => what.split(' ').next().unwrap_or_default().to_owned(),
    };
    holds.then_some(told)
}

const fn contact(device: &Device) -> &String {
    if device.phone.is_empty() { &device.email } else { &device.phone }
}

fn id(device: &Device) -> String {
    device.r#ref.as_ref().map(|named| printable(&named.device_id)).unwrap_or_default()
}
