//! Which of several reasons is told, and which figures are believed.

use super::*;

const NOW: OffsetDateTime = time::macros::datetime!(2026-01-02 03:04:05 UTC);

fn recorded() -> Recorded {
    Recorded::nothing(Uuid::from_u128(1).into())
}

fn pause(reason: &str) -> Pause {
    Pause { at: NOW, by: "ops".to_owned(), reason: reason.to_owned() }
}

fn status() -> Status {
    Status {
        environment: Uuid::from_u128(1).into(),
        rate_limit: 20.0,
        effective_rate: 14.0,
        current_rate: 13.5,
        in_flight: 3,
        max_in_flight: 32,
        limit_group: Some("licence".to_owned()),
        pending_interactive: 2,
        pending_bulk: 1000,
        oldest_due_at: Some(NOW - Duration::from_secs(90)),
    }
}

#[test]
fn the_reason_to_deal_with_first_is_told() {
    let soon = NOW + Duration::from_secs(60);
    let later = NOW + Duration::from_secs(90);
    let mut troubled = Recorded {
        pause: Some(pause("a change")),
        refusal: Some(Refusal { error: "invalid_client".to_owned(), retry_at: soon }),
        hold_until: Some(soon),
        group_hold_until: Some(later),
        outage: Some(Outage { since: NOW, error: "503".to_owned(), retry_at: soon }),
        published: Some((NOW, status())),
        ..recorded()
    };
    let mut told = Vec::new();
    let mut tell = |troubled: &Recorded, everything: Option<&Pause>| {
        let view = troubled.clone().view(everything, NOW);
        told.push((view.state, view.state_reason, view.resume_at));
    };
    tell(&troubled, Some(&pause("")));
    tell(&troubled, None);
    troubled.pause = None;
    tell(&troubled, None);
    troubled.refusal = None;
    tell(&troubled, None);
    troubled.group_hold_until = None;
    tell(&troubled, None);
    troubled.hold_until = Some(NOW);
    tell(&troubled, None);
    troubled.outage = None;
    tell(&troubled, None);
    let expected = [
        (State::Paused, "everything is paused by ops since 2026-01-02T03:04:05Z", None),
        (State::Paused, "paused by ops since 2026-01-02T03:04:05Z: a change", None),
        (
            State::CredentialRefused,
            "PingOne refuses the credential: invalid_client; tried again at 2026-01-02T03:05:05Z",
            Some(soon),
        ),
        (
            State::Throttled,
            "PingOne asked the limit group licence to wait until 2026-01-02T03:05:35Z",
            Some(later),
        ),
        (State::Throttled, "PingOne asked to wait until 2026-01-02T03:05:05Z", Some(soon)),
        (
            State::Unreachable,
            "PingOne fails since 2026-01-02T03:04:05Z: 503; tried again at 2026-01-02T03:05:05Z",
            Some(soon),
        ),
        (State::Sending, "", None),
    ];
    let expected = expected.map(|(state, sentence, resume)| (state, sentence.to_owned(), resume));
    assert_eq!(told, expected);
}

#[test]
fn figures_of_the_moment_are_not_believed_when_they_are_old() {
    let view = |age| {
        let published = Some((NOW - Duration::from_secs(age), status()));
        Recorded { published, ..recorded() }.view(None, NOW)
    };
    assert_eq!(view(10).status, Some(status()));
    let old = view(11);
    assert_eq!(old.status, Some(Status { current_rate: 0.0, in_flight: 0, ..status() }));
    assert_eq!(old.published_at, Some(NOW - Duration::from_secs(11)));
    assert_eq!(old.oldest_pending_age, Some(Duration::from_secs(90)));
}

#[test]
fn an_environment_that_never_worked_sends_once_there_is_something() {
    let view = recorded().view(None, NOW);
    assert_eq!((view.state, view.status, view.oldest_pending_age), (State::Sending, None, None));
}
