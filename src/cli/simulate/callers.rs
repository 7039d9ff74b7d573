//! Callers for `simulate --call`: what they ask for is made up, and what comes of it they do not look at.

use std::{num::NonZeroU32, time::Duration};

use clap::Args;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};
use uuid::Uuid;

use crate::proto::v1::{self, Priority, device_service_client::DeviceServiceClient};

/// The environment of PingOne's page «Unblock MFA User Device».
const ENVIRONMENT: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
/// One call in so many is for bulk.
const BULK_EVERY: u32 = 4;
/// Longer than any call takes: whoever is not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Calls under way at most. While there are so many, nobody calls.
const AT_ONCE: usize = 256;

#[derive(Debug, Args)]
pub(super) struct Callers {
    /// Plays callers too: has devices that it makes up unblocked at this server
    #[arg(long, value_name = "URL")]
    call: Option<Uri>,
    /// Calls per second
    #[arg(long, value_name = "RATE", default_value = "2", requires = "call")]
    calls_per_second: NonZeroU32,
}

impl Callers {
    /// Calls until `shutdown`. Without a server to call it has nothing to do.
    pub(super) async fn run(&self, shutdown: &CancellationToken) {
        let Some(server) = &self.call else { return };
        let channel = Endpoint::from(server.clone()).timeout(PATIENCE).connect_lazy();
        let mut next = tokio::time::interval(Duration::from_secs(1) / self.calls_per_second.get());
        let mut calls = JoinSet::new();
        let mut number = 0_u32;
        while shutdown.run_until_cancelled(next.tick()).await.is_some() {
            while calls.try_join_next().is_some() {}
            if calls.len() < AT_ONCE {
                number = number.wrapping_add(1);
                calls.spawn(call(channel.clone(), number.is_multiple_of(BULK_EVERY)));
            }
        }
    }
}

async fn call(channel: Channel, bulk: bool) {
    let request = v1::UnblockRequest {
        device_ref: Some(v1::DeviceRef {
            environment_id: ENVIRONMENT.to_owned(),
            user_id: Uuid::new_v4().to_string(),
            device_id: Uuid::new_v4().to_string(),
        }),
        priority: if bulk { Priority::Bulk } else { Priority::Interactive }.into(),
        wait: bulk.then(prost_types::Duration::default),
        ..v1::UnblockRequest::default()
    };
    if let Err(status) = DeviceServiceClient::new(channel).unblock(request).await {
        tracing::debug!(code = ?status.code(), "a call failed");
    }
}
