//! A stale unblock must not lift a newer block: whoever blocked the device meanwhile meant it. So an attempt that is not the first, or
//! comes long after its request, reads the device before it sends.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    Core, Route,
    flow::Waiting,
    gate::Started,
    learn::{count, reached, shown},
    send::{Asked, Attempt},
};
use crate::{
    device::{EnvironmentId, Snapshot},
    job::{Failure, Reason, RetryHint},
    pingone::Answer,
    redact::Redacted,
    store::{ReadFirst, SEND_WINDOW},
};

/// PingOne's clock and the database's may differ by so much.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);
/// The second request waits this long for its place at most; then the job waits as before.
const PLACE_WITHIN: Duration = Duration::from_secs(2);
const PLACE_AGAIN: Duration = Duration::from_millis(10);

/// What became of an attempt that read first.
pub(super) enum Settled {
    /// This request settled it; before it came, perhaps, a read.
    By(Box<Asked>, Option<ReadFirst>),
    /// After the read nothing was sent: a pause, a cancel or the end of its time came in between.
    NotAtAll(ReadFirst),
}

/// What a read means for the unblock.
#[derive(Debug)]
enum Meaning {
    /// It settles the attempt.
    Settles(Answer),
    /// It may be sent. Why nothing was learned, where nothing was.
    Send(Option<Failure>),
}

/// Whether the device is read before the unblock is sent. A list lifts no block, however late.
pub(super) fn is_stale(core: &Core, job: &Waiting, now: Instant) -> bool {
    let late = now.saturating_duration_since(job.requested) > core.stale_after;
    !job.device.is_every() && (job.repeated || late)
}

/// Reads the device, and sends the unblock where that is still meant.
pub(super) async fn read_and_send(
    core: &Arc<Core>,
    route: &Route,
    attempt: &Attempt,
    started: Started,
) -> Settled {
    let (job, claim) = (&attempt.job, attempt.claim);
    let (began, started_at) = (Instant::now(), OffsetDateTime::now_utc());
    let answer = route.client.read(&job.device, claim.id, job.trace_parent.as_deref()).await;
    let (http_status, correlation_id) = (answer.http_status, answer.correlation_id.clone());
    let duration = began.elapsed();
    let failure = match judge(answer, job.requested_at) {
        Meaning::Settles(answer) => {
            let asked = Asked { answer, started_at, duration, started, read: true };
            return Settled::By(Box::new(asked), None);
        }
        Meaning::Send(failure) => failure,
    };
    count(attempt, true, failure.as_ref());
    let environment = job.device.environment;
    if failure.is_none() {
        shown(core, environment)
    } else {
        reached(core, environment)
    }
    let first = ReadFirst { claim, started_at, duration, http_status, correlation_id, failure };

    let Some(started) = next_place(core, attempt).await else { return Settled::NotAtAll(first) };
    let asked = Instant::now();
    // Once more, right before the first byte: a cancel waits for what was claimed before it, not for what is claimed after.
    let renewed = core.store.renew_claim(&claim).await;
    let now = Instant::now();
    if !matches!(renewed, Ok(true))
        || now > asked + SEND_WINDOW
        || now >= job.expires
        || !core.schedules(environment)
    {
        unused(core, environment, started);
        return Settled::NotAtAll(first);
    }
    let started_at = OffsetDateTime::now_utc();
    let answer = route.client.unblock(&job.device, claim.id, job.trace_parent.as_deref()).await;
    let asked = Asked { answer, started_at, duration: now.elapsed(), started, read: false };
    Settled::By(Box::new(asked), Some(first))
}

/// A place within the limits for the second request of an attempt, once its time has come.
pub(super) async fn next_place(core: &Core, attempt: &Attempt) -> Option<Started> {
    let environment = attempt.job.device.environment;
    let until = Instant::now() + PLACE_WITHIN;
    loop {
        let now = Instant::now();
        let place = {
            let mut board = core.board();
            let desk = board.get_mut(environment)?;
            match desk.gate.opens(now) {
                Some(at) if at > until => return None,
                Some(at) => Some((at, desk.gate.take(at))),
                None if desk.gate.is_shut(now) => return None,
                // It waits for a slot of the licence.
                None => {
                    desk.wants_slot();
                    None
                }
            }
        };
        let Some((at, started)) = place else {
            if now >= until {
                return None;
            }
            tokio::time::sleep(PLACE_AGAIN).await;
            continue;
        };
        tokio::time::sleep_until(at).await;
        let mut board = core.board();
        if board.get_mut(environment)?.gate.still_lets(started, Instant::now()) {
            return Some(started);
        }
        drop(board);
        unused(core, environment, started);
        return None;
    }
}

/// The place is not used: whether PingOne answers, or takes the credential, is for the next to find out.
fn unused(core: &Core, environment: EnvironmentId, started: Started) {
    if let Some(desk) = core.board().get_mut(environment) {
        desk.gate.unused(started);
    }
}

fn judge(answer: Answer, requested_at: OffsetDateTime) -> Meaning {
    let failure = match &answer.outcome {
        Ok(snapshot) => match block_of(snapshot) {
            Block::Lifted => return Meaning::Settles(answer),
            Block::Since(Some(blocked_at)) if blocked_at > requested_at + CLOCKS_DIFFER => {
                let outcome = Err(reblocked(&answer, blocked_at, requested_at));
                return Meaning::Settles(Answer { outcome, ..answer });
            }
            Block::Since(_) => return Meaning::Send(None),
            Block::Unknown => not_understood(&answer),
        },
        Err(failure) => failure.clone(),
    };
    // Only where reading itself is refused or not understood is the unblock still worth sending.
    match (failure.reason, failure.http_status) {
        (Reason::Protocol, _) | (_, Some(403 | 405)) => Meaning::Send(Some(failure)),
        _ => Meaning::Settles(answer),
    }
}

enum Block {
    Lifted,
    Since(Option<OffsetDateTime>),
    Unknown,
}

fn block_of(snapshot: &Snapshot) -> Block {
    match snapshot.text(&["block", "status"]) {
        Some("UNBLOCKED") => Block::Lifted,
        Some("BLOCKED") => Block::Since(snapshot.instant(&["block", "blockedAt"])),
        _ => Block::Unknown,
    }
}

fn reblocked(answer: &Answer, blocked_at: OffsetDateTime, requested_at: OffsetDateTime) -> Failure {
    let second = |at: OffsetDateTime| at.replace_nanosecond(0).unwrap_or(at);
    Failure {
        reason: Reason::Reblocked,
        message: Redacted::from("The device was blocked anew at ")
            .and(second(blocked_at))
            .and(", after this unblock was asked for at ")
            .and(second(requested_at))
            .and(": it was left alone"),
        hint: RetryHint::Never,
        http_status: answer.http_status,
        pingone_code: None,
        pingone_id: None,
        correlation_id: answer.correlation_id.clone(),
    }
}

fn not_understood(answer: &Answer) -> Failure {
    Failure {
        reason: Reason::Protocol,
        message: "PingOne described the device without saying whether it is blocked".into(),
        hint: RetryHint::Never,
        http_status: answer.http_status,
        pingone_code: None,
        pingone_id: None,
        correlation_id: answer.correlation_id.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(body: Value) -> Answer {
        let raw = body.as_object().cloned().unwrap_or_default();
        Answer {
            outcome: Ok(Snapshot::new(raw, OffsetDateTime::UNIX_EPOCH)),
            http_status: Some(200),
            correlation_id: None,
            requests: 1,
        }
    }

    fn refused(reason: Reason, status: Option<u16>) -> Answer {
        let failure = Failure { reason, http_status: status, ..not_understood(&read(json!({}))) };
        Answer { outcome: Err(failure), http_status: status, correlation_id: None, requests: 1 }
    }

    fn meaning(answer: Answer) -> &'static str {
        let requested_at = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1000);
        match judge(answer, requested_at) {
            Meaning::Settles(Answer { outcome: Ok(_), .. }) => "succeeded",
            Meaning::Settles(Answer { outcome: Err(failure), .. }) => failure.reason.name(),
            Meaning::Send(None) => "send",
            Meaning::Send(Some(_)) => "send, though nothing was learned",
        }
    }

    #[test]
    fn each_answer_to_a_read_has_its_meaning() {
        let blocked = |at: &str| json!({ "block": { "status": "BLOCKED", "blockedAt": at } });
        let unknown = "send, though nothing was learned";
        for (answer, expected) in [
            (read(json!({ "block": { "status": "UNBLOCKED" } })), "succeeded"),
            (read(blocked("1970-01-01T00:16:35Z")), "send"),
            (read(blocked("1970-01-01T00:16:45Z")), "send"),
            (read(blocked("1970-01-01T00:16:46Z")), "DEVICE_REBLOCKED"),
            (read(json!({ "block": { "status": "BLOCKED" } })), "send"),
            (read(json!({ "id": "1" })), unknown),
            (refused(Reason::Protocol, Some(200)), unknown),
            (refused(Reason::Forbidden, Some(403)), unknown),
            (refused(Reason::Rejected, Some(405)), unknown),
            (refused(Reason::Rejected, Some(400)), "UPSTREAM_REJECTED"),
            (refused(Reason::NotFound, Some(404)), "UPSTREAM_NOT_FOUND"),
            (refused(Reason::RateLimited, Some(429)), "UPSTREAM_RATE_LIMITED"),
            (refused(Reason::Unavailable, Some(503)), "UPSTREAM_UNAVAILABLE"),
            (refused(Reason::Timeout, None), "UPSTREAM_TIMEOUT"),
            (refused(Reason::CredentialRefused, Some(401)), "UPSTREAM_CREDENTIAL_REFUSED"),
        ] {
            let shown = format!("{answer:?}");
            assert_eq!(meaning(answer), expected, "{shown}");
        }
    }
}
