//! A row a verdict.

use std::time::Duration;

use time::OffsetDateTime;

use super::*;
use crate::proto::v1::{Environment, ListEnvironmentsResponse, environment::State};

const NOW: i64 = 1_767_323_045;
const MS: Duration = Duration::from_millis(2);

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).expect("a year with four digits")
}

fn environment(id: &str, state: State, reason: &str) -> Environment {
    Environment {
        environment_id: id.to_owned(),
        state: state.into(),
        state_reason: reason.to_owned(),
        owner: "replica".to_owned(),
        publish_time: Some(prost_types::Timestamp { seconds: NOW, nanos: 0 }),
        ..Environment::default()
    }
}

fn sending() -> Environment {
    environment("fine-1", State::Sending, "")
}

fn waiting(interactive: i64, bulk: i64, age: i64) -> Environment {
    Environment {
        environment_id: "busy-1".to_owned(),
        pending_interactive: interactive,
        pending_bulk: bulk,
        oldest_pending_age: Some(prost_types::Duration { seconds: age, nanos: 0 }),
        ..sending()
    }
}

fn told(environments: Vec<Environment>, all_paused: &str) -> Found {
    let mut all = Environments::default();
    let page = ListEnvironmentsResponse {
        environments,
        all_paused: !all_paused.is_empty(),
        all_paused_reason: all_paused.to_owned(),
        ..Default::default()
    };
    all.add(page, now());
    Found {
        postgres: Postgres::Answers(MS),
        environments: Some(all),
        ..Found::new("http://here", now(), Service::Serving(MS))
    }
}

fn no_postgres(service: Service) -> Found {
    Found { postgres: Postgres::Unavailable("gone".to_owned()), ..Found::new("http://here", now(), service) }
}

#[test]
fn the_verdict_names_whose_problem_it_is() {
    use Cause::*;
    let refused = environment("a-1", State::CredentialRefused, "invalid_client");
    let down = environment("b-1", State::Unreachable, "503 since noon");
    let orphan = Environment { owner: String::new(), ..waiting(0, 7, 60) };
    let full = Environment { effective_rate_limit: 20.0, current_rate: 19.5, ..waiting(0, 900, 9000) };
    let away = Found::new("http://here", now(), Service::Gone("does not answer within 5s".to_owned()));
    let drains = Found { service: Service::NotServing(MS), ..told(vec![sending()], "") };
    let refuses = Found { service: Service::Refuses("refuses: too many".to_owned()), ..away.clone() };
    let lonely = Environment { owner: String::new(), ..sending() };
    let old = Some(prost_types::Timestamp { seconds: NOW - 60, nanos: 0 });
    let stale = Environment { publish_time: old, ..waiting(0, 5, 90) };
    let rows = [
        (
            told(vec![stale], ""),
            Well,
            Whose::Nobody,
            Exit::Done,
            "all is well; what waits is unknown of 1 environment",
        ),
        (away, ServerUnreachable, Whose::Us, Exit::Unreachable, "at http://here does not answer within 5s"),
        (drains, NotServing, Whose::Us, Exit::Failed, "does not serve: it starts, or drains"),
        (refuses, NotServing, Whose::Us, Exit::Failed, "us: the server at http://here refuses: too many"),
        (
            no_postgres(Service::NotServing(MS)),
            PostgresUnavailable,
            Whose::Postgres,
            Exit::Failed,
            "cannot reach it: gone",
        ),
        (
            no_postgres(Service::Serving(MS)),
            PostgresUnavailable,
            Whose::Postgres,
            Exit::Failed,
            "cannot reach it: gone",
        ),
        (
            told(vec![sending(), orphan.clone()], ""),
            NoOwner,
            Whose::Us,
            Exit::Failed,
            "environment busy-1 has work and no owner",
        ),
        (
            told(vec![orphan], ""),
            NoOwner,
            Whose::Us,
            Exit::Failed,
            "no replica sends; environment busy-1 has work",
        ),
        (
            told(vec![lonely], ""),
            NoOwner,
            Whose::Us,
            Exit::Failed,
            "no replica sends; 1 environment without an owner",
        ),
        (
            told(vec![sending(), refused], ""),
            CredentialRefused,
            Whose::PingOne,
            Exit::Failed,
            "PingOne refuses the credential of 1 environment; a…: invalid_client",
        ),
        (
            told(vec![sending(), down.clone(), down], ""),
            PingOneUnreachable,
            Whose::PingOne,
            Exit::Failed,
            "PingOne: 2 of 3 environments are unreachable; b…: 503 since noon",
        ),
        (
            told(vec![environment("c-1", State::Throttled, "until one")], ""),
            Throttled,
            Whose::PingOne,
            Exit::Failed,
            "environment c-1 is to wait for its rate limit; until one",
        ),
        (
            told(vec![sending(), environment("d-1", State::Paused, "by me")], ""),
            Paused,
            Whose::Operator,
            Exit::Done,
            "an operator paused environment d-1; by me",
        ),
        (
            told(vec![], "everything is paused"),
            Paused,
            Whose::Operator,
            Exit::Done,
            "an operator: everything is paused",
        ),
        (
            told(vec![waiting(2, 0, 31)], ""),
            Late,
            Whose::Us,
            Exit::Failed,
            "2 interactive jobs waiting, the oldest for 31s",
        ),
        (
            told(vec![full, sending()], ""),
            AtRate,
            Whose::Nobody,
            Exit::Done,
            "environment busy-1 is at the rate allowed",
        ),
        (told(vec![sending(), waiting(2, 0, 30)], ""), Well, Whose::Nobody, Exit::Done, "all is well"),
        (told(vec![], ""), Well, Whose::Nobody, Exit::Done, "no environment has had a job yet"),
    ];
    for (found, cause, whose, ends, says) in rows {
        let findings = judge(&found);
        let first = &findings[0];
        assert_eq!((first.cause, first.cause.whose(), exit(&findings)), (cause, whose, ends), "{findings:?}");
        assert!(first.sentence.contains(says), "{says:?} is not in {:?}", first.sentence);
        assert_eq!(findings.len(), 1, "{findings:?}");
    }
}

#[test]
fn the_worst_comes_first_and_decides_how_it_ends() {
    let orphan = Environment { owner: String::new(), ..waiting(0, 7, 60) };
    let all = vec![
        waiting(2, 0, 31),
        environment("d-1", State::Paused, ""),
        environment("c-1", State::Throttled, ""),
        environment("b-1", State::Unreachable, ""),
        environment("a-1", State::CredentialRefused, ""),
        orphan,
    ];
    let found = Found { service: Service::NotServing(MS), ..told(all, "") };
    let causes: Vec<Cause> = judge(&found).into_iter().map(|finding| finding.cause).collect();
    use Cause::*;
    assert_eq!(causes, [NotServing, NoOwner, CredentialRefused, PingOneUnreachable, Throttled, Paused, Late]);
    let paused_and_late = told(vec![environment("d-1", State::Paused, ""), waiting(2, 0, 31)], "");
    let findings = judge(&paused_and_late);
    assert_eq!((findings[0].cause, exit(&findings)), (Paused, Exit::Failed), "what is late is not hidden");
}

#[test]
fn a_server_that_is_away_is_told_with_since_when() {
    let mut found = Found::new("http://here", now(), Service::Gone("does not answer: refused".to_owned()));
    found.away = Some(crate::cli::status::found::Away { since: now(), until: None });
    let sentence = &judge(&found)[0].sentence;
    assert!(sentence.ends_with("does not answer: refused, since 2026-01-02 03:04:05 UTC"), "{sentence}");
}
