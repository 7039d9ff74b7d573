//! A connected server, and calls that are repeated while that makes sense.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_health::pb::health_client::HealthClient;

use super::{
    error::{Error, printed},
    repeat::Repeat,
    screen::{Screen, printable},
};
use crate::proto::v1::{
    audit_service_client::AuditServiceClient, batch_service_client::BatchServiceClient,
    device_service_client::DeviceServiceClient, environment_service_client::EnvironmentServiceClient,
    job_service_client::JobServiceClient,
};

/// Until when something may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimit {
    pub(super) allowed: Duration,
    pub(super) until: Instant,
}

impl TimeLimit {
    pub(super) fn start(allowed: Duration) -> Self {
        Self { allowed, until: Instant::now() + allowed }
    }
}

/// A connected server.
#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
    bearer: Bearer,
}

impl Client {
    pub(super) fn new(channel: Channel, bearer: Option<MetadataValue<Ascii>>) -> Self {
        Self { channel, bearer: Bearer(bearer) }
    }

    pub(super) fn health(&self) -> HealthClient<InterceptedService<Channel, Bearer>> {
        HealthClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn devices(&self) -> DeviceServiceClient<InterceptedService<Channel, Bearer>> {
        DeviceServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn jobs(&self) -> JobServiceClient<InterceptedService<Channel, Bearer>> {
        JobServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn batches(&self) -> BatchServiceClient<InterceptedService<Channel, Bearer>> {
        BatchServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn audit(&self) -> AuditServiceClient<InterceptedService<Channel, Bearer>> {
        AuditServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub(super) fn environments(&self) -> EnvironmentServiceClient<InterceptedService<Channel, Bearer>> {
        EnvironmentServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    /// Sends `request`, unchanged, until there is an answer that another try would not better.
    ///
    /// # Errors
    /// [`Error::Refused`] with the last answer, [`Error::NoAnswer`] when the time is up without one.
    pub(super) async fn call<Q: Clone, A>(
        &self,
        screen: &Screen,
        limit: TimeLimit,
        request: &Q,
        send: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let mut repeat = Repeat::new();
        loop {
            let status = match self.call_once(limit, request.clone(), &send).await {
                Err(Error::Refused(status)) => status,
                ended => return ended,
            };
            let Some(wait) = repeat.wait_after(&status) else { return Err(Error::Refused(status)) };
            if Instant::now() + wait >= limit.until {
                return Err(Error::Refused(status));
            }
            let why = printable(&Error::Refused(status).to_string());
            screen.say(&format!("{why}; trying again in {}", printed(wait)));
            sleep(wait).await;
        }
    }

    /// Sends what is not safe to repeat.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(super) async fn call_once<Q, A>(
        &self,
        limit: TimeLimit,
        request: Q,
        send: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, Error> {
        let mut call = Request::new(request);
        call.set_timeout(limit.until.saturating_duration_since(Instant::now()));
        match timeout_at(limit.until, send(call)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if Instant::now() < limit.until => Err(status.into()),
            Ok(Err(_)) | Err(_) => Err(Error::NoAnswer(limit.allowed)),
        }
    }
}

/// Puts the token, if there is one, on every call.
#[derive(Debug, Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
