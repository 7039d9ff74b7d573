//! Whose problem it is, the worst first. Pure.

use super::{
    figures::{Environments, Tally, Trouble, oldest},
    found::{Found, Postgres, Service},
};
use crate::cli::{
    error::printed,
    exit::Exit,
    screen::Hue,
    table::{abridged, stamp},
};

/// Who has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Nobody,
    Us,
    Postgres,
    PingOne,
    Operator,
}

/// What it is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    ServerUnreachable,
    NotServing,
    PostgresUnavailable,
    NoOwner,
    CredentialRefused,
    PingOneUnreachable,
    Throttled,
    Paused,
    Late,
    AtRate,
    Well,
}

/// One thing that was found, in plain words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) cause: Cause,
    pub(super) sentence: String,
}

impl Cause {
    pub(super) const fn whose(self) -> Whose {
        match self {
            Self::ServerUnreachable | Self::NotServing | Self::NoOwner | Self::Late => Whose::Us,
            Self::PostgresUnavailable => Whose::Postgres,
            Self::CredentialRefused | Self::PingOneUnreachable | Self::Throttled => Whose::PingOne,
            Self::Paused => Whose::Operator,
            Self::AtRate | Self::Well => Whose::Nobody,
        }
    }

    /// Whether somebody should look.
    pub(super) const fn needs_attention(self) -> bool {
        match self {
            Self::ServerUnreachable | Self::NotServing | Self::PostgresUnavailable | Self::NoOwner => true,
            Self::CredentialRefused | Self::PingOneUnreachable | Self::Throttled | Self::Late => true,
            Self::Paused | Self::AtRate | Self::Well => false,
        }
    }

    pub(super) const fn hue(self) -> Hue {
        match self {
            Self::ServerUnreachable | Self::NotServing | Self::PostgresUnavailable | Self::NoOwner => {
                Hue::Bad
            }
            Self::CredentialRefused | Self::PingOneUnreachable => Hue::Bad,
            Self::Throttled | Self::Paused | Self::Late => Hue::Attention,
            Self::AtRate | Self::Well => Hue::Good,
        }
    }

    /// As programs read it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ServerUnreachable => "SERVER_UNREACHABLE",
            Self::NotServing => "NOT_SERVING",
            Self::PostgresUnavailable => "POSTGRES_UNAVAILABLE",
            Self::NoOwner => "NO_OWNER",
            Self::CredentialRefused => "CREDENTIAL_REFUSED",
            Self::PingOneUnreachable => "PINGONE_UNREACHABLE",
            Self::Throttled => "THROTTLED",
            Self::Paused => "PAUSED",
            Self::Late => "LATE",
            Self::AtRate => "AT_RATE_LIMIT",
            Self::Well => "WELL",
        }
    }
}

impl Whose {
    /// As programs read it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "NOBODY",
            Self::Us => "US",
            Self::Postgres => "POSTGRES",
            Self::PingOne => "PINGONE",
            Self::Operator => "OPERATOR",
        }
    }
}

/// Everything there is to say, the worst first; never nothing.
pub(super) fn judge(found: &Found) -> Vec<Finding> {
    let mut findings: Vec<Finding> = [service(found), postgres(found)].into_iter().flatten().collect();
    if let Some(environments) = &found.environments {
        findings.extend(of_environments(environments));
    }
    if findings.is_empty() {
        findings.push(well(found));
    }
    findings.sort_by_key(|finding| finding.cause);
    findings
}

/// How a command ends that has told this.
pub(super) fn exit(findings: &[Finding]) -> Exit {
    if findings.iter().any(|finding| finding.cause == Cause::ServerUnreachable) {
        Exit::Unreachable
    } else if findings.iter().any(|finding| finding.cause.needs_attention()) {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn service(found: &Found) -> Option<Finding> {
    let server = &found.server;
    let finding = |cause, sentence| Some(Finding { cause, sentence });
    match (&found.service, &found.postgres) {
        (Service::Gone(why), _) => {
            let since = found.away.map(|away| format!(", since {}", stamp(away.since))).unwrap_or_default();
            finding(Cause::ServerUnreachable, format!("us: the server at {server} {why}{since}"))
        }
        (Service::Refuses(why), _) => finding(Cause::NotServing, format!("us: the server at {server} {why}")),
        // It does not serve because it has no Postgres.
        (Service::NotServing(_), Postgres::Unavailable(_)) | (Service::Serving(_), _) => None,
        (Service::NotServing(_), Postgres::Unknown | Postgres::Answers(_)) => finding(
            Cause::NotServing,
            format!("us: the server at {server} says that it does not serve: it starts, or drains"),
        ),
    }
}

fn postgres(found: &Found) -> Option<Finding> {
    let Postgres::Unavailable(why) = &found.postgres else { return None };
    let sentence = format!("Postgres: the server cannot reach it: {why}");
    Some(Finding { cause: Cause::PostgresUnavailable, sentence })
}

fn of_environments(all: &Environments) -> Vec<Finding> {
    let mut findings = Vec::new();
    if all.count > 0 && all.replicas() == 0 && !all.troubles.contains_key(&Trouble::NoOwner) {
        let sentence = format!("us: no replica sends; {} without an owner", environments(all.count));
        findings.push(Finding { cause: Cause::NoOwner, sentence });
    }
    let told = all.troubles.iter().map(|(trouble, tally)| of_trouble(*trouble, tally, all));
    findings.extend(told);
    // Nobody needs an environment for everything to be paused.
    if let (Some(why), None) = (&all.everything_paused, all.troubles.get(&Trouble::Paused)) {
        findings.push(Finding { cause: Cause::Paused, sentence: format!("an operator: {why}") });
    }
    findings
}

fn of_trouble(trouble: Trouble, tally: &Tally, all: &Environments) -> Finding {
    let one = &tally.worst;
    let (id, count) = (&one.environment_id, tally.count);
    let whom = match count {
        1 => format!("environment {id}"),
        _ => format!("{count} of {}", environments(all.count)),
    };
    let (is, have) = if count == 1 { ("is", "has") } else { ("are", "have") };
    // Which one of several the reason is of.
    let example = if count == 1 { String::new() } else { format!("{}: ", abridged(id)) };
    let reason = format!("{example}{}", one.state_reason);
    let (cause, sentence) = match trouble {
        Trouble::NoOwner if all.replicas() == 0 => {
            (Cause::NoOwner, format!("us: no replica sends; {whom} {have} work and no owner"))
        }
        Trouble::NoOwner => (Cause::NoOwner, format!("us: {whom} {have} work and no owner")),
        Trouble::CredentialRefused => {
            let whose = format!("{count} {}", if count == 1 { "environment" } else { "environments" });
            let sentence =
                format!("PingOne refuses the credential of {whose}; {}: {}", abridged(id), one.state_reason);
            (Cause::CredentialRefused, sentence)
        }
        Trouble::Unreachable => {
            (Cause::PingOneUnreachable, format!("PingOne: {whom} {is} unreachable; {reason}"))
        }
        Trouble::Throttled => {
            (Cause::Throttled, format!("PingOne: {whom} {is} to wait for its rate limit; {reason}"))
        }
        Trouble::Paused => {
            let sentence = match &all.everything_paused {
                Some(why) => format!("an operator: {why}"),
                None => format!("an operator paused {whom}; {reason}"),
            };
            (Cause::Paused, sentence)
        }
        Trouble::Late => {
            let waiting = one.pending_interactive;
            let age = oldest(one).map(|age| format!(", the oldest for {}", printed(age)));
            let age = age.filter(|_| one.pending_bulk == 0).unwrap_or_default();
            let sentence =
                format!("us: {whom} {is} late; {} has {waiting} interactive jobs waiting{age}", abridged(id));
            (Cause::Late, sentence)
        }
        Trouble::AtRate => {
            let sentence = format!("all is well; {whom} {is} at the rate allowed, and the rest waits for it");
            (Cause::AtRate, sentence)
        }
    };
    Finding { cause, sentence }
}

fn well(found: &Found) -> Finding {
    let more = match &found.environments {
        Some(all) if all.count == 0 => "; no environment has had a job yet".to_owned(),
        Some(all) if all.queue.unknown > 0 => {
            format!("; what waits is unknown of {}", environments(all.queue.unknown))
        }
        Some(_) | None => String::new(),
    };
    Finding { cause: Cause::Well, sentence: format!("all is well{more}") }
}

fn environments(count: u64) -> String {
    if count == 1 { "1 environment".to_owned() } else { format!("{count} environments") }
}

#[cfg(test)]
mod tests;
