use super::*;

/// Lines that OCSF's own schema takes: tests/suite/clients.rs asks it.
const GOLDEN: &str = include_str!("golden.jsonl");

/// One entry for each action and outcome, with all that such an entry may say.
fn events() -> Vec<AuditEvent> {
    let uuid = |last: u8| format!("0199f1a2-7b3c-7d4e-8f50-6172839458{last:02x}");
    let numbers = (1..=18).map(|number| Action::try_from(number).unwrap_or_default());
    let of = |action: Action| AuditEvent {
        event_id: uuid(u8::try_from(i32::from(action)).unwrap_or_default()),
        event_time: Some(prost_types::Timestamp { seconds: 1_767_323_045, nanos: 678_901_000 }),
        action: action.into(),
        environment_id: "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6".to_owned(),
        caller: "help-desk".to_owned(),
        policy: "1".to_owned(),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        ..AuditEvent::default()
    };
    let target = |event: AuditEvent| AuditEvent {
        job_id: uuid(0xA0),
        user_id: "b30ac647-e33e-464f-a6ea-0275082d4c26".to_owned(),
        device_id: "6697f628-7712-4e71-b52b-920ba0635020".to_owned(),
        ..event
    };
    let ended = |outcome: State| AuditEvent {
        caller: SERVICE.to_owned(),
        policy: String::new(),
        run: 1,
        attempts: 2,
        outcome: outcome.into(),
        ..target(of(Action::Finished))
    };
    let mut all: Vec<AuditEvent> = numbers
        .filter(|action| *action != Action::Finished)
        .map(|action| match action {
            Action::Requested => AuditEvent {
                acting_for: "jane".to_owned(),
                on_behalf_of: "jane".to_owned(),
                reason: "lost her phone".to_owned(),
                ticket: "INC1".to_owned(),
                ..target(of(action))
            },
            Action::RowRequested => AuditEvent {
                batch_id: "users".to_owned(),
                reference: "row 1".to_owned(),
                ..target(of(action))
            },
            Action::CancelAsked | Action::Redriven => target(of(action)),
            Action::Listed => AuditEvent { device_id: String::new(), ..target(of(action)) },
            Action::Paused | Action::Resumed => of(action),
            Action::Denied => AuditEvent {
                caller: "unauthenticated 192.0.2.1".to_owned(),
                detail: "pingone.device.v1.DeviceService/Unblock".to_owned(),
                error_reason: "CREDENTIALS_INVALID".to_owned(),
                count: 12,
                ..of(action)
            },
            Action::TrailRead => AuditEvent {
                environment_id: String::new(),
                detail: "ListAuditEvents".to_owned(),
                ..of(action)
            },
            Action::Erased => AuditEvent { erased_event_ids: vec![uuid(1)], count: 1, ..of(action) },
            _ => AuditEvent { batch_id: "users".to_owned(), ..of(action) },
        })
        .collect();
    all.push(AuditEvent { http_status: 200, correlation_id: "c0ffee".to_owned(), ..ended(State::Succeeded) });
    all.push(AuditEvent {
        error_reason: "UPSTREAM_NOT_FOUND".to_owned(),
        http_status: 404,
        ..ended(State::Failed)
    });
    all.push(ended(State::Cancelled));
    all.push(AuditEvent { user_id: String::new(), device_id: String::new(), ..ended(State::Expired) });
    all
}

/// Of whatever version of this program.
fn line(one: &AuditEvent) -> String {
    let version = |version: &str| format!("\"vendor_name\":\"pingone-unblock\",\"version\":\"{version}\"");
    event(one).to_string().replace(&version(env!("CARGO_PKG_VERSION")), &version("0.0.0"))
}

#[test]
fn each_entry_has_its_golden_line() {
    let lines: Vec<String> = events().iter().map(line).collect();
    let golden: Vec<&str> = GOLDEN.lines().collect();
    for (line, golden) in lines.iter().zip(&golden) {
        assert_eq!(line, golden);
    }
    assert_eq!(lines.len(), golden.len(), "\n{}", lines.join("\n"));
}

#[test]
fn nothing_an_entry_says_of_a_person_is_left_out() {
    let events = events();
    let line = event(&events[0]).to_string();
    for said in ["jane", "lost her phone", "INC1", "b30ac647", "6697f628", "help-desk"] {
        assert!(line.contains(said), "{said} is not in {line}");
    }
}

#[test]
fn the_table_in_the_documentation_is_what_is_done() {
    let told = include_str!("../../../../docs/audit-export.md");
    for one in events() {
        let (class, (activity, activity_name)) = class_of(&one);
        let row =
            format!("| `{}` | {} ({}) | {activity} {activity_name} |", name(&one), class.name, class.uid);
        assert!(told.contains(&row), "no row {row}");
    }
}
