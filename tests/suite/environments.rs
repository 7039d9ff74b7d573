//! What an operator sees of the environments, and pauses.

use std::time::Duration;

use pingone_unblock::{
    device::EnvironmentId,
    environment::Status,
    proto::v1::{self, environment::State},
    simulator,
    store::{Access, Role, Store},
};
use time::OffsetDateTime;
use tonic::Code;
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        database::Database,
        service::{ENVIRONMENT, Service, Variant, World, example_device, request},
    },
    unblock::reason,
};

async fn list(service: &Service) -> Result<v1::ListEnvironmentsResponse> {
    let asked = v1::ListEnvironmentsRequest::default();
    Ok(service.environments.clone().list_environments(asked).await?.into_inner())
}

/// Pauses one, or everything.
async fn pause(service: &Service, id: &str, reason: &str) -> Result<v1::Environment, tonic::Status> {
    let asked = v1::PauseEnvironmentRequest { environment_id: id.to_owned(), reason: reason.to_owned() };
    let reply = service.environments.clone().pause_environment(asked).await?.into_inner();
    Ok(reply.environment.unwrap_or_default())
}

/// Resumes one, or everything.
async fn resume(service: &Service, id: &str) -> Result<v1::Environment, tonic::Status> {
    let asked =
        v1::ResumeEnvironmentRequest { environment_id: id.to_owned(), reason: "it is over".to_owned() };
    let reply = service.environments.clone().resume_environment(asked).await?.into_inner();
    Ok(reply.environment.unwrap_or_default())
}

fn store(database: &Database) -> Result<Store> {
    let url = database.url().to_owned();
    let access = Access { url: url.clone().into(), direct_url: url.into(), pooled: false, connections: 4 };
    Ok(Store::new(&access)?)
}

/// Nobody but the test says how an environment stands.
async fn without_a_worker() -> Result<World> {
    World::with(Variant { role: Role::Api, ..Variant::default() }, simulator::Settings::default()).await
}

fn status(environment: EnvironmentId) -> Status {
    Status {
        environment,
        rate_limit: 20.0,
        effective_rate: 14.0,
        current_rate: 13.5,
        in_flight: 3,
        max_in_flight: 32,
        limit_group: None,
        pending_interactive: 2,
        pending_bulk: 1000,
        oldest_due_at: Some(OffsetDateTime::now_utc() - Duration::from_secs(90)),
    }
}

#[tokio::test]
async fn an_environment_is_listed_from_its_first_job_on() -> Result<()> {
    let world = World::start().await?;
    assert_eq!(list(&world.service).await?, v1::ListEnvironmentsResponse::default());
    world.service.unblock(request(example_device())).await?;
    let listed = list(&world.service).await?;
    let ids: Vec<_> = listed.environments.iter().map(|e| e.environment_id.as_str()).collect();
    assert_eq!(ids, [ENVIRONMENT]);
    let environment = &listed.environments[0];
    assert_eq!((environment.state(), environment.state_reason.as_str()), (State::Sending, ""));
    assert!(Uuid::try_parse(&environment.owner).is_ok(), "the live owner of its lane");
    Ok(())
}

#[tokio::test]
async fn a_pause_is_told_with_who_and_why_until_it_is_taken_back() -> Result<()> {
    let world = World::start().await?;
    for _ in 0..2 {
        let paused = pause(&world.service, ENVIRONMENT, "a change of roles").await?;
        assert_eq!((paused.state(), paused.environment_id.as_str()), (State::Paused, ENVIRONMENT));
        assert!(paused.state_reason.starts_with("paused by anonymous since "), "{}", paused.state_reason);
        assert!(paused.state_reason.ends_with(": a change of roles"), "{}", paused.state_reason);
        assert_eq!(paused.resume_time, None);
    }
    let listed = list(&world.service).await?;
    assert_eq!((listed.environments[0].state(), listed.all_paused), (State::Paused, false));
    for _ in 0..2 {
        let resumed = resume(&world.service, ENVIRONMENT).await?;
        assert_eq!((resumed.state(), resumed.state_reason.as_str()), (State::Sending, ""));
    }
    let nobody_knows = Uuid::new_v4().to_string();
    assert_eq!(resume(&world.service, &nobody_knows).await?.state(), State::Sending);
    Ok(())
}

#[tokio::test]
async fn a_second_pause_keeps_the_first_ones_time_unless_its_reason_differs() -> Result<()> {
    let database = Database::create().await?;
    let (store, id) = (store(&database)?, EnvironmentId::parse(ENVIRONMENT)?);
    let in_force = async || -> Result<_> {
        let pauses = store.find_pauses(&[id.lane()]).await?;
        Ok((pauses.environments.first().map(|(_, pause)| pause.clone()), pauses.everything))
    };
    store.pause_environment(id, "first", "one").await?;
    store.pause_everything("first", "one").await?;
    let before = in_force().await?;
    assert!(before.0.is_some() && before.1.is_some());
    store.pause_environment(id, "second", "one").await?;
    store.pause_everything("second", "one").await?;
    assert_eq!(in_force().await?, before);
    store.pause_environment(id, "second", "two").await?;
    store.pause_everything("second", "two").await?;
    let (own, all) = in_force().await?;
    for (pause, before) in [(own, before.0), (all, before.1)] {
        let (pause, before) = (pause.ok_or("no pause")?, before.ok_or("no pause")?);
        assert_eq!((pause.by.as_str(), pause.reason.as_str()), ("second", "two"));
        assert!(pause.at > before.at);
    }
    store.resume_everything().await?;
    assert!(store.find_pauses(&[id.lane()]).await?.of(id).is_some(), "each pause ends by itself");
    store.resume_environment(id).await?;
    assert_eq!(in_force().await?, (None, None));
    Ok(())
}

#[tokio::test]
async fn the_emergency_stop_holds_everything_whatever_is_served() -> Result<()> {
    let only = EnvironmentId::parse(ENVIRONMENT)?;
    let world =
        World::with(Variant { only: Some(only), ..Variant::default() }, simulator::Settings::default())
            .await?;
    let elsewhere = Uuid::new_v4().to_string();
    for refused in
        [pause(&world.service, &elsewhere, "").await.err(), resume(&world.service, &elsewhere).await.err()]
    {
        let refused = refused.ok_or("that environment is not served")?;
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, "ENVIRONMENT_NOT_SERVED")
        );
    }
    store(&world.database)?.register_environments(&[only]).await?;
    let all = pause(&world.service, "", "breach").await?;
    assert_eq!((all.state(), all.environment_id.as_str()), (State::Paused, ""));
    let listed = list(&world.service).await?;
    assert!(listed.all_paused);
    assert!(
        listed.all_paused_reason.starts_with("everything is paused by anonymous since ")
            && listed.all_paused_reason.ends_with(": breach"),
        "{}",
        listed.all_paused_reason
    );
    let environment = &listed.environments[0];
    assert_eq!(environment.state(), State::Paused);
    assert_eq!(environment.state_reason, listed.all_paused_reason);
    assert_eq!(resume(&world.service, ENVIRONMENT).await?.state(), State::Paused, "that resumes one only");
    let all = resume(&world.service, "").await?;
    assert_eq!((all.state(), all.state_reason.as_str()), (State::Sending, ""));
    assert!(!list(&world.service).await?.all_paused);
    Ok(())
}

#[tokio::test]
async fn wrong_fields_are_named() -> Result<()> {
    let world = World::start().await?;
    let wrong = v1::PauseEnvironmentRequest { environment_id: "prod".to_owned(), reason: "r".repeat(501) };
    let refused = world.service.environments.clone().pause_environment(wrong).await.err().ok_or("taken")?;
    assert_eq!(reason(&refused), "FIELD_INVALID");
    assert!(refused.message().contains("environment_id, reason"), "{refused:?}");
    for (size, token, expected) in [(1001, "", "FIELD_INVALID"), (0, "abc", "PAGE_TOKEN_INVALID")] {
        let asked = v1::ListEnvironmentsRequest { page_size: size, page_token: token.to_owned() };
        let refused =
            world.service.environments.clone().list_environments(asked).await.err().ok_or("taken")?;
        assert_eq!(reason(&refused), expected);
    }
    Ok(())
}

#[tokio::test]
async fn pages_hold_every_environment_once() -> Result<()> {
    let world = World::start().await?;
    let ids: Vec<EnvironmentId> = (0..25).map(|_| EnvironmentId::from(Uuid::new_v4())).collect();
    store(&world.database)?.register_environments(&ids).await?;
    let mut seen = Vec::new();
    let mut token = String::new();
    for page in 1.. {
        let asked = v1::ListEnvironmentsRequest { page_size: 5, page_token: token };
        let reply = world.service.environments.clone().list_environments(asked).await?.into_inner();
        assert_eq!(reply.environments.len(), 5);
        seen.extend(reply.environments.into_iter().map(|environment| environment.environment_id));
        token = reply.next_page_token;
        if token.is_empty() {
            assert_eq!(page, 5);
            break;
        }
    }
    let mut expected = ids.clone();
    expected.sort_by_key(|id| (id.lane(), *id));
    assert_eq!(seen, expected.iter().map(ToString::to_string).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn published_figures_are_shown_and_those_of_the_moment_only_while_fresh() -> Result<()> {
    let world = without_a_worker().await?;
    let store = store(&world.database)?;
    let (limited, unlimited) = (EnvironmentId::parse(ENVIRONMENT)?, EnvironmentId::from(Uuid::new_v4()));
    store.register_environments(&[limited, unlimited]).await?;
    let free = Status {
        rate_limit: f64::INFINITY,
        effective_rate: f64::INFINITY,
        limit_group: Some("licence".to_owned()),
        oldest_due_at: None,
        ..status(unlimited)
    };
    for _ in 0..2 {
        store.publish_status(Uuid::new_v4(), &[status(limited), free.clone()]).await?;
    }
    let find = async |id: EnvironmentId| -> Result<v1::Environment> {
        let listed = list(&world.service).await?.environments.into_iter();
        Ok(listed.into_iter().find(|e| e.environment_id == id.to_string()).ok_or("not listed")?)
    };
    let shown = find(limited).await?;
    assert_eq!((shown.rate_limit, shown.effective_rate_limit, shown.current_rate), (20.0, 14.0, 13.5));
    assert_eq!((shown.in_flight, shown.max_in_flight), (3, 32));
    assert_eq!((shown.pending_interactive, shown.pending_bulk), (2, 1000));
    let age = shown.oldest_pending_age.ok_or("no age")?.seconds;
    assert!((89..=100).contains(&age), "{age}");
    let shown = find(unlimited).await?;
    assert_eq!((shown.rate_limit, shown.effective_rate_limit, shown.current_rate), (0.0, 0.0, 13.5));
    assert_eq!((shown.limit_group.as_str(), shown.oldest_pending_age), ("licence", None));

    let pool = world.database.pool().await?;
    sqlx::query("update environment_status set published_at = now() - interval '11 s'")
        .execute(&pool)
        .await?;
    let old = find(limited).await?;
    assert_eq!((old.current_rate, old.in_flight, old.rate_limit, old.pending_bulk), (0.0, 0, 20.0, 1000));
    assert!(
        old.publish_time.ok_or("no publish time")?.seconds < OffsetDateTime::now_utc().unix_timestamp() - 9
    );
    Ok(())
}

#[tokio::test]
async fn what_is_recorded_of_an_environment_decides_its_state() -> Result<()> {
    let world = without_a_worker().await?;
    let store = store(&world.database)?;
    let id = EnvironmentId::parse(ENVIRONMENT)?;
    store.register_environments(&[id]).await?;
    let grouped = Status { limit_group: Some("licence".to_owned()), ..status(id) };
    store.publish_status(Uuid::new_v4(), &[grouped]).await?;
    let pool = world.database.pool().await?;
    let steps = [
        (
            "update environment set breaker_since = now(), breaker_error = '503', breaker_retry_at = now() + interval '5 s'",
            State::Unreachable,
            "PingOne fails since",
        ),
        (
            "insert into limit_group (name, hold_until) values ('licence', now() + interval '1 h')",
            State::Throttled,
            "PingOne asked the limit group licence to wait until",
        ),
        (
            "update environment set hold_until = now() + interval '2 h'",
            State::Throttled,
            "PingOne asked to wait until",
        ),
        (
            "update environment set credential_error = 'invalid_client', credential_retry_at = now() + interval '1 m'",
            State::CredentialRefused,
            "PingOne refuses the credential: invalid_client",
        ),
    ];
    for (change, state, sentence) in steps {
        sqlx::query(change).execute(&pool).await?;
        let shown = list(&world.service).await?.environments.remove(0);
        assert_eq!(shown.state(), state);
        assert!(shown.state_reason.starts_with(sentence), "{}", shown.state_reason);
        assert!(shown.resume_time.is_some());
    }
    Ok(())
}

/// Whatever the backlog: it answers although nobody may read a job.
#[tokio::test]
async fn the_list_never_reads_the_queue() -> Result<()> {
    let world = World::start().await?;
    world.service.unblock(request(example_device())).await?;
    let pool = world.database.pool().await?;
    let mut held = pool.begin().await?;
    sqlx::query("lock table ready, job, outcome, attempt in access exclusive mode")
        .execute(&mut *held)
        .await?;
    let listed = tokio::time::timeout(Duration::from_secs(1), list(&world.service)).await??;
    assert_eq!(listed.environments.len(), 1);
    Ok(())
}
