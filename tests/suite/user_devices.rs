//! A user's devices, for whoever knows the user and not the device: listed inside the limits, by a job like any other.

use pingone_unblock::{
    device::{DeviceId, DeviceRef, Devices, EnvironmentId, UserId},
    proto::v1::{self, job::State},
    simulator::{self, Device, Fault, On, Plan},
};
use serde_json::json;
use time::macros::datetime;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        process::command,
        service::{
            DEVICE, ENVIRONMENT, USER, Variant, World, example_device, request, request_without_wait, wire,
        },
    },
    unblock::reason,
};

pub(crate) fn asked(user: &str) -> v1::ListUserDevicesRequest {
    v1::ListUserDevicesRequest { environment_id: ENVIRONMENT.to_owned(), user_id: user.to_owned() }
}

pub(crate) async fn list(world: &World, user: &str) -> Result<Vec<v1::Device>, Status> {
    Ok(world.service.devices.clone().list_user_devices(asked(user)).await?.into_inner().devices)
}

fn device_of_example(registered: impl FnOnce(Device) -> Device, world: &World) -> Result<DeviceRef> {
    let device = DeviceRef {
        environment: EnvironmentId::parse(ENVIRONMENT)?,
        user: UserId::parse(USER)?,
        device: DeviceId::from(Uuid::new_v4()),
    };
    world.simulator().register(registered(Device::blocked(device)));
    Ok(device)
}

/// The jobs that listed, newest first.
pub(crate) async fn lookups(world: &World) -> Result<Vec<v1::Job>> {
    let request = v1::ListJobsRequest { environment_id: ENVIRONMENT.to_owned(), ..Default::default() };
    let jobs = world.service.jobs.clone().list_jobs(request).await?.into_inner().jobs;
    let lists = |job: &v1::Job| job.device_ref.as_ref().is_some_and(|named| named.device_id.is_empty());
    Ok(jobs.into_iter().filter(lists).collect())
}

#[tokio::test]
async fn blocked_locked_and_other_devices_are_listed_as_pingone_has_them() -> Result<()> {
    let world = World::start().await?;
    let lock = json!({ "status": "LOCKED", "expiresAt": "2030-01-02T03:04:05Z" });
    let locked = device_of_example(
        |device| {
            Device { blocked: false, ..device }.with("lock", lock).with("secret", json!("JBSWY3DPEHPK3PXP"))
        },
        &world,
    )?;
    let plain = device_of_example(
        |device| Device { blocked: false, ..device }.with("nickname", json!("old")),
        &world,
    )?;
    let devices = list(&world, USER).await?;
    let ids: Vec<_> = devices.iter().filter_map(|device| device.r#ref.clone()).collect();
    assert_eq!(
        ids,
        [example_device(), wire(&locked), wire(&plain)],
        "in PingOne's order, which is the user's"
    );
    let told: Vec<_> =
        devices.iter().map(|device| (device.block_status.as_str(), device.lock_status.as_str())).collect();
    assert_eq!(told, [("BLOCKED", "UNLOCKED"), ("UNBLOCKED", "LOCKED"), ("UNBLOCKED", "UNLOCKED")]);
    assert_eq!(
        devices[0].block_time.map(|at| at.seconds),
        Some(datetime!(2022-11-20 15:52:58 UTC).unix_timestamp())
    );
    assert_eq!(devices[1].lock_expire_time.map(|at| at.seconds), Some(1_893_553_445));
    assert_eq!((devices[0].phone.as_str(), devices[2].nickname.as_str()), ("+14135550150", "old"));
    assert!(devices.iter().all(|device| device.snapshot_time.is_some() && device.raw.is_some()));
    assert!(!format!("{devices:?}").contains("JBSWY3DPEHPK3PXP"), "secrets are taken out");

    let jobs = lookups(&world).await?;
    assert_eq!((jobs.len(), jobs[0].state()), (1, State::Succeeded));
    assert_eq!(jobs[0].device, None, "a list is no device");
    let whole = world.service.job(&jobs[0].job_id).await?;
    assert_eq!(
        whole.attempts.iter().map(|attempt| (attempt.http_status, attempt.read)).collect::<Vec<_>>(),
        [(200, true)]
    );
    let requests = world.simulator().requests();
    let get = requests.iter().find(|record| record.method == "GET").ok_or("no GET")?;
    assert_eq!(get.path, format!("/v1/environments/{ENVIRONMENT}/users/{USER}/devices"));
    assert_eq!(get.header("x-ping-external-transaction-id"), Some(jobs[0].job_id.as_str()));
    assert_eq!((world.simulator().counts().posts, world.simulator().deviations()), (0, vec![]));

    // What is stored is what a bulk row by user is made of.
    let store = world.database.store()?;
    let job = store.find_job(jobs[0].job_id.parse::<Uuid>()?.into()).await?.ok_or("no job")?;
    let stored = Devices::of(job.snapshot.as_ref().ok_or("no list")?).ok_or("no list")?;
    assert_eq!(stored.blocked().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), [DEVICE]);
    Ok(())
}

#[tokio::test]
async fn a_list_stands_for_no_device() -> Result<()> {
    let world = World::start().await?;
    list(&world, USER).await?;
    let asked = v1::GetDeviceRequest { device_ref: Some(example_device()) };
    let never = world.service.devices.clone().get_device(asked).await.expect_err("it was only listed");
    assert_eq!(reason(&never), "DEVICE_NEVER_SEEN");
    // Nor does it answer a bulk job for one of them.
    let bulk =
        v1::UnblockRequest { priority: v1::Priority::Bulk.into(), ..request_without_wait(example_device()) };
    world.simulator().fault(DeviceId::parse(DEVICE)?, [Fault::hold()]);
    let job = world.service.unblock(bulk).await?.job.ok_or("no job")?;
    list(&world, USER).await?;
    world.simulator().release();
    let job = world.service.job_in(&job.job_id, &[State::Succeeded]).await?;
    assert_eq!(
        (job.answered_by_job_id.as_str(), job.device.map(|device| device.block_status)),
        ("", Some("UNBLOCKED".to_owned()))
    );
    assert_eq!(world.simulator().counts().posts, 1);
    Ok(())
}

#[tokio::test]
async fn the_nil_device_is_refused_wherever_one_is_named() -> Result<()> {
    let world = World::start().await?;
    let nil = v1::DeviceRef { device_id: Uuid::nil().to_string(), ..example_device() };
    let mut devices = world.service.devices.clone();
    let jobs = v1::ListJobsRequest {
        environment_id: ENVIRONMENT.to_owned(),
        user_id: USER.to_owned(),
        device_id: nil.device_id.clone(),
        ..Default::default()
    };
    let answers = [
        devices.unblock(request(nil.clone())).await.map(drop),
        devices.get_device(v1::GetDeviceRequest { device_ref: Some(nil) }).await.map(drop),
        world.service.jobs.clone().list_jobs(jobs).await.map(drop),
    ];
    for answer in answers {
        let refused = answer.expect_err("it names no device");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
        let details = refused.get_error_details();
        let fields = &details.bad_request().ok_or("no BadRequest")?.field_violations;
        assert!(fields[0].field.ends_with("device_id"), "{fields:?}");
        assert!(
            fields[0].description.contains("nil") && fields[0].description.contains("ListUserDevices"),
            "{fields:?}"
        );
    }
    assert_eq!(world.simulator().counts().requests, 0);
    Ok(())
}

#[tokio::test]
async fn wrong_fields_and_what_is_not_served_are_refused_before_anything_is_recorded() -> Result<()> {
    let only = EnvironmentId::parse(ENVIRONMENT)?;
    let world = World::with(Variant { only: Some(only), ..Variant::default() }, Default::default()).await?;
    let mut devices = world.service.devices.clone();
    let wrong = v1::ListUserDevicesRequest { environment_id: "prod".to_owned(), user_id: String::new() };
    let refused = devices.list_user_devices(wrong).await.expect_err("both are wrong");
    let details = refused.get_error_details();
    let fields = &details.bad_request().ok_or("no BadRequest")?.field_violations;
    let fields: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["environment_id", "user_id"]);
    let elsewhere = v1::ListUserDevicesRequest { environment_id: Uuid::new_v4().to_string(), ..asked(USER) };
    let refused = devices.list_user_devices(elsewhere).await.expect_err("it is not served");
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
async fn what_pingone_refuses_is_said_with_its_reason() -> Result<()> {
    let strict = simulator::Settings { strict: true, ..simulator::Settings::default() };
    let world = World::with(Variant::default(), strict).await?;
    let unknown = list(&world, &Uuid::new_v4().to_string()).await.expect_err("there is no such user");
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "UPSTREAM_NOT_FOUND"));
    assert!(unknown.get_error_details().retry_info().is_none(), "it would fail again");
    let job = lookups(&world).await?.pop().ok_or("no job")?;
    let details = unknown.get_error_details();
    let named = details.error_info().and_then(|info| info.metadata.get("job_id").cloned());
    assert_eq!(named, Some(job.job_id), "support finds its attempts");

    world.simulator().plan(Plan::new([Fault::status(403)]).on(On::Get));
    let forbidden = list(&world, USER).await.expect_err("PingOne forbids it");
    assert_eq!(
        (forbidden.code(), reason(&forbidden).as_str()),
        (Code::FailedPrecondition, "UPSTREAM_FORBIDDEN")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_list_and_ask_for_the_device_where_nobody_can_choose() -> Result<()> {
    let world = World::start().await?;
    let plain = device_of_example(|device| Device { blocked: false, ..device }, &world)?;
    let run = async |arguments: &[&str]| -> Result<(Option<i32>, String, String)> {
        let mut command = command(arguments);
        command.env("UNBLOCK_SERVER", format!("http://{}", world.service.address));
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    };
    let (code, all, said) = run(&["device", "list", ENVIRONMENT, USER]).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(all.contains(DEVICE) && all.contains(&plain.device.to_string()), "{all}");

    let (code, blocked, said) = run(&["unblock", ENVIRONMENT, USER]).await?;
    assert_eq!(code, Some(2), "{said}");
    assert!(blocked.contains(DEVICE) && !blocked.contains(&plain.device.to_string()), "{blocked}");
    assert!(said.contains("give DEVICE"), "{said}");
    assert_eq!(world.simulator().counts().posts, 0);

    let (code, _, said) = run(&["unblock", ENVIRONMENT, USER, DEVICE]).await?;
    assert_eq!(code, Some(0), "{said}");
    let (code, nothing, said) = run(&["unblock", ENVIRONMENT, USER]).await?;
    assert_eq!((code, nothing.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("none of the user's 2 devices is blocked"), "{said}");

    let (code, jobs, said) = run(&["job", "list", "--environment", ENVIRONMENT]).await?;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(jobs.matches("  user b30ac647\n").count(), 3, "each list is a job: {jobs}");
    let lookup = lookups(&world).await?.pop().ok_or("no job")?.job_id;
    let (code, job, said) = run(&["job", "get", &lookup]).await?;
    assert_eq!(code, Some(0), "{said}");
    assert!(job.contains("all of the user's: this job lists them"), "{job}");
    Ok(())
}
