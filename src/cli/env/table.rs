//! Environments as tables for people.

use std::time::Duration;

use comfy_table::{Cell, ColumnConstraint, Width};

use crate::{
    cli::{
        error::printed,
        screen::{Hue, Screen, printable},
        table::{Rows, WIDE, abridged, cell, heading, table},
    },
    proto::v1::{Environment, environment::State},
};

/// Where an id has room in a line of its own beside the figures.
const ROOM_FOR_IDS: u16 = 80;
const ID_LENGTH: u16 = 36;

/// The environments, one a line, and why those that are not sent to are not.
pub(super) fn environments(screen: &Screen, environments: &[Environment]) -> String {
    let wide = screen.width() >= WIDE;
    let mut figures = table(screen);
    let mut header = vec!["ENVIRONMENT", "STATE", "RATE", "FLIGHT", "WAITING", "OLDEST"];
    if wide {
        header.push("REASON");
    }
    figures.set_header(header.into_iter().map(|title| heading(screen, title)));
    for one in environments {
        let mut row = vec![
            Cell::new(printable(&one.environment_id)),
            cell(screen, &state_name(one), hue_of(one)),
            Cell::new(rate(one)),
            Cell::new(in_flight(one)),
            Cell::new(waiting(one)),
            Cell::new(oldest(one)),
        ];
        if wide {
            row.push(Cell::new(printable(&one.state_reason)));
        }
        figures.add_row(row);
    }
    // With one column between them, the figures fit beside an id in 80.
    let gap = if wide { 2 } else { 1 };
    figures.column_iter_mut().for_each(|column| {
        column.set_padding((0, gap));
    });
    if screen.width() >= ROOM_FOR_IDS
        && let Some(id) = figures.column_mut(0)
    {
        id.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(ID_LENGTH + gap)));
    }
    let lines = figures.trim_fmt();
    let mut reasons = Rows::new(screen);
    let mut told = false;
    for one in environments.iter().filter(|one| !wide && !one.state_reason.is_empty()) {
        reasons.text(&abridged(&printable(&one.environment_id)), &one.state_reason);
        told = true;
    }
    if told { format!("{lines}\n\n{}", reasons.draw()) } else { lines }
}

/// One environment, or everything, whole.
pub(super) fn environment(screen: &Screen, one: &Environment) -> String {
    let mut rows = Rows::new(screen);
    let everything = one.environment_id.is_empty();
    rows.text("environment", if everything { "all" } else { &one.environment_id });
    rows.coloured("state", &state_name(one), hue_of(one));
    rows.text("reason", &one.state_reason);
    rows.time("until", one.resume_time);
    if one.publish_time.is_some() {
        rows.text("limit group", &one.limit_group);
        rows.text("rate", &format!("{} per second", rate(one)));
        rows.text("in flight", &in_flight(one));
        let waiting = format!("{} interactive, {} bulk", one.pending_interactive, one.pending_bulk);
        rows.text("waiting", &waiting);
        rows.text("oldest", &oldest(one));
        rows.time("as of", one.publish_time);
    }
    rows.text("owner", &one.owner);
    rows.draw()
}

/// The state as people say it: `CREDENTIAL REFUSED`; the number of one that this program does not know.
pub(in crate::cli) fn state_name(one: &Environment) -> String {
    State::try_from(one.state).map_or_else(
        |_| format!("STATE {}", one.state),
        |state| state.as_str_name().trim_start_matches("STATE_").replace('_', " "),
    )
}

pub(in crate::cli) fn hue_of(one: &Environment) -> Option<Hue> {
    match State::try_from(one.state) {
        Ok(State::Sending) => Some(Hue::Good),
        Ok(State::Paused | State::Throttled) => Some(Hue::Attention),
        Ok(State::Unreachable | State::CredentialRefused) => Some(Hue::Bad),
        Ok(State::Unspecified) | Err(_) => None,
    }
}

/// Used, of what is allowed now.
fn rate(one: &Environment) -> String {
    if one.publish_time.is_none() {
        return "-".to_owned();
    }
    let allowed = match one.effective_rate_limit {
        0.0 => "∞".to_owned(),
        limit => per_second(limit),
    };
    format!("{}/{allowed}", per_second(one.current_rate))
}

/// One digit behind the point where it says something.
pub(in crate::cli) fn per_second(rate: f64) -> String {
    if rate < 10.0 && rate.fract() != 0.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

fn in_flight(one: &Environment) -> String {
    if one.publish_time.is_none() {
        return "-".to_owned();
    }
    format!("{}/{}", one.in_flight, one.max_in_flight)
}

/// Interactive and bulk.
fn waiting(one: &Environment) -> String {
    if one.publish_time.is_none() {
        return "-".to_owned();
    }
    format!("{}+{}", short(one.pending_interactive), short(one.pending_bulk))
}

/// `1234`, `120k`, `1.2M`: a backlog is not read to its last job.
pub(in crate::cli) fn short(count: i64) -> String {
    match count {
        ..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1000),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

fn oldest(one: &Environment) -> String {
    let age = one.oldest_pending_age.and_then(|age| Duration::try_from(age).ok());
    match age.map(|age| age.as_secs()) {
        None => String::new(),
        Some(0) => "0s".to_owned(),
        // Tenths of a second would only make the column wider.
        Some(seconds) => printed(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let counts = [0, 9999, 10_000, 999_999, 1_250_000].map(short);
        assert_eq!(counts, ["0", "9999", "10k", "999k", "1.2M"]);
        assert_eq!([0.0, 2.5, 13.5, 20.0].map(per_second), ["0", "2.5", "14", "20"]);
    }
}
