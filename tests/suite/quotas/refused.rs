//! What a caller is told at a bound: over gRPC, by name, with when there is room again.

use pingone_unblock::{
    api::{Admission, Denials},
    auth::{Authenticator, Policy, Tokens},
    proto::v1::{
        self, batch_service_client::BatchServiceClient, device_service_client::DeviceServiceClient,
        job::State, job_service_client::JobServiceClient,
    },
    reload::Current,
    simulator,
};
use tokio::{sync::Barrier, task::JoinSet};
use tonic::{
    Code, Request, Status,
    service::interceptor::{InterceptedService, Interceptor},
    transport::Channel,
};
use tonic_types::StatusExt as _;

use crate::{
    harness::{
        Result,
        issuer::Issuer,
        service::{
            ENVIRONMENT, Service, Variant, World, eventually, request, request_without_wait, some_device,
            wire,
        },
    },
    unblock::reason,
};

/// Shows a token with every call.
#[derive(Clone)]
struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        let token = self.0.parse().map_err(|_| Status::internal("no token"))?;
        request.metadata_mut().insert("authorization", token);
        Ok(request)
    }
}

type Bound<C> = InterceptedService<C, Bearer>;

/// One caller at one replica.
#[derive(Clone)]
struct Desk {
    devices: DeviceServiceClient<Bound<Channel>>,
    jobs: JobServiceClient<Bound<Channel>>,
    batches: BatchServiceClient<Bound<Channel>>,
}

impl Desk {
    async fn at(service: &Service, issuer: &Issuer, name: &str) -> Result<Self> {
        let channel = Channel::from_shared(format!("http://{}", service.address))?.connect().await?;
        let bearer = Bearer(format!("Bearer {}", issuer.token(name)));
        Ok(Self {
            devices: DeviceServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            jobs: JobServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            batches: BatchServiceClient::with_interceptor(channel, bearer),
        })
    }

    async fn unblock(&self, request: v1::UnblockRequest) -> std::result::Result<v1::Job, Status> {
        let answer = self.devices.clone().unblock(request).await?.into_inner();
        answer.job.ok_or_else(|| Status::internal("no job"))
    }
}

/// A caller `desk` that may do everything within `bounds`, which are those of the policy.
async fn bounded(bounds: &str) -> Result<(World, Issuer, Variant)> {
    let issuer = Issuer::start().await?;
    let policy = format!(
        "[bounds]\n{bounds}\n\
         [[caller]]\nname = \"{}|desk\"\n\
         allow = [{{ scopes = ['unblock', 'bulk', 'read'], environments = 'all' }}]",
        issuer.url
    );
    let policy = Policy::parse(policy.as_bytes()).map_err(|mistakes| mistakes.to_string())?;
    let admission = Admission {
        authenticator: Authenticator::new(Some(Tokens::new(vec![issuer.trusted()])?), false),
        policy: Current::fixed(policy),
        denials: Denials::default(),
    };
    let variant = Variant { admission, ..Variant::default() };
    let world = World::with(variant.clone(), simulator::Settings::default()).await?;
    Ok((world, issuer, variant))
}

fn refused<T: std::fmt::Debug>(answer: std::result::Result<T, Status>, with: &str) -> Status {
    let status = answer.expect_err("it was answered");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, with), "{status:?}");
    status
}

fn says_when(status: &Status) -> bool {
    status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some())
}

#[tokio::test]
async fn a_device_is_unblocked_three_times_in_a_day_unless_the_policy_says_otherwise() -> Result<()> {
    let (world, issuer, _) = bounded("").await?;
    let desk = Desk::at(&world.service, &issuer, "desk").await?;
    let device = wire(&some_device()?);
    let mut last = v1::Job::default();
    for _ in 0..3 {
        last = desk.unblock(request(device.clone())).await?;
    }
    let status = refused(desk.unblock(request(device.clone())).await, "DEVICE_QUOTA_EXCEEDED");
    assert!(status.message().contains("3 times in 86400 s"), "{status:?}");
    assert!(!says_when(&status), "nobody should wait for that");
    let look = v1::UnblockRequest { validate_only: true, ..request(device.clone()) };
    refused(desk.devices.clone().unblock(look).await, "DEVICE_QUOTA_EXCEEDED");

    let row = v1::AppendBatchTargetsRequest {
        header: Some(header("rows")),
        targets: Some(v1::BatchTargets {
            offset: 0,
            targets: vec![target(&device), target(&wire(&some_device()?))],
        }),
        seal: None,
    };
    let appended = desk.devices.clone().append_batch_targets(row).await?.into_inner();
    let rejected: Vec<_> = appended.rejections.iter().map(|row| (row.offset, row.reason.as_str())).collect();
    assert_eq!(rejected, [(0, "DEVICE_QUOTA_EXCEEDED")]);

    desk.unblock(request(wire(&some_device()?))).await?;
    assert_eq!(last.state(), State::Succeeded);
    let sent = world.simulator().posts();
    assert_eq!(sent.iter().filter(|sent| sent.path.contains(&device.device_id)).count(), 3);
    Ok(())
}

fn header(batch_id: &str) -> v1::BatchHeader {
    v1::BatchHeader {
        batch_id: batch_id.to_owned(),
        environment_id: ENVIRONMENT.to_owned(),
        ..v1::BatchHeader::default()
    }
}

fn target(device: &v1::DeviceRef) -> v1::BatchTarget {
    v1::BatchTarget {
        user_id: device.user_id.clone(),
        device_id: device.device_id.clone(),
        ..v1::BatchTarget::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_over_two_replicas_get_as_many_unblocks_as_there_are_left() -> Result<()> {
    const MOST: usize = 77;
    let (world, issuer, variant) = bounded(&format!("unblocks_per_hour = {MOST}")).await?;
    let other = Service::start(world.database.url(), &world.pingone, variant).await?;
    let desks = [Desk::at(&world.service, &issuer, "desk").await?, Desk::at(&other, &issuer, "desk").await?];
    let together = std::sync::Arc::new(Barrier::new(200));
    let mut calls = JoinSet::new();
    for desk in desks.iter().cycle().take(200) {
        let (desk, together, device) = (desk.clone(), together.clone(), wire(&some_device()?));
        calls.spawn(async move {
            together.wait().await;
            desk.unblock(request_without_wait(device)).await
        });
    }
    let (recorded, over): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(recorded.len(), MOST);
    for answer in over {
        assert!(!says_when(&refused(answer, "CALLER_QUOTA_EXCEEDED")));
    }
    let pool = world.database.pool().await?;
    let denied = "select coalesce(sum(count), 0)::bigint from audit \
                  where action = 16 and reason = 'CALLER_QUOTA_EXCEEDED' and caller like '%|desk' and policy is not null";
    eventually("each refusal is in the trail", async || {
        let count: i64 = sqlx::query_scalar(denied).fetch_one(&pool).await?;
        Ok(count == 200 - i64::try_from(MOST)?)
    })
    .await
}

#[tokio::test]
async fn a_repeat_is_answered_and_new_attempts_are_refused_when_there_is_no_room_left() -> Result<()> {
    let (world, issuer, _) = bounded("unblocks_per_day = 1").await?;
    let desk = Desk::at(&world.service, &issuer, "desk").await?;
    let failing = some_device()?;
    let pool = world.database.pool().await?;
    let asked = v1::UnblockRequest { request_id: "once".to_owned(), ..request(wire(&failing)) };
    let job = desk.unblock(asked.clone()).await?;
    assert_eq!(desk.unblock(asked).await?.job_id, job.job_id);
    sqlx::query("update outcome set state = 4, device = null, device_at = null").execute(&pool).await?;
    let retry = v1::RetryJobRequest { job_id: job.job_id.clone(), ..v1::RetryJobRequest::default() };
    let status = refused(desk.jobs.clone().retry_job(retry).await, "CALLER_QUOTA_EXCEEDED");
    assert!(status.message().contains("in a day"), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn a_batch_has_as_many_rows_as_its_caller_may_upload() -> Result<()> {
    let (world, issuer, _) = bounded("batch_rows = 2").await?;
    let desk = Desk::at(&world.service, &issuer, "desk").await?;
    let append = async |offset, rows: usize| {
        let targets = (0..rows).map(|_| Ok(target(&wire(&some_device()?)))).collect::<Result<_>>()?;
        let request = v1::AppendBatchTargetsRequest {
            header: Some(header("rows")),
            targets: Some(v1::BatchTargets { offset, targets }),
            seal: None,
        };
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
            desk.devices.clone().append_batch_targets(request).await,
        )
    };
    append(0, 2).await??;
    let status = refused(append(2, 1).await?, "CALLER_QUOTA_EXCEEDED");
    assert!(status.message().contains("2 rows"), "{status:?}");
    Ok(())
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again_before_the_message_is_read() -> Result<()> {
    let (world, issuer, _) = bounded("calls_per_second = 1").await?;
    let desk = Desk::at(&world.service, &issuer, "desk").await?;
    let nonsense = || v1::GetJobRequest { job_id: "no id".to_owned() };
    eventually("a replica that has just started has a call to give", async || {
        let answer = desk.jobs.clone().get_job(nonsense()).await;
        Ok(answer.is_err_and(|status| status.code() == Code::InvalidArgument))
    })
    .await?;
    let mut early = 0;
    // However slow this machine is, a second has room for one call: of so many at once most come too early.
    let calls = (0..20).map(|_| {
        let mut jobs = desk.jobs.clone();
        async move { jobs.get_job(nonsense()).await }
    });
    for answer in futures_util::future::join_all(calls).await {
        let status = answer.expect_err("there is no such job");
        if status.code() == Code::ResourceExhausted {
            assert_eq!(reason(&status), "CALLER_RATE_LIMITED");
            assert!(says_when(&status), "{status:?}");
            early += 1;
        }
    }
    assert!(early > 0, "none was refused");

    // Another caller has a bound of its own, and health is for anybody.
    let stranger = Desk::at(&world.service, &issuer, "stranger").await?;
    let status = stranger.jobs.clone().get_job(nonsense()).await.expect_err("it may nothing");
    assert_eq!(status.code(), Code::PermissionDenied);
    Ok(())
}

#[tokio::test]
async fn a_caller_has_so_many_streams_open_and_one_that_ended_makes_room() -> Result<()> {
    let (world, issuer, _) = bounded("open_streams = 2").await?;
    let desk = Desk::at(&world.service, &issuer, "desk").await?;
    let mut batches = desk.batches.clone();
    desk.devices
        .clone()
        .append_batch_targets(v1::AppendBatchTargetsRequest {
            header: Some(header("open")),
            ..v1::AppendBatchTargetsRequest::default()
        })
        .await?;
    let watch =
        || v1::WatchBatchRequest { environment_id: ENVIRONMENT.to_owned(), batch_id: "open".to_owned() };
    let first = batches.watch_batch(watch()).await?;
    let _second = batches.watch_batch(watch()).await?;
    let status = refused(batches.watch_batch(watch()).await, "STREAM_LIMIT");
    assert!(says_when(&status) && status.message().contains("2 streams"), "{status:?}");
    // A call is no stream.
    desk.unblock(request_without_wait(wire(&some_device()?))).await?;
    drop(first);
    eventually("there is room again", async || Ok(desk.batches.clone().watch_batch(watch()).await.is_ok()))
        .await
}
