//! `device list`, and `unblock` without a device: what they print, and whom they ask.

use pingone_unblock::proto::v1::{Device, DeviceRef, ListUserDevicesRequest};
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    harness::{DEVICE, ENVIRONMENT, Ended, Tested, USER, against, device, succeeded},
    server::{Fake, asked},
    terminal::at_a_terminal,
};

const OTHER: &str = "0d2a3a6e-93a1-4f3f-8f0b-6d1f0a7c5b11";

fn blocked() -> Device {
    let at = Some(prost_types::Timestamp { seconds: 1_767_323_045, nanos: 0 });
    Device {
        block_status: "BLOCKED".to_owned(),
        block_time: at,
        phone: "+1413•••0150".to_owned(),
        ..device("UNLOCKED", None)
    }
}

fn locked() -> Device {
    let named = DeviceRef {
        environment_id: ENVIRONMENT.to_owned(),
        user_id: USER.to_owned(),
        device_id: OTHER.to_owned(),
    };
    Device {
        r#ref: Some(named),
        email: "j•••@example.com".to_owned(),
        ..device("LOCKED", Some(4_000_000_000))
    }
}

fn plain() -> Device {
    Device { nickname: "old".to_owned(), ..device("UNLOCKED", None) }
}

async fn unblock(server: &Fake, more: &[&str]) -> std::io::Result<Ended> {
    against(&server.url, &[&["unblock", ENVIRONMENT, USER], more].concat()).await
}

#[tokio::test]
async fn a_users_devices_are_listed_with_what_bars_them() -> Tested {
    let server = Fake::start().await?;
    server.devices(vec![blocked(), locked(), plain()]);
    let ended = against(&server.url, &["device", "list", ENVIRONMENT, USER]).await?;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for word in [DEVICE, OTHER, "SMS", "old", "+1413", "2026-01-02", "2096-10-02"] {
        assert!(ended.stdout.contains(word), "{word}\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains('\u{1b}'), "what PingOne's users write may not steer");
    assert!(ended.stdout.lines().all(|line| line.chars().count() <= 80), "{}", ended.stdout);
    let sent = asked(&server.script.device_lists);
    assert_eq!(
        sent,
        [ListUserDevicesRequest { environment_id: ENVIRONMENT.to_owned(), user_id: USER.to_owned() }]
    );

    server.devices(vec![blocked(), locked()]);
    let ended = against(&server.url, &["--output", "json", "device", "list", ENVIRONMENT, USER]).await?;
    let lines = ended.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let ids: Vec<_> = lines.iter().map(|line| line["ref"]["deviceId"].as_str()).collect();
    assert_eq!(ids, [Some(DEVICE), Some(OTHER)]);
    assert_eq!(lines[0]["blockTime"], "2026-01-02T03:04:05Z");

    server.devices(Vec::new());
    let ended = against(&server.url, &["device", "list", ENVIRONMENT, USER]).await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""));
    assert!(ended.stderr.contains("no device"), "{}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn without_a_terminal_the_choice_is_printed_and_device_asked_for() -> Tested {
    let server = Fake::start().await?;
    server.devices(vec![plain(), blocked(), locked()]);
    let ended = unblock(&server, &[]).await?;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("give DEVICE"), "{}", ended.stderr);
    assert!(ended.stderr.contains("a lock ends by itself"), "{}", ended.stderr);
    assert!(ended.stdout.contains(DEVICE) && ended.stdout.contains(OTHER), "{}", ended.stdout);
    assert!(!ended.stdout.contains("old"), "what bars nobody is no choice: {}", ended.stdout);

    server.devices(vec![blocked(), plain()]);
    let ended = unblock(&server, &["--output", "json"]).await?;
    assert_eq!(ended.code, Some(2), "one is asked for as well: {}", ended.stderr);
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout)?["ref"]["deviceId"], DEVICE);
    assert!(!ended.stderr.contains("lock"), "{}", ended.stderr);
    assert!(asked(&server.script.unblocks).is_empty());
    Ok(())
}

#[tokio::test]
async fn where_nothing_is_blocked_there_is_nothing_to_choose() -> Tested {
    let server = Fake::start().await?;
    for (devices, said, shown) in [
        (vec![], "the user has no device", false),
        (vec![plain()], "one device is not blocked", false),
        (vec![plain(), locked()], "none of the user's 2 devices is blocked", true),
    ] {
        server.devices(devices);
        let ended = unblock(&server, &[]).await?;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert_eq!(ended.stdout.contains(OTHER), shown, "{}", ended.stdout);
        assert_eq!(ended.stderr.contains("a lock ends by itself"), shown, "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn a_list_that_is_refused_says_why_and_what_to_do() -> Tested {
    let server = Fake::start().await?;
    let details = ErrorDetails::with_error_info("UPSTREAM_NOT_FOUND", "pingone-unblock", []);
    let sentence = "the user's devices could not be listed: PingOne knows no such user";
    server.devices_refused(Status::with_error_details(Code::NotFound, sentence, details));
    let ended = unblock(&server, &[]).await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    for word in [sentence, "UPSTREAM_NOT_FOUND", "check the ids"] {
        assert!(ended.stderr.contains(word), "{word}\n{}", ended.stderr);
    }
    let ended = unblock(&server, &["--request-id", "mine"]).await?;
    assert_eq!(ended.code, Some(2), "a request id stands for one device: {}", ended.stderr);
    assert_eq!(asked(&server.script.device_lists).len(), 1);
    Ok(())
}

/// The devices that were asked to be unblocked.
fn unblocked(server: &Fake) -> Vec<String> {
    let requests = asked(&server.script.unblocks).into_iter();
    requests.filter_map(|(_, request)| Some(request.device_ref?.device_id)).collect()
}

#[tokio::test]
async fn at_a_terminal_one_is_chosen_by_its_number() -> Tested {
    let server = Fake::start().await?;
    let second = Device { block_status: "BLOCKED".to_owned(), ..locked() };
    server.devices(vec![locked(), blocked(), plain(), second]);
    server.unblock(Ok(succeeded(1)));
    let (ended, told) =
        at_a_terminal(&server, &["unblock", ENVIRONMENT, USER], &["3\n", "y\n", "2\n"]).await?;
    assert_eq!(ended.code, Some(0), "{told}");
    assert_eq!(unblocked(&server), [OTHER]);
    let numbers: Vec<_> = told.lines().filter_map(|line| line.split_whitespace().next()).take(4).collect();
    assert_eq!(numbers, ["#", "-", "1", "2"], "what is only locked has no number: {told}");
    assert!(told.contains("a lock ends by itself") && told.contains("give 1 to 2, or `all`"), "{told}");
    assert!(ended.stdout.contains("UNBLOCKED") && !ended.stdout.contains("NICKNAME"), "{}", ended.stdout);
    Ok(())
}

#[tokio::test]
async fn at_a_terminal_all_can_be_chosen_or_none() -> Tested {
    let server = Fake::start().await?;
    let both = || vec![blocked(), Device { block_status: "BLOCKED".to_owned(), ..locked() }];
    server.devices(both());
    server.unblock(Err(Status::internal("not that one")));
    server.unblock(Ok(succeeded(1)));
    let (ended, told) = at_a_terminal(&server, &["unblock", ENVIRONMENT, USER], &["all\n"]).await?;
    assert_eq!(unblocked(&server), [DEVICE, OTHER], "one that is refused does not keep the others: {told}");
    assert_eq!(ended.code, Some(1), "{told}");

    server.devices(vec![blocked()]);
    let (ended, told) = at_a_terminal(&server, &["unblock", ENVIRONMENT, USER], &["\n"]).await?;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "also the only one is asked for: {told}");
    assert!(told.contains("nothing was unblocked"), "{told}");
    assert_eq!(unblocked(&server).len(), 2);
    Ok(())
}
