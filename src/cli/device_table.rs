//! A user's devices as a table for people.

use comfy_table::{Cell, ColumnConstraint, Width};

use super::{
    screen::{Hue, Screen, printable},
    table::{cell, drawn, heading, short_time, table},
};
use crate::proto::v1::Device;

const ID_LENGTH: u16 = 36;

/// Devices, one a line, with their ids.
pub(super) fn devices(screen: &Screen, devices: &[Device]) -> String {
    lines(screen, "DEVICE", devices.iter().map(|device| (id(device), device)))
}

/// Devices to choose from: those that are blocked with a number, counted from 1.
pub(super) fn choices(screen: &Screen, devices: &[Device]) -> String {
    let mut count = 0;
    let mut number = |device: &Device| {
        count += u32::from(is_blocked(device));
        if is_blocked(device) { count.to_string() } else { "-".to_owned() }
    };
    let numbered: Vec<_> = devices.iter().map(|device| (number(device), device)).collect();
    lines(screen, "#", numbered.into_iter())
}

/// Whether an unblock is for it.
pub(super) fn is_blocked(device: &Device) -> bool {
    device.block_status == "BLOCKED"
}

/// Whether failed attempts locked it, when PingOne said so.
pub(super) fn is_locked(device: &Device) -> bool {
    device.lock_status == "LOCKED"
}

fn lines<'a>(screen: &Screen, first: &str, devices: impl Iterator<Item = (String, &'a Device)>) -> String {
    let mut table = table(screen);
    let titles = [first, "TYPE", "NICKNAME", "CONTACT", "BLOCKED SINCE", "LOCKED UNTIL"];
    table.set_header(titles.map(|title| heading(screen, title)));
    for (name, device) in devices {
        let contact = if device.phone.is_empty() { &device.email } else { &device.phone };
        let at = |holds: bool, at: Option<prost_types::Timestamp>| match (holds, at) {
            (false, _) => String::new(),
            (true, None) => "yes".to_owned(),
            (true, Some(at)) => short_time(at),
        };
        let attention = Some(Hue::Attention);
        table.add_row([
            Cell::new(name),
            Cell::new(printable(&device.r#type)),
            Cell::new(printable(&device.nickname)),
            Cell::new(printable(contact)),
            cell(screen, &at(is_blocked(device), device.block_time), attention),
            cell(screen, &at(is_locked(device), device.lock_expire_time), attention),
        ]);
    }
    // An id is there to be copied: it is not broken.
    if first == "DEVICE"
        && let Some(id) = table.column_mut(0)
    {
        id.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(ID_LENGTH + 2)));
    }
    drawn(&mut table)
}

fn id(device: &Device) -> String {
    device.r#ref.as_ref().map(|named| printable(&named.device_id)).unwrap_or_default()
}
