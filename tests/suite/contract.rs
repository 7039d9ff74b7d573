//! What every caller may rely on, whatever the call: errors that explain themselves, health, reflection, gRPC-Web.

use std::time::Duration;

use bytes::Bytes;
use pingone_unblock::proto::{
    DESCRIPTORS,
    v1::{self, job::State},
};
use prost::Message as _;
use tonic::{Code, Status, client::Grpc, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1 as reflection, v1alpha as reflection_alpha};
use tonic_types::StatusExt;

use crate::{
    harness::{
        Result,
        service::{ENVIRONMENT, Variant, World, example_device, request, some_device, wire},
    },
    unblock::reason,
};

#[tokio::test]
async fn all_wrong_fields_are_named_at_once_with_their_remedies() -> Result<()> {
    let world = World::start().await?;
    let wrong = v1::UnblockRequest {
        device_ref: Some(v1::DeviceRef {
            environment_id: "prod".to_owned(),
            user_id: String::new(),
            device_id: "6697f628-7712-4e71-b52b-920ba0635020".to_owned(),
        }),
        request_id: "x".repeat(129),
        reason: "r".repeat(501),
        ticket: "line\nend".to_owned(),
        priority: 9,
        time_to_live: Some(prost_types::Duration { seconds: 604_801, nanos: 0 }),
        wait: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        on_behalf_of: "p".repeat(201),
        ..v1::UnblockRequest::default()
    };
    let refused = world.service.unblock(wrong).await.expect_err("eight fields are wrong");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    let details = refused.get_error_details();
    let violations = &details.bad_request().ok_or("no BadRequest")?.field_violations;
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "device_ref.environment_id",
            "device_ref.user_id",
            "request_id",
            "reason",
            "ticket",
            "on_behalf_of",
            "priority",
            "time_to_live",
            "wait",
        ]
    );
    assert!(violations.iter().all(|violation| violation.description.contains("give")
        || violation.description.contains("UUID")
        || violation.description.contains("leave")));
    let jobs: i64 =
        sqlx::query_scalar("select count(*) from job").fetch_one(&world.database.pool().await?).await?;
    assert_eq!(jobs, 0);
    Ok(())
}

#[tokio::test]
async fn checking_only_records_nothing_and_says_what_is_not_served() -> Result<()> {
    let only = pingone_unblock::device::EnvironmentId::parse(ENVIRONMENT)?;
    let variant = Variant { only: Some(only), ..Variant::default() };
    let world = World::with(variant, Default::default()).await?;
    let check = v1::UnblockRequest { validate_only: true, ..request(example_device()) };
    assert_eq!(world.service.unblock(check.clone()).await?.job, None);
    let elsewhere = v1::DeviceRef { environment_id: uuid::Uuid::new_v4().to_string(), ..example_device() };
    let refused = world
        .service
        .unblock(v1::UnblockRequest { device_ref: Some(elsewhere), ..check })
        .await
        .expect_err("that environment is not served");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "ENVIRONMENT_NOT_SERVED")
    );
    let jobs: i64 =
        sqlx::query_scalar("select count(*) from job").fetch_one(&world.database.pool().await?).await?;
    assert_eq!(jobs, 0);
    Ok(())
}

#[tokio::test]
async fn what_does_not_exist_is_said_so() -> Result<()> {
    let world = World::start().await?;
    let id = uuid::Uuid::now_v7().to_string();
    let mut jobs = world.service.jobs.clone();
    let answers = [
        jobs.get_job(v1::GetJobRequest { job_id: id.clone() }).await.map(drop),
        jobs.watch_job(v1::WatchJobRequest { job_id: id.clone() }).await.map(drop),
        jobs.cancel_job(v1::CancelJobRequest { job_id: id.clone(), reason: String::new() }).await.map(drop),
        jobs.retry_job(v1::RetryJobRequest { job_id: id, ..Default::default() }).await.map(drop),
    ];
    for answer in answers {
        let refused = answer.expect_err("there is no such job");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "JOB_NOT_FOUND"));
    }
    Ok(())
}

/// Calls any method with any message.
async fn call(world: &World, method: &str, message: v1::UnblockRequest) -> Result<Status> {
    let channel = Channel::from_shared(format!("http://{}", world.service.address))?.connect().await?;
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let codec = tonic_prost::ProstCodec::<v1::UnblockRequest, v1::UnblockResponse>::default();
    let answer = client.unary(tonic::Request::new(message), method.parse()?, codec).await;
    Ok(answer.err().ok_or("it was answered")?)
}

#[tokio::test]
async fn tonics_own_refusals_explain_themselves_too() -> Result<()> {
    let world = World::start().await?;
    for unknown in ["/pingone.device.v1.DeviceService/Lock", "/pingone.device.v1.NoService/Unblock"] {
        let refused = call(&world, unknown, request(example_device())).await?;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unimplemented, "METHOD_UNKNOWN"));
    }
    let large = v1::UnblockRequest { reason: "x".repeat(5 * 1024 * 1024), ..request(example_device()) };
    let refused = call(&world, "/pingone.device.v1.DeviceService/Unblock", large).await?;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    // A message of another kind: its first field is a number where a message is expected.
    let channel = Channel::from_shared(format!("http://{}", world.service.address))?.connect().await?;
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let codec = tonic_prost::ProstCodec::<prost_types::Duration, v1::UnblockResponse>::default();
    let wrong = prost_types::Duration { seconds: 7, nanos: 7 };
    let path = "/pingone.device.v1.DeviceService/Unblock".parse()?;
    let refused = client.unary(tonic::Request::new(wrong), path, codec).await.expect_err("not this message");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    Ok(())
}

#[tokio::test]
async fn a_watch_past_its_deadline_ends_with_that_reason() -> Result<()> {
    let world = World::start().await?;
    let device = some_device()?;
    world.simulator().fault(device.device, [pingone_unblock::simulator::Fault::hold()]);
    let asked = crate::harness::service::request_without_wait(wire(&device));
    let job = world.service.unblock(asked).await?.job.ok_or("no job")?;
    // The client's own timer would end the call first: only the server may know the deadline.
    let mut watch = tonic::Request::new(v1::WatchJobRequest { job_id: job.job_id.clone() });
    watch.metadata_mut().insert("grpc-timeout", "300m".parse()?);
    let mut stream = world.service.jobs.clone().watch_job(watch).await?.into_inner();
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Err("it ended as if the job had".into()),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");
    assert_eq!(reason(&end), "DEADLINE_PASSED");
    world.simulator().release();
    world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    Ok(())
}

#[tokio::test]
async fn health_is_told_for_all_and_for_each_service() -> Result<()> {
    let world = World::start().await?;
    let channel = Channel::from_shared(format!("http://{}", world.service.address))?.connect().await?;
    let mut health = HealthClient::new(channel);
    let contract = prost_types::FileDescriptorSet::decode(DESCRIPTORS)?;
    let names = contract.file.iter().flat_map(|file| {
        let package = file.package();
        file.service.iter().map(move |service| format!("{package}.{}", service.name()))
    });
    let names: Vec<String> = names.chain([String::new()]).collect();
    assert!(names.len() > 4, "{names:?}");
    for service in names {
        crate::harness::service::eventually(&format!("{service} serves"), async || {
            let asked = HealthCheckRequest { service: service.clone() };
            Ok(health.check(asked).await?.into_inner().status() == ServingStatus::Serving)
        })
        .await?;
    }
    let ready = reqwest::get(format!("http://{}/readyz", world.service.admin)).await?;
    assert_eq!((ready.status().as_u16(), ready.text().await?.as_str()), (200, "ready\n"));
    assert_eq!(reqwest::get(format!("http://{}/livez", world.service.admin)).await?.status().as_u16(), 200);
    Ok(())
}

#[tokio::test]
async fn both_reflections_list_the_services() -> Result<()> {
    let world = World::start().await?;
    let channel = Channel::from_shared(format!("http://{}", world.service.address))?.connect().await?;

    let asked = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(reflection::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(asked)).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response).ok_or("no answer")?;
    let reflection::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        return Err(format!("not a list: {answer:?}").into());
    };
    let mut newer: Vec<String> = list.service.into_iter().map(|service| service.name).collect();

    let asked = reflection_alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(reflection_alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = reflection_alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::once(asked)).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response).ok_or("no answer")?;
    let reflection_alpha::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer
    else {
        return Err(format!("not a list: {answer:?}").into());
    };
    let mut older: Vec<String> = list.service.into_iter().map(|service| service.name).collect();

    newer.sort();
    older.sort();
    for service in [
        "grpc.health.v1.Health",
        "pingone.device.v1.DeviceService",
        "pingone.device.v1.JobService",
        "pingone.device.v1.EnvironmentService",
        "pingone.device.v1.AuditService",
    ] {
        assert!(newer.iter().any(|name| name == service), "{newer:?}");
        assert!(older.iter().any(|name| name == service), "{older:?}");
    }
    Ok(())
}

#[tokio::test]
async fn grpc_web_is_answered_on_the_same_port_over_http_1() -> Result<()> {
    let world = World::start().await?;
    let message = prost::Message::encode_to_vec(&request(example_device()));
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len())?.to_be_bytes());
    framed.extend(message);
    let answer = reqwest::Client::builder()
        .http1_only()
        .timeout(Duration::from_secs(20))
        .build()?
        .post(format!("http://{}/pingone.device.v1.DeviceService/Unblock", world.service.address))
        .header("content-type", "application/grpc-web+proto")
        .header("x-grpc-web", "1")
        .body(framed)
        .send()
        .await?;
    assert_eq!(answer.status().as_u16(), 200);
    let body: Bytes = answer.bytes().await?;
    let length = usize::try_from(u32::from_be_bytes(body[1..5].try_into()?))?;
    let reply = <v1::UnblockResponse as prost::Message>::decode(&body[5..5 + length])?;
    assert_eq!(reply.job.ok_or("no job")?.state(), State::Succeeded);
    let trailers = String::from_utf8_lossy(&body[5 + length + 5..]).into_owned();
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    Ok(())
}
