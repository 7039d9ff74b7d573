//! What becomes of a batch by itself. Pure.

use time::Duration;

use super::{Batch, State};

/// An upload that was not sealed is given up after this long without a message.
const UPLOAD_IDLE_AT_MOST: Duration = Duration::hours(24);
/// Fewer results say nothing of the failure ratio.
const JUDGED_FROM: u64 = 20;

/// A change of state that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The state it is in from now on.
    pub state: State,
    /// Why, in one sentence.
    pub reason: String,
    /// What had it paused, if it was.
    pub pause: Option<Pause>,
}

/// What has a batch paused by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Its canary is over.
    Canary,
    /// Too many fail.
    Failures,
}

/// What becomes of `batch` now, if anything. `canary_waits`: jobs of its trial have no result yet.
#[must_use]
pub fn judge(batch: &Batch, canary_waits: bool) -> Option<Judgement> {
    let counts = &batch.counts;
    let becomes = |state, reason: String| Some(Judgement { state, reason, pause: None });
    let over = batch.sealed && counts.pending() == 0;
    match batch.state {
        State::Done | State::Cancelled => None,
        State::Cancelling if counts.pending() == 0 => becomes(State::Cancelled, batch.state_reason.clone()),
        State::Cancelling => None,
        _ if over => becomes(State::Done, String::new()),
        _ if !batch.sealed && batch.now - batch.uploaded_at >= UPLOAD_IDLE_AT_MOST => {
            becomes(State::Cancelling, "its upload was not sealed and nothing came for 24 hours".to_owned())
        }
        State::Running => canary(batch, canary_waits)
            .map(|reason| (Pause::Canary, reason))
            .or_else(|| failing(batch).map(|reason| (Pause::Failures, reason)))
            .map(|(pause, reason)| Judgement { state: State::Paused, reason, pause: Some(pause) }),
        State::Uploading | State::Paused => None,
    }
}

/// The trial is over: why the batch pauses.
fn canary(batch: &Batch, waits: bool) -> Option<String> {
    let counts = &batch.counts;
    let trial = u64::from(batch.header.canary_count);
    let whole = batch.sealed || counts.jobs >= trial;
    let over = trial > 0 && !batch.canary_passed && whole && !waits && counts.pending() < counts.jobs;
    over.then(|| {
        format!(
            "the canary of {trial} is over: {} unblocked, {} failed, {} cancelled or expired; resume it to send the rest",
            counts.succeeded,
            counts.failed,
            counts.cancelled + counts.expired
        )
    })
}

/// Too many fail: why the batch pauses.
fn failing(batch: &Batch) -> Option<String> {
    let (finished, failed) = batch.before;
    let finished = batch.counts.finished().saturating_sub(finished);
    let failed = batch.counts.failed.saturating_sub(failed);
    let at_most = batch.header.max_failure_ratio;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let ratio = failed as f64 / finished.max(1) as f64;
    (at_most > 0.0 && finished >= JUDGED_FROM && ratio >= at_most).then(|| {
        format!(
            "{failed} of {finished} failed, {:.1} %: {:.1} % may; look at the results, then resume or cancel it",
            ratio * 100.0,
            at_most * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchNumber, Counts, Header};
    use time::OffsetDateTime;

    fn batch(state: State, sealed: bool, counts: Counts) -> Batch {
        let now = OffsetDateTime::UNIX_EPOCH;
        Batch {
            number: BatchNumber::from_stored(2),
            header: Header {
                id: "b".to_owned(),
                environment: uuid::Uuid::nil().into(),
                caller: "c".to_owned(),
                reason: String::new(),
                ticket: String::new(),
                on_behalf_of: String::new(),
                time_to_live: std::time::Duration::from_secs(60),
                max_failure_ratio: 0.05,
                canary_count: 0,
                start_when_sealed: false,
            },
            created_at: now,
            expires_at: now,
            uploaded_at: now,
            next_offset: counts.jobs,
            sealed,
            canary_passed: false,
            state,
            state_reason: "asked for".to_owned(),
            paused_by_itself: false,
            completed_at: None,
            revision: 1,
            before: (0, 0),
            counts,
            current_rate: 0.0,
            running: 0,
            now,
        }
    }

    fn counts(jobs: u64, succeeded: u64, failed: u64) -> Counts {
        Counts { jobs, succeeded, failed, ..Counts::default() }
    }

    fn becomes(batch: &Batch, canary_waits: bool) -> Option<State> {
        judge(batch, canary_waits).map(|judgement| judgement.state)
    }

    #[test]
    fn a_canary_is_over_though_nothing_succeeded_or_failed() {
        let mut trial = batch(State::Running, true, Counts { looked_up: 1, rejected: 1, ..counts(11, 0, 0) });
        trial.header.canary_count = 1;
        assert_eq!(becomes(&trial, true), None);
        assert_eq!(becomes(&trial, false), Some(State::Paused));
    }

    #[test]
    fn it_is_done_when_it_is_sealed_and_everything_has_a_result() {
        let all = counts(10, 7, 3);
        assert_eq!(becomes(&batch(State::Running, true, all), false), Some(State::Done));
        assert_eq!(becomes(&batch(State::Paused, true, all), false), Some(State::Done));
        assert_eq!(becomes(&batch(State::Running, false, all), false), None);
        assert_eq!(becomes(&batch(State::Running, true, counts(10, 7, 2)), false), None);
        assert_eq!(becomes(&batch(State::Cancelling, false, all), false), Some(State::Cancelled));
        assert_eq!(becomes(&batch(State::Cancelling, true, counts(10, 7, 2)), false), None);
        assert_eq!(becomes(&batch(State::Done, true, all), false), None);
        let looked_up = Counts { looked_up: 2, ..counts(12, 10, 0) };
        assert_eq!(becomes(&batch(State::Running, true, looked_up), false), Some(State::Done));
    }

    #[test]
    fn it_pauses_when_too_many_fail_and_not_before_twenty_results() {
        assert_eq!(becomes(&batch(State::Running, true, counts(100, 0, 19)), false), None);
        assert_eq!(becomes(&batch(State::Running, true, counts(100, 19, 1)), false), Some(State::Paused));
        assert_eq!(becomes(&batch(State::Running, true, counts(100, 20, 1)), false), None);
        let resumed = Batch { before: (20, 20), ..batch(State::Running, true, counts(100, 19, 20)) };
        assert_eq!(becomes(&resumed, false), None, "what failed before the resume is forgiven");
    }

    #[test]
    fn it_pauses_after_its_canary() {
        let mut trial = batch(State::Running, true, counts(100, 5, 0));
        trial.header.canary_count = 5;
        assert_eq!(becomes(&trial, true), None);
        assert_eq!(becomes(&trial, false), Some(State::Paused));
        trial.canary_passed = true;
        assert_eq!(becomes(&trial, false), None);
        let mut whole = batch(State::Running, true, counts(5, 5, 0));
        whole.header.canary_count = 5;
        assert_eq!(becomes(&whole, false), Some(State::Done), "nothing is left to wait for");
        let mut uploading = batch(State::Running, false, counts(3, 3, 0));
        uploading.header.canary_count = 5;
        assert_eq!(becomes(&uploading, false), None, "more of the trial may come");
    }

    #[test]
    fn an_upload_nobody_goes_on_with_ends() {
        let idle = |hours, sealed| {
            let mut batch = batch(State::Uploading, sealed, counts(10, 0, 0));
            batch.now += Duration::hours(hours);
            becomes(&batch, false)
        };
        assert_eq!((idle(23, false), idle(24, false), idle(25, true)), (None, Some(State::Cancelling), None));
    }
}
