//! Jobs and devices as tables for people, fitting the terminal.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use prost_types::Timestamp;
use time::{OffsetDateTime, macros::format_description};

use super::{
    error::printed,
    screen::{Hue, Screen, printable},
};
use crate::proto::v1::{self, job::State};

/// Where a table has room for whole ids.
pub(super) const WIDE: u16 = 130;

pub(super) fn device(screen: &Screen, device: &v1::Device, job_id: &str) -> String {
    let named = device.r#ref.clone().unwrap_or_default();
    let mut rows = Rows::new(screen);
    rows.text("device", &named.device_id);
    rows.text("user", &named.user_id);
    rows.text("environment", &named.environment_id);
    rows.text("nickname", &device.nickname);
    rows.text("type", &device.r#type);
    rows.text("phone", &device.phone);
    rows.text("email", &device.email);
    rows.text("test device", if device.test_mode { "yes" } else { "" });
    rows.text("status", &device.status);
    rows.status("block", &device.block_status, "since", device.block_time);
    rows.status("lock", &device.lock_status, "until", device.lock_expire_time);
    rows.time("as of", device.snapshot_time);
    rows.text("job", job_id);
    rows.draw()
}

pub(super) fn job(screen: &Screen, job: &v1::Job) -> String {
    let named = job.device_ref.clone().unwrap_or_default();
    let error = job.error.clone().unwrap_or_default();
    let mut rows = Rows::new(screen);
    rows.text("job", &job.job_id);
    rows.coloured("state", &state_name(job), hue_of(job));
    rows.text("waiting for", &job.waiting_for);
    rows.time("next attempt", job.next_attempt_time);
    rows.text("attempts", &format!("{} of {}", job.attempt_count, job.max_attempts));
    rows.text("run", &if job.run > 1 { job.run.to_string() } else { String::new() });
    rows.text("error", &error.reason);
    rows.text("", &error.message);
    rows.text(
        "device",
        if named.device_id.is_empty() { "all of the user's: this job lists them" } else { &named.device_id },
    );
    rows.text("user", &named.user_id);
    rows.text("environment", &named.environment_id);
    if let Some(device) = &job.device {
        rows.status("block", &device.block_status, "since", device.block_time);
        rows.status("lock", &device.lock_status, "until", device.lock_expire_time);
    }
    rows.text("caller", &job.caller);
    rows.text("on behalf of", &job.on_behalf_of);
    rows.text("reason", &job.reason);
    rows.text("ticket", &job.ticket);
    rows.text("request id", &job.request_id);
    rows.text("batch", &job.batch_id);
    rows.time("created", job.create_time);
    rows.time("cancel asked", job.cancel_requested_time);
    rows.time("completed", job.complete_time);
    if job.complete_time.is_none() {
        rows.time("expires", job.expire_time);
    }
    if job.attempts.is_empty() {
        rows.draw()
    } else {
        format!("{}\n\n{}", rows.draw(), attempts(screen, job))
    }
}

pub(super) fn jobs(screen: &Screen, jobs: &[v1::Job]) -> String {
    let wide = screen.width() >= WIDE;
    let mut table = table(screen);
    let mut header = vec!["JOB", "STATE", "CREATED (UTC)", "DEVICE"];
    if wide {
        header.extend(["ATTEMPTS", "ERROR"]);
    }
    table.set_header(header.into_iter().map(|title| heading(screen, title)));
    for job in jobs {
        let mut row = vec![
            Cell::new(printable(&job.job_id)),
            cell(screen, &state_name(job), hue_of(job)),
            Cell::new(job.create_time.map(short_time).unwrap_or_default()),
            Cell::new(target(job, wide)),
        ];
        if wide {
            let reason = job.error.as_ref().map(|error| printable(&error.reason)).unwrap_or_default();
            row.extend([
                Cell::new(format!("{} of {}", job.attempt_count, job.max_attempts)),
                Cell::new(reason),
            ]);
        }
        table.add_row(row);
    }
    drawn(&mut table)
}

/// What a job is for; one that lists names no device.
fn target(job: &v1::Job, wide: bool) -> String {
    let named = job.device_ref.clone().unwrap_or_default();
    let (user, device) = (printable(&named.user_id), printable(&named.device_id));
    match (device.is_empty(), wide) {
        (true, true) => format!("devices of user {user}"),
        (true, false) => format!("user {}", abridged(&user).trim_end_matches('…')),
        (false, true) => device,
        (false, false) => abridged(&device),
    }
}

/// The state as people say it: `SUCCEEDED`; the number of one that this program does not know.
pub(super) fn state_name(job: &v1::Job) -> String {
    State::try_from(job.state).map_or_else(
        |_| format!("STATE {}", job.state),
        |state| state.as_str_name().trim_start_matches("STATE_").to_owned(),
    )
}

pub(super) fn hue_of(job: &v1::Job) -> Option<Hue> {
    match State::try_from(job.state) {
        Ok(State::Succeeded) => Some(Hue::Good),
        Ok(State::Failed | State::Expired) => Some(Hue::Bad),
        Ok(State::Cancelled | State::Running) => Some(Hue::Attention),
        Ok(State::Unspecified | State::Pending) | Err(_) => None,
    }
}

/// `2026-01-02 03:04:05 UTC`.
pub(super) fn long_time(at: Timestamp) -> String {
    instant(at).map_or_else(|| at.to_string(), stamp)
}

/// As [`long_time`].
pub(super) fn stamp(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    at.format(format).unwrap_or_default()
}

/// The instant; nothing for one beyond the year 9999.
pub(super) fn instant(at: Timestamp) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.seconds).ok()
}

fn attempts(screen: &Screen, job: &v1::Job) -> String {
    let several_runs = job.run > 1;
    let mut table = table(screen);
    let titles = ["ATTEMPT", "STARTED (UTC)", "TOOK", "HTTP", "RESULT"];
    table.set_header(titles.into_iter().map(|title| heading(screen, title)));
    for attempt in &job.attempts {
        let number = if several_runs {
            format!("{}.{}", attempt.run, attempt.number)
        } else {
            attempt.number.to_string()
        };
        let took = attempt.duration.and_then(|took| std::time::Duration::try_from(took).ok());
        let http = if attempt.http_status == 0 { "-".to_owned() } else { attempt.http_status.to_string() };
        let result = match (&attempt.error, attempt.duration) {
            (Some(error), _) => cell(screen, &error.reason, Some(Hue::Bad)),
            (None, Some(_)) => cell(screen, "OK", Some(Hue::Good)),
            (None, None) => cell(screen, "in flight", None),
        };
        table.add_row([
            Cell::new(number),
            Cell::new(attempt.start_time.map(clock_time).unwrap_or_default()),
            Cell::new(took.map(printed).unwrap_or_default()),
            Cell::new(http),
            result,
        ]);
    }
    drawn(&mut table)
}

/// Label and value, one pair a row; what is empty is left out.
pub(super) struct Rows<'a> {
    screen: &'a Screen,
    table: Table,
}

impl<'a> Rows<'a> {
    pub(super) fn new(screen: &'a Screen) -> Self {
        Self { screen, table: table(screen) }
    }

    pub(super) fn text(&mut self, label: &str, text: &str) {
        self.coloured(label, text, None);
    }

    pub(super) fn coloured(&mut self, label: &str, text: &str, hue: Option<Hue>) {
        if !text.is_empty() {
            self.table.add_row([cell(self.screen, label, Some(Hue::Faint)), cell(self.screen, text, hue)]);
        }
    }

    pub(super) fn time(&mut self, label: &str, at: Option<Timestamp>) {
        self.text(label, &at.map(long_time).unwrap_or_default());
    }

    /// A block or lock; its time only while it holds.
    fn status(&mut self, label: &str, status: &str, word: &str, at: Option<Timestamp>) {
        let (hue, holds) = match status {
            "UNBLOCKED" | "UNLOCKED" => (Some(Hue::Good), false),
            "BLOCKED" | "LOCKED" => (Some(Hue::Attention), true),
            _ => (None, true),
        };
        let text = match at {
            Some(at) if holds && !status.is_empty() => format!("{status} {word} {}", long_time(at)),
            _ => status.to_owned(),
        };
        self.coloured(label, &text, hue);
    }

    pub(super) fn draw(mut self) -> String {
        drawn(&mut self.table)
    }
}

pub(super) fn table(screen: &Screen) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(screen.width());
    if screen.colour() {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    table
}

pub(super) fn drawn(table: &mut Table) -> String {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    // Nothing stands behind the last.
    if let Some(last) = table.column_iter_mut().last() {
        last.set_padding((0, 0));
    }
    table.trim_fmt()
}

pub(super) fn heading(screen: &Screen, title: &str) -> Cell {
    let cell = Cell::new(title);
    if screen.colour() { cell.add_attribute(Attribute::Bold) } else { cell }
}

pub(super) fn cell(screen: &Screen, text: &str, hue: Option<Hue>) -> Cell {
    let cell = Cell::new(printable(text));
    match hue {
        _ if !screen.colour() => cell,
        None => cell,
        Some(Hue::Good) => cell.fg(Color::Green),
        Some(Hue::Bad) => cell.fg(Color::Red),
        Some(Hue::Attention) => cell.fg(Color::Yellow),
        Some(Hue::Faint) => cell.add_attribute(Attribute::Dim),
    }
}

pub(super) fn abridged(id: &str) -> String {
    match id.split_once('-') {
        Some((first, _)) => format!("{first}…"),
        None => id.to_owned(),
    }
}

pub(super) fn short_time(at: Timestamp) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    instant(at).and_then(|at| at.format(format).ok()).unwrap_or_else(|| at.to_string())
}

fn clock_time(at: Timestamp) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    instant(at).and_then(|at| at.format(format).ok()).unwrap_or_else(|| at.to_string())
}
