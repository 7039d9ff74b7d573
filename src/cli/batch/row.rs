//! A result as a line of CSV that a help desk understands, a spreadsheet does not run, and `bulk` takes again.

use std::borrow::Cow;

use crate::{
    cli::{
        advice,
        screen::printable,
        table::{instant, long_time},
    },
    proto::v1::{TargetResult, target_result::Outcome},
};

const TARGET_COLUMNS: [&str; 4] = ["environment_id", "user_id", "device_id", "reference"];
/// What a file with results has beside the columns of a file for `bulk`.
pub(in crate::cli) const RESULT_COLUMNS: [&str; 9] = [
    "result",
    "reason",
    "message",
    "job_id",
    "attempts",
    "completed_at",
    "block_status",
    "lock_status",
    "locked_until",
];

/// The first line.
pub(in crate::cli) fn header() -> Vec<&'static str> {
    TARGET_COLUMNS.into_iter().chain(RESULT_COLUMNS).collect()
}

/// The line of one result.
pub(in crate::cli) fn cells(environment_id: &str, result: &TargetResult) -> [String; 13] {
    let target = result.target.clone().unwrap_or_default();
    let error = result.error.clone().unwrap_or_default();
    let device = if result.device_id.is_empty() { target.device_id } else { result.device_id.clone() };
    let time = |at: Option<prost_types::Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
    [
        environment_id.to_owned(),
        target.user_id,
        device,
        target.client_reference,
        word(result),
        error.reason,
        message(result),
        result.job_id.clone(),
        result.attempt_count.to_string(),
        time(result.complete_time),
        result.block_status.clone(),
        result.lock_status.clone(),
        time(result.lock_expire_time),
    ]
    .map(|cell| armed(&printable(&cell)).into_owned())
}

/// The outcome in a word; the number of one that this program does not know.
fn word(result: &TargetResult) -> String {
    match Outcome::try_from(result.outcome) {
        Ok(Outcome::Unspecified) | Err(_) => format!("outcome {}", result.outcome),
        Ok(Outcome::Pending) => "pending".to_owned(),
        Ok(Outcome::Unblocked) => "unblocked".to_owned(),
        Ok(Outcome::Failed) => "failed".to_owned(),
        Ok(Outcome::Cancelled) => "cancelled".to_owned(),
        Ok(Outcome::Expired) => "expired".to_owned(),
        Ok(Outcome::Rejected) => "rejected".to_owned(),
        Ok(Outcome::Duplicate) => "duplicate".to_owned(),
        Ok(Outcome::NoneBlocked) => "none_blocked".to_owned(),
    }
}

fn message(result: &TargetResult) -> String {
    let error = result.error.clone().unwrap_or_default();
    match Outcome::try_from(result.outcome) {
        Ok(Outcome::Unblocked) if result.lock_status == "LOCKED" => {
            let until = result.lock_expire_time.filter(|at| instant(*at).is_some()).map(long_time);
            let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
            format!("Unblocked, but failed attempts still lock it{until}.")
        }
        Ok(Outcome::Unblocked) => "The device can be used again.".to_owned(),
        Ok(Outcome::Failed) => match (error.message.as_str(), error.reason.as_str()) {
            ("", reason) => advice::for_target(reason).to_owned(),
            (message, _) => message.to_owned(),
        },
        Ok(Outcome::Cancelled) => "Somebody cancelled it before it was sent.".to_owned(),
        Ok(Outcome::Expired) if error.message.is_empty() => "It was not done in time.".to_owned(),
        Ok(Outcome::Expired) => format!("It was not done in time: {}", error.message),
        Ok(Outcome::Rejected) if error.message.is_empty() => "The server refused the row.".to_owned(),
        Ok(Outcome::Rejected) => error.message,
        Ok(Outcome::Duplicate) => "The same device stands in an earlier row: see there.".to_owned(),
        Ok(Outcome::NoneBlocked) => "The user has no blocked device.".to_owned(),
        Ok(Outcome::Pending) => "It is not done yet.".to_owned(),
        Ok(Outcome::Unspecified) | Err(_) => {
            "A newer server says what this program does not know.".to_owned()
        }
    }
}

/// `cell` so that no spreadsheet takes it for a formula.
pub(in crate::cli) fn armed(cell: &str) -> Cow<'_, str> {
    if cell.starts_with(FORMULA) { Cow::Owned(format!("'{cell}")) } else { Cow::Borrowed(cell) }
}

/// Takes off what [`armed`] put on.
pub(in crate::cli) fn disarm(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if rest.starts_with(FORMULA) => rest,
        _ => cell,
    }
}

/// What a formula begins with.
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{BatchTarget, JobError};

    #[test]
    fn no_cell_is_a_formula_and_references_survive() {
        for reference in ["=1+1", "+49", "-", "@sum", "'quoted'", "INC-1", ""] {
            let written = armed(reference);
            assert!(!written.starts_with(FORMULA), "{written}");
            assert_eq!(disarm(&written), reference);
        }
        let target = BatchTarget { client_reference: "=cmd()".to_owned(), ..BatchTarget::default() };
        let error = JobError { message: "@x\n".to_owned(), ..JobError::default() };
        let result = TargetResult {
            target: Some(target),
            error: Some(error),
            outcome: Outcome::Failed.into(),
            ..TargetResult::default()
        };
        let cells = cells("e", &result);
        assert_eq!((cells[3].as_str(), cells[6].as_str()), ("'=cmd()", "'@x\u{fffd}"));
    }

    #[test]
    fn every_outcome_has_a_word_and_a_message() {
        for number in 1..=8 {
            let result = TargetResult { outcome: number, ..TargetResult::default() };
            assert!(!word(&result).starts_with("outcome") && !message(&result).is_empty());
        }
        assert_eq!(word(&TargetResult { outcome: 99, ..TargetResult::default() }), "outcome 99");
        let locked = TargetResult {
            outcome: Outcome::Unblocked.into(),
            lock_status: "LOCKED".to_owned(),
            lock_expire_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..TargetResult::default()
        };
        assert_eq!(
            message(&locked),
            "Unblocked, but failed attempts still lock it until 1970-01-01 00:00:00 UTC."
        );
    }
}
