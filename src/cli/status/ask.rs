//! Asks the server once: health, every page of environments, open batches. Each call has a deadline; nothing is tried again.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_types::StatusExt as _;

use super::{
    figures::Environments,
    found::{Batches, Found, Postgres, Service},
};
use crate::{
    cli::{
        client::{Client, TimeLimit},
        error::{Error, came_from_transport, innermost, printed},
        server::ServerOptions,
    },
    proto::v1::{ListBatchesRequest, ListEnvironmentsRequest, batch::State},
};

const LARGEST_PAGE: i32 = 1000;
const LISTS_AT_ONCE: usize = 8;
const OPEN: [State; 4] = [State::Uploading, State::Running, State::Paused, State::Cancelling];

/// Asks one server, again and again.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    server: &'a ServerOptions,
    patience: Duration,
    /// Kept while the server answers.
    client: Option<Client>,
}

/// Why there is no answer, as far as it tells whose problem it is.
#[derive(Debug)]
enum Failure {
    Gone(String),
    /// The server answers calls, but not this one in time.
    Silent,
    NoPostgres(String),
    Refused(String),
}

impl<'a> Asker<'a> {
    pub(super) const fn new(server: &'a ServerOptions, patience: Duration) -> Self {
        Self { server, patience, client: None }
    }

    /// What there is to be found.
    ///
    /// # Errors
    /// Options that can not be used, and a caller who is not permitted to ask.
    pub(super) async fn look(&mut self) -> Result<Found, Error> {
        let found = self.find().await?;
        if found.is_gone() {
            self.client = None;
        }
        Ok(found)
    }

    async fn find(&mut self) -> Result<Found, Error> {
        let new = |service| Found::new(self.server.url(), OffsetDateTime::now_utc(), service);
        let client = match self.connected().await? {
            Ok(client) => client,
            Err(why) => return Ok(new(Service::Gone(why))),
        };
        let mut found = new(match self.health(&client).await? {
            Ok(health) => health,
            Err(Failure::Gone(why)) => return Ok(new(Service::Gone(why))),
            Err(Failure::Silent) => return Ok(new(Service::Gone(self.silence()))),
            Err(Failure::NoPostgres(why) | Failure::Refused(why)) => Service::Refuses(why),
        });
        let since = Instant::now();
        match self.environments(&client).await? {
            Ok(environments) => {
                found.postgres = Postgres::Answers(since.elapsed());
                found.batches = self.batches(&client, &environments).await;
                found.environments = Some(environments);
            }
            Err(Failure::NoPostgres(why)) => found.postgres = Postgres::Unavailable(why),
            // It does answer what needs no database.
            Err(Failure::Silent) => {
                let why = format!("what needs it is not answered within {}", printed(self.patience));
                found.postgres = Postgres::Unavailable(why);
            }
            Err(Failure::Gone(why)) => found.service = Service::Gone(why),
            Err(Failure::Refused(why)) => found.service = Service::Refuses(why),
        }
        Ok(found)
    }

    async fn connected(&mut self) -> Result<Result<Client, String>, Error> {
        if let Some(client) = &self.client {
            return Ok(Ok(client.clone()));
        }
        let client = match timeout(self.patience, self.server.connect()).await {
            Ok(Ok(client)) => client,
            Ok(Err(Error::Connect { cause, .. })) => return Ok(Err(format!("does not answer: {cause}"))),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(Err(self.silence())),
        };
        self.client = Some(client.clone());
        Ok(Ok(client))
    }

    async fn health(&self, client: &Client) -> Result<Result<Service, Failure>, Error> {
        let since = Instant::now();
        let send = async |request| client.health().check(request).await;
        let answer = self.call(client, HealthCheckRequest { service: String::new() }, send).await?;
        let took = since.elapsed();
        Ok(answer.map(|answer| match answer.status() {
            ServingStatus::Serving => Service::Serving(took),
            ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
                Service::NotServing(took)
            }
        }))
    }

    async fn environments(&self, client: &Client) -> Result<Result<Environments, Failure>, Error> {
        let send = async |request| client.environments().list_environments(request).await;
        let mut request = ListEnvironmentsRequest { page_size: LARGEST_PAGE, page_token: String::new() };
        let mut all = Environments::default();
        loop {
            let page = match self.call(client, request.clone(), send).await? {
                Ok(page) => page,
                Err(failure) => return Ok(Err(failure)),
            };
            request.page_token.clone_from(&page.next_page_token);
            all.add(page, OffsetDateTime::now_utc());
            if request.page_token.is_empty() {
                return Ok(Ok(all));
            }
        }
    }

    /// Nothing where they are not told, or not in time: that alone is no problem.
    async fn batches(&self, client: &Client, all: &Environments) -> Option<Batches> {
        let limit = TimeLimit::start(self.patience);
        let counted = stream::iter(all.most_bulk().map(str::to_owned))
            .map(|environment_id| batches_of(client, limit, environment_id))
            .buffer_unordered(LISTS_AT_ONCE)
            .try_fold(Batches::default(), async |sum, counts| Ok(sum.plus(&counts)));
        counted.await.ok()
    }

    async fn call<Q: Clone, A>(
        &self,
        client: &Client,
        request: Q,
        send: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<Result<A, Failure>, Error> {
        match client.call_once(TimeLimit::start(self.patience), request, send).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) => Failure::of(error).map(Err),
        }
    }

    fn silence(&self) -> String {
        format!("does not answer within {}", printed(self.patience))
    }
}

async fn batches_of(client: &Client, limit: TimeLimit, environment_id: String) -> Result<Batches, Error> {
    let send = async |request| client.batches().list_batches(request).await;
    let states = OPEN.map(i32::from).to_vec();
    let mut request =
        ListBatchesRequest { environment_id, page_size: LARGEST_PAGE, states, ..Default::default() };
    let mut counts = Batches { environments: 1, ..Batches::default() };
    loop {
        let page = client.call_once(limit, request.clone(), send).await?;
        page.batches.iter().for_each(|batch| counts.add(batch.state()));
        if page.next_page_token.is_empty() {
            return Ok(counts);
        }
        request.page_token = page.next_page_token;
    }
}

impl Failure {
    fn of(error: Error) -> Result<Self, Error> {
        let status = match &error {
            Error::Refused(status) => status,
            Error::NoAnswer(_) => return Ok(Failure::Silent),
            _ => return Err(error),
        };
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str()).unwrap_or_default();
        Ok(match (status.code(), reason) {
            (Code::Unauthenticated | Code::PermissionDenied, _) => return Err(error),
            // The deadline of a call can be noticed on this side too.
            (Code::DeadlineExceeded, _) => return Ok(Failure::Silent),
            (Code::Cancelled, _) if came_from_transport(status) => return Ok(Failure::Silent),
            _ if came_from_transport(status) => {
                Failure::Gone(format!("does not answer: {}", innermost(status)))
            }
            (_, "STORE_UNAVAILABLE") => Failure::NoPostgres(error.to_string()),
            (_, "") if status.code() == Code::Unavailable => {
                Failure::Gone(format!("does not answer: {error}"))
            }
            (_, "") => Failure::Refused(format!("refuses: {error}")),
            (_, reason) => Failure::Refused(format!("refuses: {error} ({reason})")),
        })
    }
}

impl Batches {
    const fn add(&mut self, state: State) {
        match state {
            State::Uploading => self.uploading += 1,
            State::Running => self.running += 1,
            State::Paused => self.paused += 1,
            State::Cancelling => self.cancelling += 1,
            State::Unspecified | State::Done | State::Cancelled => {}
        }
    }

    const fn plus(&self, other: &Self) -> Self {
        Self {
            uploading: self.uploading + other.uploading,
            running: self.running + other.running,
            paused: self.paused + other.paused,
            cancelling: self.cancelling + other.cancelling,
            environments: self.environments + other.environments,
        }
    }
}
