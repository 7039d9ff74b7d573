//! `device`: what PingOne last said of one, and what it says now of all of a user.

use clap::{Args, Subcommand};

use super::{
    args::{DeviceArgs, UserArgs},
    choose,
    error::Error,
    exit::Exit,
    json,
    outcome::note_lock,
    screen::Screen,
    server::CallOptions,
    table,
};
use crate::proto::v1::GetDeviceRequest;

/// Shows devices
#[derive(Debug, Subcommand)]
pub(super) enum Device {
    Get(Get),
    List(List),
}

/// Shows the device as PingOne last described it to this server
#[derive(Debug, Args)]
pub(super) struct Get {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    call: CallOptions,
}

/// Lists a user's devices as PingOne has them now
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    user: UserArgs,
    #[command(flatten)]
    call: CallOptions,
}

impl Device {
    pub(super) async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        match self {
            Self::Get(get) => get.run(screen).await,
            Self::List(list) => list.run(screen).await,
        }
    }
}

impl Get {
    async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let request = GetDeviceRequest { device_ref: Some(self.device.to_proto()) };
        let send = async |request| client.devices().get_device(request).await;
        let answer = client.call(screen, self.call.time_limit(), &request, send).await?;
        if screen.is_json() {
            screen.print_json(&json::get_device_response(&answer))?;
        } else {
            let device = answer.device.unwrap_or_default();
            screen.print(&table::device(screen, &device, &answer.job_id))?;
            note_lock(screen, &device);
        }
        Ok(Exit::Done)
    }
}

impl List {
    async fn run(&self, screen: &Screen) -> Result<Exit, Error> {
        let client = self.call.server.connect().await?;
        let devices = choose::list(&client, screen, self.call.time_limit(), self.user).await?;
        match devices.is_empty() {
            true => screen.say("the user has no device"),
            false => choose::print(screen, &devices)?,
        }
        Ok(Exit::Done)
    }
}
