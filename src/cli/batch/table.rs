//! Batches as tables for people.

use comfy_table::Cell;

use super::progress::not_unblocked;
use crate::{
    cli::{
        screen::{Hue, Screen, printable},
        table::{Rows, WIDE, cell, drawn, heading, short_time, table},
    },
    proto::v1::{Batch, batch::State},
};

/// One batch, whole.
pub(in crate::cli) fn batch(screen: &Screen, batch: &Batch) -> String {
    let mut rows = Rows::new(screen);
    let count = |count: i64| if count == 0 { String::new() } else { count.to_string() };
    rows.text("batch", &batch.batch_id);
    rows.text("environment", &batch.environment_id);
    rows.coloured("state", &state_name(batch), hue_of(batch));
    rows.text("why", &batch.state_reason);
    rows.text("waiting for", &batch.waiting_for);
    rows.text("rows", &uploaded(batch));
    rows.text("unblocked", &batch.succeeded_count.to_string());
    rows.text("failed", &count(batch.failed_count));
    rows.text("cancelled", &count(batch.cancelled_count));
    rows.text("expired", &count(batch.expired_count));
    rows.text("rejected", &count(batch.rejected_count));
    rows.text("duplicates", &count(batch.duplicate_count));
    rows.text("pending", &count(batch.pending_count));
    rows.text("at PingOne", &count(batch.running_count));
    rows.text("from users", &count(batch.expanded_count));
    if batch.current_rate > 0.0 {
        rows.text("rate", &format!("{:.1} per second", batch.current_rate));
    }
    rows.time("done about", batch.estimated_complete_time);
    rows.text("trial", &count(batch.canary_count.into()));
    if batch.max_failure_ratio > 0.0 {
        rows.text("pauses at", &format!("{}% failed", batch.max_failure_ratio * 100.0));
    }
    rows.text("caller", &batch.caller);
    rows.text("on behalf of", &batch.on_behalf_of);
    rows.text("reason", &batch.reason);
    rows.text("ticket", &batch.ticket);
    rows.time("created", batch.create_time);
    rows.time("completed", batch.complete_time);
    if batch.complete_time.is_none() {
        rows.time("expires", batch.expire_time);
    }
    rows.draw()
}

/// Batches, one a line.
pub(in crate::cli) fn batches(screen: &Screen, batches: &[Batch]) -> String {
    let wide = screen.width() >= WIDE;
    let mut table = table(screen);
    let mut header = vec!["BATCH", "STATE", "CREATED (UTC)", "UNBLOCKED", "OTHER", "PENDING"];
    if wide {
        header.extend(["TICKET", "CALLER"]);
    }
    table.set_header(header.into_iter().map(|title| heading(screen, title)));
    for batch in batches {
        let mut row = vec![
            Cell::new(printable(&batch.batch_id)),
            cell(screen, &state_name(batch), hue_of(batch)),
            Cell::new(batch.create_time.map(short_time).unwrap_or_default()),
            Cell::new(batch.succeeded_count),
            Cell::new(not_unblocked(batch)),
            Cell::new(batch.pending_count),
        ];
        if wide {
            row.extend([Cell::new(printable(&batch.ticket)), Cell::new(printable(&batch.caller))]);
        }
        table.add_row(row);
    }
    drawn(&mut table)
}

/// The state as people say it: `RUNNING`; the number of one that this program does not know.
pub(super) fn state_name(batch: &Batch) -> String {
    State::try_from(batch.state).map_or_else(
        |_| format!("STATE {}", batch.state),
        |state| state.as_str_name().trim_start_matches("STATE_").to_owned(),
    )
}

pub(super) fn hue_of(batch: &Batch) -> Option<Hue> {
    match State::try_from(batch.state) {
        Ok(State::Done) if not_unblocked(batch) == 0 => Some(Hue::Good),
        Ok(State::Done) => Some(Hue::Bad),
        Ok(State::Paused | State::Cancelled | State::Cancelling) => Some(Hue::Attention),
        Ok(State::Unspecified | State::Uploading | State::Running) | Err(_) => None,
    }
}

fn uploaded(batch: &Batch) -> String {
    let more = if batch.sealed { "" } else { ", more may come" };
    format!("{}{more}", batch.target_count)
}
