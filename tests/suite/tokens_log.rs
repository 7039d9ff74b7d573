//! Tokens are in no log: neither good ones nor bad ones, nor whom they are of, nor by which key. Told at `debug`, by the real process.

use std::fs::{self, File};

use pingone_unblock::{proto::v1, simulator};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        database::Database,
        issuer::{AUDIENCE, Issuer, Subject},
        keys::SigningKey,
        process::Process,
        service::{PingOne, example_device, request},
    },
    tokens_bad::changes,
};

/// In everything that a token says of somebody.
const CANARY: &str = "quokka";

fn subject() -> Subject {
    Subject::named(&format!("{CANARY}-service")).granted("unblock read").acting_for(&format!("{CANARY}-jane"))
}

/// A token of that issuer, whose other claims are canaries too.
fn token(issuer: &Issuer, change: impl FnOnce(&mut serde_json::Value, &mut serde_json::Value)) -> String {
    issuer.token_with(subject(), |claims, header| {
        claims["client_id"] = json!(format!("{CANARY}-client"));
        claims["jti"] = json!(format!("{CANARY}-{}", Uuid::new_v4()));
        change(claims, header);
    })
}

async fn call(process: &Process, authorization: &str) -> Result<Code> {
    let mut asked = Request::new(request(example_device()));
    asked.metadata_mut().insert("authorization", authorization.parse()?);
    Ok(process.devices()?.unblock(asked).await.err().map_or(Code::Ok, |refused| refused.code()))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_subject_or_key_id_is_logged() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("log");
    let issuer = Issuer::start_with(SigningKey::rs256(&format!("{CANARY}-key"))).await?;
    let (database, pingone) =
        (Database::create().await?, PingOne::start(simulator::Settings::default()).await?);
    let policy = folder.path().join("policy.toml");
    let said = format!(
        "[[caller]]\nname = \"{}|{CANARY}-service\"\nallow = [{{ scopes = [\"unblock\", \"audit\"], environments = \"all\" }}]\n",
        issuer.url
    );
    fs::write(&policy, said)?;
    let policy = policy.to_string_lossy();
    let settings = [
        ("UNBLOCK_LOG", "debug,pingone_unblock=trace"),
        ("UNBLOCK_POLICY_FILE", &*policy),
        ("UNBLOCK_OIDC_ISSUER", &issuer.url),
        ("UNBLOCK_OIDC_AUDIENCE", AUDIENCE),
    ];
    let process = Process::serve_writing(database.url(), &pingone, &settings, File::create(&path)?).await?;

    let good = token(&issuer, |_, _| ());
    assert_eq!(call(&process, &format!("Bearer {good}")).await?, Code::Ok);
    let mut shown = vec![good.clone()];
    shown.extend(changes().into_iter().map(|(_, change, _)| token(&issuer, change)));
    shown.push(token(&issuer, |_, header| header["kid"] = json!(format!("{CANARY}-made-up"))));
    let forger = SigningKey::es256(&format!("{CANARY}-key"));
    let header = json!({ "alg": "ES256", "kid": format!("{CANARY}-forged") });
    shown.push(forger.token(&header, &issuer.claims(subject())));
    let parts: Vec<&str> = good.split('.').collect();
    shown.push(format!("{}.{}.", parts[0], parts[1]));
    shown.push(format!("{good}=="));
    for bad in &shown[1..] {
        assert_eq!(call(&process, &format!("Bearer {bad}")).await?, Code::Unauthenticated, "{bad}");
    }
    for odd in [good.clone(), format!("Basic {good}"), format!("Bearer {good} {good}")] {
        assert_eq!(call(&process, &odd).await?, Code::Unauthenticated, "{odd}");
    }
    // And where keys cannot be had.
    issuer.go_down();
    let unknown = token(&issuer, |_, header| header["kid"] = json!(format!("{CANARY}-newer")));
    assert_ne!(call(&process, &format!("Bearer {unknown}")).await?, Code::Ok);
    shown.push(unknown);
    // Seen by the process still running: its trail holds the caller, its log does not.
    let mut read = Request::new(v1::ListAuditEventsRequest::default());
    read.metadata_mut().insert("authorization", format!("Bearer {good}").parse()?);
    let mut trail = v1::audit_service_client::AuditServiceClient::new(process.channel()?);
    let events = trail.list_audit_events(read).await?.into_inner().events;
    assert!(events.iter().any(|event| event.caller.contains(CANARY)), "{events:?}");
    process.signal(Signal::TERM)?;
    assert!(process.end().await?.success());

    let log = fs::read_to_string(path)?;
    for told in ["\"DEBUG\"", "fetched an issuer's keys", "\"unblocked\"", "drained"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    assert!(!log.contains(CANARY), "{}", log.lines().find(|line| line.contains(CANARY)).unwrap_or_default());
    for part in shown.iter().flat_map(|token| token.split('.')).filter(|part| part.len() > 20) {
        // Also cut short, as one might do to be careful.
        assert!(!log.contains(&part[..20]), "{part}");
    }
    Ok(())
}
