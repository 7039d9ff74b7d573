//! Runs the binary, and makes the jobs it is shown.

use std::{io, process::Stdio};

use pingone_unblock::proto::v1::{Device, DeviceRef, Job, JobError, job::State};
use tokio::process::Command;

pub(crate) const ENVIRONMENT: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
pub(crate) const USER: &str = "b30ac647-e33e-464f-a6ea-0275082d4c26";
pub(crate) const DEVICE: &str = "6697f628-7712-4e71-b52b-920ba0635020";
pub(crate) const JOB: &str = "0199f1a2-7b3c-7d4e-8f50-61728394a58d";

pub(crate) type Tested = Result<(), Box<dyn std::error::Error>>;

/// How a run ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The binary, with nothing of this shell's settings.
pub(crate) fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pingone-unblock"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for variable in ["UNBLOCK_SERVER", "UNBLOCK_TOKEN", "NO_COLOR", "COLUMNS", "TERM", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command.kill_on_drop(true);
    command
}

pub(crate) async fn run(command: &mut Command) -> io::Result<Ended> {
    let output = command.output().await?;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// `arguments` against the server at `url`.
pub(crate) async fn against(url: &str, arguments: &[&str]) -> io::Result<Ended> {
    run(binary(arguments).env("UNBLOCK_SERVER", url)).await
}

pub(crate) fn job(state: State, revision: i64) -> Job {
    Job {
        job_id: JOB.to_owned(),
        device_ref: Some(device_ref()),
        state: state.into(),
        max_attempts: 10,
        create_time: Some(prost_types::Timestamp { seconds: 1_767_323_045, nanos: 0 }),
        run: 1,
        revision,
        caller: "help-desk".to_owned(),
        ..Job::default()
    }
}

pub(crate) fn succeeded(revision: i64) -> Job {
    Job { device: Some(device("UNLOCKED", None)), attempt_count: 1, ..job(State::Succeeded, revision) }
}

pub(crate) fn failed(revision: i64) -> Job {
    let error = JobError {
        reason: "UPSTREAM_NOT_FOUND".to_owned(),
        message: "PingOne knows no such device.".to_owned(),
        http_status: 404,
        pingone_code: "NOT_FOUND".to_owned(),
        correlation_id: "c0ffee".to_owned(),
        ..JobError::default()
    };
    Job { error: Some(error), attempt_count: 1, ..job(State::Failed, revision) }
}

pub(crate) fn device(lock_status: &str, lock_expire: Option<i64>) -> Device {
    Device {
        r#ref: Some(device_ref()),
        r#type: "SMS".to_owned(),
        status: "ACTIVE".to_owned(),
        block_status: "UNBLOCKED".to_owned(),
        lock_status: lock_status.to_owned(),
        lock_expire_time: lock_expire.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        nickname: "Work \u{1b}[31mphone".to_owned(),
        ..Device::default()
    }
}

fn device_ref() -> DeviceRef {
    DeviceRef {
        environment_id: ENVIRONMENT.to_owned(),
        user_id: USER.to_owned(),
        device_id: DEVICE.to_owned(),
    }
}
