//! What was found, as lines for people: never more than a screen.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    figures::{Environments, Trouble, is_known, oldest},
    found::{Away, Batches, Found, Postgres, Service},
    judge::{Finding, judge},
    line::Line,
};
use crate::{
    cli::{
        env::{hue_of, per_second, short, state_name},
        error::printed,
        screen::{Hue, Screen, folded, printable},
        table::{instant, stamp},
    },
    proto::v1::Environment,
};

const MOST_LINES: usize = 24;
const LABEL: usize = 10;
const MOST_LINES_OF_A_SENTENCE: usize = 3;
/// Of what is also the case, beside the verdict.
const MOST_ALSO: usize = 2;

/// The screen, line by line, as wide and high as there is room.
pub(super) fn of(screen: &Screen, found: &Found) -> Vec<String> {
    // One column stays free: a terminal that fills its last one begins a new line. So does one line, for the cursor.
    let width = usize::from(screen.width()).saturating_sub(1);
    let height =
        screen.height().map_or(MOST_LINES, |rows| usize::from(rows.saturating_sub(1)).min(MOST_LINES));
    let mut lines = lines(found, width, height);
    lines.truncate(height);
    lines.iter().map(|line| line.drawn(screen, width)).collect()
}

fn lines(found: &Found, width: usize, height: usize) -> Vec<Line> {
    let mut lines = verdict(&judge(found), width);
    lines.push(Line::default());
    lines.extend([service(found), postgres(found), pingone(found), queue(found), batches(found)]);
    if let Some(Away { since, until: Some(until) }) = found.away {
        let long = Duration::try_from(until - since).unwrap_or_default();
        let sentence = format!("the server did not answer for {}, from {} on", whole(long), stamp(since));
        lines.push(labelled("back").text(&sentence));
    }
    lines.push(labelled("as of").text(&format!("{}, {}", stamp(found.at), found.server)));
    if let Some(all) = &found.environments {
        lines.extend(worst(all, found.at, height.saturating_sub(lines.len())));
    }
    lines
}

fn verdict(findings: &[Finding], width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, finding) in findings.iter().take(1 + MOST_ALSO).enumerate() {
        let sentence = printable(&finding.sentence);
        let folded = folded(&sentence, width.saturating_sub(LABEL));
        let most = if index == 0 { MOST_LINES_OF_A_SENTENCE } else { 1 };
        let cut = folded.len() > most;
        for (number, part) in folded.into_iter().take(most).enumerate() {
            let label = match (index, number) {
                (0, 0) => "VERDICT",
                (_, 0) => "also",
                _ => "",
            };
            let end = if cut && number + 1 == most { " …" } else { "" };
            lines.push(labelled(label).hued(finding.cause.hue(), &format!("{part}{end}")));
        }
    }
    if findings.len() > 1 + MOST_ALSO {
        let more = findings.len() - 1 - MOST_ALSO;
        lines.push(labelled("").text(&format!("… and {more} more")));
    }
    lines
}

fn labelled(label: &str) -> Line {
    Line::default().hued(Hue::Faint, &format!("{label:<LABEL$}"))
}

fn unknown(label: &str) -> Line {
    labelled(label).text("unknown")
}

fn service(found: &Found) -> Line {
    let line = labelled("service");
    let health = |took| format!("; health in {}", printed(took));
    let line = match &found.service {
        Service::Gone(why) => return line.hued(Hue::Bad, why),
        Service::Refuses(why) => line.hued(Hue::Bad, why),
        Service::NotServing(took) => line.hued(Hue::Bad, "not serving").text(&health(*took)),
        Service::Serving(took) => line.hued(Hue::Good, "serving").text(&health(*took)),
    };
    let Some(all) = &found.environments else { return line };
    let replicas = all.replicas();
    let sends = if replicas == 1 { "replica sends" } else { "replicas send" };
    let line = line.text(&format!("; {replicas} {sends}"));
    match all.having(Trouble::NoOwner) {
        0 => line,
        count => line.text("; ").hued(Hue::Bad, &format!("{count} with work and no owner")),
    }
}

fn postgres(found: &Found) -> Line {
    let line = labelled("Postgres");
    match &found.postgres {
        Postgres::Unknown => unknown("Postgres"),
        Postgres::Answers(took) => {
            line.hued(Hue::Good, "answers").text(&format!("; environments listed in {}", printed(*took)))
        }
        Postgres::Unavailable(why) => line.hued(Hue::Bad, "unavailable").text(&format!("; {why}")),
    }
}

fn pingone(found: &Found) -> Line {
    let Some(all) = &found.environments else { return unknown("PingOne") };
    let states = all.states;
    let parts = [
        (states.sending, "sending", Hue::Good),
        (states.credential_refused, "credential refused", Hue::Bad),
        (states.unreachable, "unreachable", Hue::Bad),
        (states.throttled, "throttled", Hue::Attention),
        (states.paused, "paused", Hue::Attention),
        (states.other, "in another state", Hue::Attention),
    ];
    let told = parts.into_iter().filter(|(count, ..)| *count > 0);
    told.enumerate().fold(
        labelled("PingOne").text(if all.count == 0 { "no environment yet" } else { "" }),
        |line, (index, (count, state, hue))| {
            line.text(if index > 0 { ", " } else { "" }).text(&format!("{count} ")).hued(hue, state)
        },
    )
}

fn queue(found: &Found) -> Line {
    let Some(all) = &found.environments else { return unknown("queue") };
    let queue = &all.queue;
    if all.count > 0 && queue.unknown == all.count {
        return unknown("queue");
    }
    let oldest = queue.oldest.map(|oldest| format!(", oldest {}", whole(oldest))).unwrap_or_default();
    let allowed = match (queue.unlimited, queue.allowed) {
        (true, _) => " of ∞".to_owned(),
        (false, 0.0) => String::new(),
        (false, allowed) => format!(" of {}", per_second(allowed)),
    };
    let mut parts = vec![
        format!("{} interactive, {} bulk{oldest}", short(queue.interactive), short(queue.bulk)),
        format!("{} in flight", queue.in_flight),
        format!("{}{allowed}/s", per_second(queue.rate)),
    ];
    if queue.unknown > 0 {
        parts.push(format!("unknown of {}", queue.unknown));
    }
    labelled("queue").text(&parts.join("; "))
}

fn batches(found: &Found) -> Line {
    let (Some(batches), Some(all)) = (&found.batches, &found.environments) else { return unknown("batches") };
    let Batches { uploading, running, paused, cancelling, environments } = batches;
    let counts =
        [(running, "running"), (paused, "paused"), (uploading, "uploading"), (cancelling, "cancelling")];
    let told: Vec<String> = counts
        .iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    let told = if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) };
    let of = match *environments < all.count {
        true => format!("; in {environments} of {} environments", all.count),
        false => String::new(),
    };
    labelled("batches").text(&format!("{} open{told}{of}", batches.open()))
}

/// As many as fit into `room` lines, and how many there are besides.
fn worst(all: &Environments, now: OffsetDateTime, room: usize) -> Vec<Line> {
    let mut lines = vec![Line::default(), heading()];
    let mut shown = 0;
    for one in all.worst() {
        let of_one = environment(one, now);
        let last = shown + 1 == all.remarkable;
        // A line stays for how many more there are.
        if lines.len() + of_one.len() + usize::from(!last) > room {
            break;
        }
        lines.extend(of_one);
        shown += 1;
    }
    let more = all.remarkable - shown;
    if shown == 0 {
        lines.clear();
    }
    if more > 0 && lines.len() < room {
        lines.push(Line::default().hued(Hue::Faint, &format!("… and {more} more: `env list` has all")));
    }
    lines
}

fn heading() -> Line {
    Line::default()
        .hued(Hue::Faint, &format!("{:<36} {:<18} {:>7} {:>9}", "ENVIRONMENT", "STATE", "OLDEST", "WAITING"))
}

fn environment(one: &Environment, now: OffsetDateTime) -> Vec<Line> {
    let known = is_known(one, now);
    let waiting = match known {
        true => format!("{}+{}", short(one.pending_interactive), short(one.pending_bulk)),
        false => "unknown".to_owned(),
    };
    let age = oldest(one).filter(|_| known).map(whole).unwrap_or_default();
    let state = format!("{:<18}", state_name(one));
    let line = Line::default().text(&format!("{:<36} ", one.environment_id));
    let line = match hue_of(one) {
        Some(hue) => line.hued(hue, &state),
        None => line.text(&state),
    };
    let line = line.text(&format!(" {age:>7} {waiting:>9}"));
    let mut why: Vec<String> = Vec::new();
    if one.owner.is_empty() {
        why.push("no owner".to_owned());
    }
    let resumes = one.resume_time.and_then(instant).and_then(|at| Duration::try_from(at - now).ok());
    why.extend(resumes.map(|wait| format!("resumes in {}", whole(wait))));
    why.push(one.state_reason.clone());
    why.retain(|part| !part.is_empty());
    if why.is_empty() {
        return vec![line];
    }
    vec![line, Line::default().hued(Hue::Faint, &format!("  {}", why.join("; ")))]
}

/// Tenths of a second would only be noise.
fn whole(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "0s".to_owned(),
        seconds => printed(Duration::from_secs(seconds)),
    }
}
