//! Clients nobody here wrote: Python's grpcio with reflection, and buf. Where a tool cannot be had the test says so; in CI it fails.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use crate::harness::{
    Result,
    service::{DEVICE, ENVIRONMENT, USER, World},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Has the Makefile fetch a tool. False, with a word, where it cannot be had.
#[expect(clippy::print_stderr, reason = "that a test was skipped is said to whoever runs it")]
pub(crate) fn fetched(target: &str, program: &str) -> Result<bool> {
    if !root().join(program).exists() || ["clients", "ocsf"].contains(&target) {
        let made = Command::new("make").args(["--silent", target]).current_dir(root()).output()?;
        if !made.status.success() || !root().join(program).exists() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(std::env::var_os("CI").is_none(), "make {target} failed: {why}");
            eprintln!("SKIPPED: make {target} failed: {why}");
            return Ok(false);
        }
    }
    Ok(true)
}

pub(crate) async fn run(program: &str, arguments: Vec<String>) -> Result<Output> {
    let program = root().join(program);
    let running = tokio::task::spawn_blocking(move || {
        Command::new(program).args(arguments).current_dir(root()).output()
    });
    let output = running.await??;
    assert!(output.status.success(), "{output:?}");
    Ok(output)
}

#[tokio::test(flavor = "multi_thread")]
async fn python_lists_the_services_and_unblocks_a_device() -> Result<()> {
    let python = "target/clients/bin/python";
    if !fetched("clients", python)? {
        return Ok(());
    }
    let world = World::start().await?;
    let server = world.service.address.to_string();
    let arguments = ["tests/clients/python/unblock.py", "--server", &server, ENVIRONMENT, USER, DEVICE];
    let output = run(python, arguments.map(ToOwned::to_owned).to_vec()).await?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("SUCCEEDED") && said.contains("UNBLOCKED"), "{said}");
    assert!(said.contains("pingone.device.v1.JobService"), "{said}");
    assert_eq!(world.simulator().counts().posts, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn buf_lists_the_services_and_unblocks_a_device() -> Result<()> {
    let makefile = std::fs::read_to_string(root().join("Makefile"))?;
    let version = makefile.split_once("BUF_VERSION := ").ok_or("no version of buf")?.1;
    let version = version.lines().next().unwrap_or_default();
    let buf = format!("target/tools/buf-{version}/node_modules/.bin/buf");
    if !fetched("buf", &buf)? {
        return Ok(());
    }
    let world = World::start().await?;
    let base = format!("http://{}", world.service.address);
    let common = ["curl", "--http2-prior-knowledge", "--protocol", "grpc"].map(ToOwned::to_owned).to_vec();
    let list = [common.clone(), vec!["--list-services".to_owned(), base.clone()]].concat();
    let listed = String::from_utf8(run(&buf, list).await?.stdout)?;
    assert!(listed.contains("pingone.device.v1.DeviceService"), "{listed}");

    let request = serde_json::json!({
        "device_ref": { "environment_id": ENVIRONMENT, "user_id": USER, "device_id": DEVICE },
        "request_id": "case-4711",
    });
    let method = format!("{base}/pingone.device.v1.DeviceService/Unblock");
    let call = [common, vec!["-d".to_owned(), request.to_string(), method]].concat();
    let reply: serde_json::Value = serde_json::from_slice(&run(&buf, call).await?.stdout)?;
    assert_eq!(reply["job"]["state"], "STATE_SUCCEEDED");
    assert_eq!(reply["job"]["device"]["blockStatus"], "UNBLOCKED");
    Ok(())
}
