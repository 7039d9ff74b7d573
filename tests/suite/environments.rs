//! What an operator sees of the environments.

use std::time::Duration;

use pingone_unblock::{
    device::EnvironmentId,
    environment::Status,
    proto::v1::{self, environment::State},
    simulator,
    store::Role,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        service::{ENVIRONMENT, Service, Variant, World, example_device, request},
    },
    unblock::reason,
};

pub(crate) async fn list(service: &Service) -> Result<v1::ListEnvironmentsResponse> {
    let asked = v1::ListEnvironmentsRequest::default();
    Ok(service.environments.clone().list_environments(asked).await?.into_inner())
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
    world.database.store()?.register_environments(&ids).await?;
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
    let store = world.database.store()?;
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
    let store = world.database.store()?;
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
