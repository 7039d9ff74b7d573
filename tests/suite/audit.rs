//! What is done is in the audit trail, and what cannot be written there is not done.

use pingone_unblock::{
    device::{DeviceRef, EnvironmentId},
    proto::v1::{
        self, UnblockRequest, audit_event::Action, audit_service_client::AuditServiceClient, job::State,
    },
    simulator::Fault,
};
use sqlx::{AssertSqlSafe, PgPool};
use tonic::Code;

use crate::{
    harness::{
        Result,
        service::{ENVIRONMENT, World, eventually, request, request_without_wait, some_device, wire},
    },
    unblock::reason,
};

/// All of the trail that is about a job, the oldest first.
async fn about(world: &World, job: &str) -> Result<Vec<v1::AuditEvent>> {
    let mut client = AuditServiceClient::connect(format!("http://{}", world.service.address)).await?;
    let asked =
        v1::ListAuditEventsRequest { job_id: job.to_owned(), ..v1::ListAuditEventsRequest::default() };
    Ok(client.list_audit_events(asked).await?.into_inner().events)
}

/// Once there are so many.
async fn all_about(world: &World, job: &str, count: usize) -> Result<Vec<v1::AuditEvent>> {
    eventually("the trail has it", async || Ok(about(world, job).await?.len() >= count)).await?;
    let events = about(world, job).await?;
    assert_eq!(events.len(), count, "{events:#?}");
    Ok(events)
}

fn posts(world: &World, device: &DeviceRef) -> usize {
    world.pingone.simulator.requests_for(device.device).iter().filter(|request| request.is_post()).count()
}

async fn count(pool: &PgPool, table: &str) -> Result<i64> {
    let text = format!("select count(*) from {table} where lane >= 0");
    Ok(sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(pool).await?)
}

#[tokio::test]
async fn who_had_it_done_to_whom_and_why_and_how_it_ended() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    let asked = UnblockRequest {
        reason: "lost her phone".to_owned(),
        ticket: "INC-7".to_owned(),
        on_behalf_of: "jane".to_owned(),
        ..request(wire(&device))
    };
    let job = world.service.unblock(asked).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded);
    let events = all_about(&world, &job.job_id, 2).await?;
    let (requested, finished) = (&events[0], &events[1]);
    assert_eq!(requested.action(), Action::Requested);
    assert_eq!(requested.event_id, job.job_id, "a request has the id of its job");
    assert_eq!(
        [&requested.caller, &requested.reason, &requested.ticket, &requested.on_behalf_of],
        ["anonymous", "lost her phone", "INC-7", "jane"]
    );
    assert_eq!(
        [&requested.environment_id, &requested.user_id, &requested.device_id],
        [ENVIRONMENT, &device.user.to_string(), &device.device.to_string()]
    );
    assert!(!requested.policy.is_empty());
    assert_eq!((finished.action(), finished.outcome()), (Action::Finished, State::Succeeded));
    assert_eq!((finished.run, finished.attempts, finished.http_status), (1, 1, 200));
    assert!(!finished.correlation_id.is_empty(), "PingOne's name for the request");
    Ok(())
}

#[tokio::test]
async fn a_cancel_and_a_redrive_are_told_with_their_reasons() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    world.pingone.simulator.fault(device.device, [Fault::status(404)]);
    let job = world.service.unblock(request(wire(&device))).await?.job.ok_or("no job")?;
    assert_eq!(job.state(), State::Failed);
    let again = v1::RetryJobRequest {
        job_id: job.job_id.clone(),
        reason: "it is there now".to_owned(),
        ..v1::RetryJobRequest::default()
    };
    world.service.jobs.clone().retry_job(again).await?;
    world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    let events = all_about(&world, &job.job_id, 4).await?;
    let mut told: Vec<_> =
        events.iter().map(|event| (event.run, event.action(), event.reason.as_str())).collect();
    told.sort_by_key(|(_, action, _)| *action as i32);
    let actions: Vec<Action> = told.iter().map(|(_, action, _)| *action).collect();
    assert_eq!(actions, [Action::Requested, Action::Redriven, Action::Finished, Action::Finished]);
    assert_eq!(told[1].2, "it is there now");
    let failed = events.iter().find(|event| event.outcome() == State::Failed).ok_or("no failed run")?;
    assert!(!failed.error_reason.is_empty());
    Ok(())
}

/// Each way in which the trail may not take an entry.
#[tokio::test]
async fn what_the_trail_cannot_take_is_not_done() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    for (broken, mended) in [
        (
            "alter table audit add constraint broken check (false) not valid",
            "alter table audit drop constraint broken",
        ),
        ("alter table audit rename to audit_away", "alter table audit_away rename to audit"),
        (
            "alter table audit rename column personal to was",
            "alter table audit rename column was to personal",
        ),
    ] {
        let before = (count(&pool, "job").await?, count(&pool, "ready").await?);
        sqlx::query(AssertSqlSafe(broken)).execute(&pool).await?;
        let device = some_device()?;
        let refused = world.service.unblock(request(wire(&device))).await.expect_err(broken);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unavailable, "STORE_UNAVAILABLE"),
            "{broken}"
        );
        assert_eq!((count(&pool, "job").await?, count(&pool, "ready").await?), before, "{broken}");
        let mut environments = world.service.environments.clone();
        let paused = environments.pause_environment(v1::PauseEnvironmentRequest {
            environment_id: ENVIRONMENT.to_owned(),
            reason: "an incident".to_owned(),
        });
        assert_eq!(paused.await.expect_err(broken).code(), Code::Unavailable, "{broken}");
        let paused: Option<bool> =
            sqlx::query_scalar("select paused_at is not null from environment where environment_id = $1")
                .bind(EnvironmentId::parse(ENVIRONMENT)?.as_uuid())
                .fetch_optional(&pool)
                .await?;
        assert_ne!(paused, Some(true), "{broken}");
        assert_eq!(posts(&world, &device), 0, "{broken}");
        sqlx::query(AssertSqlSafe(mended)).execute(&pool).await?;
        let done = world.service.unblock(request(wire(&device))).await?.job.ok_or("no job")?;
        assert_eq!(done.state(), State::Succeeded, "{mended}");
    }
    Ok(())
}

#[tokio::test]
async fn what_happened_meanwhile_is_recorded_once_the_trail_takes_it() -> Result<()> {
    let world = World::start().await?;
    let pool = world.database.pool().await?;
    let device = some_device()?;
    world.pingone.simulator.fault(device.device, [Fault::Hold { then: Box::new(Fault::Normal) }]);
    let asked = request_without_wait(wire(&device));
    let job = world.service.unblock(asked).await?.job.ok_or("no job")?;
    // What a sequence counts is not taken back with the statement.
    sqlx::raw_sql(
        "create sequence refused;
         create function refuse() returns trigger language plpgsql as $$
         begin
             perform nextval('refused');
             raise exception 'not now' using table = 'audit';
         end $$;
         create trigger refuse before insert on audit for each row when (new.action = 6) execute function refuse()",
    )
    .execute(&pool)
    .await?;
    eventually("PingOne was asked", async || Ok(posts(&world, &device) == 1)).await?;
    world.pingone.simulator.release_device(device.device);
    eventually("its end was refused", async || {
        Ok(sqlx::query_scalar("select is_called from refused").fetch_one(&pool).await?)
    })
    .await?;
    assert_ne!(world.service.job(&job.job_id).await?.state(), State::Succeeded);
    sqlx::query("drop trigger refuse on audit").execute(&pool).await?;
    world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    let events = all_about(&world, &job.job_id, 2).await?;
    assert_eq!(events[1].action(), Action::Finished);
    Ok(())
}
