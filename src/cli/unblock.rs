//! `unblock`: records the job, shows its states until it is final, prints the device. Asks which, where none is named.

use std::{pin::pin, time::Duration};

use clap::{Args, builder::NonEmptyStringValueParser};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::{
    args::{self, PriorityArg, UserArgs},
    choose::{self, Chosen},
    client::{Client, TimeLimit},
    error::Error,
    exit::Exit,
    follow::{Followed, follow},
    outcome,
    screen::{Hue, Screen},
    server::ServerOptions,
    table,
};
use crate::{
    device::DeviceId,
    proto::v1::{DeviceRef, Job, UnblockRequest},
};

/// Unblocks one device and shows how it goes
#[derive(Debug, Args)]
pub(super) struct Unblock {
    #[command(flatten)]
    user: UserArgs,
    /// MFA device of that user; without it those that are blocked are listed to choose from
    #[arg(value_name = "DEVICE", value_parser = DeviceId::parse)]
    device: Option<DeviceId>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Case or ticket that asks for it
    #[arg(long, value_name = "ID")]
    ticket: Option<String>,
    /// Person you act for
    #[arg(long, value_name = "PERSON")]
    on_behalf_of: Option<String>,
    /// Whether a person waits for it
    #[arg(long, value_enum, value_name = "PRIORITY")]
    priority: Option<PriorityArg>,
    /// How long the job may wait to be sent; the server's default is 15m
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    time_to_live: Option<Duration>,
    /// Idempotency key: the same id and arguments again give the same job. Made up where it is not given
    #[arg(long, value_name = "ID", requires = "device", value_parser = NonEmptyStringValueParser::new())]
    request_id: Option<String>,
    /// End as soon as the job is recorded
    #[arg(long)]
    no_wait: bool,
    /// Have everything checked and record nothing
    #[arg(long)]
    validate_only: bool,
    /// How long to wait for the outcome; the job goes on beyond it
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = args::duration)]
    timeout: Duration,
    #[command(flatten)]
    server: ServerOptions,
}

impl Unblock {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let limit = TimeLimit::start(self.timeout);
        let client = self.server.connect().await?;
        if let Some(device) = self.device {
            return self.unblock(&client, screen, limit, self.user.device(device)).await;
        }
        let listed = choose::list(&client, screen, limit, self.user).await?;
        let devices = match choose::choose(screen, listed).await? {
            Chosen::These(devices) => devices,
            Chosen::Nothing(exit) => return Ok(exit),
        };
        let mut worst = Exit::Done;
        for device in devices {
            // Choosing takes its time: the clock starts anew.
            let limit = TimeLimit::start(self.timeout);
            match self.unblock(&client, screen, limit, device).await {
                Ok(Exit::Done) => {}
                Ok(Exit::Interrupted) => return Ok(Exit::Interrupted),
                Ok(other) => worst = other,
                // The others were chosen too.
                Err(error) => {
                    error.tell(screen);
                    worst = error.exit();
                }
            }
        }
        Ok(worst)
    }

    async fn unblock(
        &self,
        client: &Client,
        screen: &Screen,
        limit: TimeLimit,
        device: DeviceRef,
    ) -> Result<Exit, Error> {
        let request = self.request(device);
        if self.request_id.is_none() && !self.validate_only {
            screen.say(&format!("to repeat safely, add: --request-id {}", request.request_id));
        }

        let mut interrupt = pin!(interrupt());
        let send = async |request| client.devices().unblock(request).await;
        let answer = tokio::select! {
            answer = client.call(screen, limit, &request, send) => answer?,
            () = &mut interrupt => {
                let sentence = "the server has not answered; it may have recorded the job";
                screen.headline(Hue::Attention, "interrupted:", sentence);
                screen.detail("next", &format!("repeat with --request-id {}: it is safe", request.request_id));
                return Ok(Exit::Interrupted);
            }
        };
        let Some(job) = answer.job else {
            screen.say("all is well; nothing was recorded");
            return Ok(Exit::Done);
        };
        if answer.replayed {
            screen.say(&format!("this request was made before; its job is {}", job.job_id));
        }
        if self.no_wait && !outcome::is_final(&job) {
            outcome::print(screen, &job, |job| table::job(screen, job))?;
            screen.detail_command("look again", &self.server.again(&format!("job watch {}", job.job_id)));
            return Ok(Exit::Done);
        }

        let job_id = job.job_id.clone();
        let followed = tokio::select! {
            followed = follow(client, screen, &job_id, Some(job), Some(limit.until), |_| Ok(())) => followed?,
            () = &mut interrupt => return Ok(outcome::interrupted(screen, &self.server, &job_id)),
        };
        self.print(screen, &followed)?;
        Ok(outcome::tell(screen, &self.server, &job_id, &followed, Some(self.timeout)))
    }

    fn request(&self, device: DeviceRef) -> UnblockRequest {
        let request_id = self.request_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        UnblockRequest {
            device_ref: Some(device),
            request_id,
            reason: self.reason.clone().unwrap_or_default(),
            ticket: self.ticket.clone().unwrap_or_default(),
            priority: self.priority.map_or(0, |priority| priority.to_proto().into()),
            time_to_live: self.time_to_live.map(args::to_proto_duration),
            // The states are watched instead: they are worth seeing, and a watch outlives a broken connection.
            wait: Some(prost_types::Duration::default()),
            validate_only: self.validate_only,
            on_behalf_of: self.on_behalf_of.clone().unwrap_or_default(),
        }
    }

    /// Programs get the job however it stands; people the device, where there is one.
    fn print(&self, screen: &Screen, followed: &Followed) -> Result<(), Error> {
        let job: &Job = match followed {
            Followed::Final(job) | Followed::TimeUp(Some(job)) => job,
            Followed::TimeUp(None) => return Ok(()),
        };
        match &job.device {
            Some(device) => outcome::print(screen, job, |job| table::device(screen, device, &job.job_id)),
            None if screen.is_json() => outcome::print(screen, job, |_| String::new()),
            None => Ok(()),
        }
    }
}

/// Ends at Ctrl-C; never where the signal can not be heard. Heard from this call on, not only from the first poll.
pub(super) fn interrupt() -> impl Future<Output = ()> {
    let heard = signal(SignalKind::interrupt());
    async move {
        match heard {
            Ok(mut interrupts) => drop(interrupts.recv().await),
            Err(_) => std::future::pending().await,
        }
    }
}
