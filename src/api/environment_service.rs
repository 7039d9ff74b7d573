//! `EnvironmentService`: shows the environments that are sent to, pauses and resumes them.

use tonic::{Request, Response, Status};

use super::{
    Services, convert,
    fields::{Fields, REASON_AT_MOST},
    permit::Permit,
    status::{self, ErrorReason},
};
use crate::{
    device::EnvironmentId,
    environment::{Environment, Pause, State},
    proto::v1::{self, environment::State as Told, environment_service_server::EnvironmentService},
    store::{EnvironmentsPage, EnvironmentsToken, StoreError},
};

/// Pages that are read in one call where the caller may see nothing on them.
const PAGES_AT_ONCE: usize = 20;

#[tonic::async_trait]
impl EnvironmentService for Services {
    async fn list_environments(
        &self,
        request: Request<v1::ListEnvironmentsRequest>,
    ) -> Result<Response<v1::ListEnvironmentsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let given = request.into_inner();
        let mut fields = Fields::default();
        let size = fields.page_size(given.page_size);
        let size = fields.done(Some(size))?;
        let from = match given.page_token.as_str() {
            "" => None,
            text => Some(EnvironmentsToken::parse(text).ok_or_else(|| {
                ErrorReason::PageTokenInvalid
                    .status("page_token: give the next_page_token of an earlier call, or none")
            })?),
        };
        let page = self.page(&permit, size, from).await.map_err(|error| status::store(&error))?;
        Ok(Response::new(v1::ListEnvironmentsResponse {
            environments: page.environments.into_iter().map(message).collect(),
            next_page_token: page.next.map(|token| token.to_string()).unwrap_or_default(),
            all_paused: page.everything.is_some(),
            all_paused_reason: page.everything.as_ref().map(Pause::sentence_of_all).unwrap_or_default(),
        }))
    }

    async fn pause_environment(
        &self,
        request: Request<v1::PauseEnvironmentRequest>,
    ) -> Result<Response<v1::PauseEnvironmentResponse>, Status> {
        let permit = Permit::of(&request)?;
        let v1::PauseEnvironmentRequest { environment_id, reason } = request.into_inner();
        let (which, reason) = self.wish(&permit, &environment_id, reason)?;
        let paused = self.control.pause(which, &permit.actor(), &reason).await;
        paused.map_err(|error| status::store(&error))?;
        let environment = Some(self.standing(which).await?);
        Ok(Response::new(v1::PauseEnvironmentResponse { environment }))
    }

    async fn resume_environment(
        &self,
        request: Request<v1::ResumeEnvironmentRequest>,
    ) -> Result<Response<v1::ResumeEnvironmentResponse>, Status> {
        let permit = Permit::of(&request)?;
        let v1::ResumeEnvironmentRequest { environment_id, reason } = request.into_inner();
        let (which, reason) = self.wish(&permit, &environment_id, reason)?;
        let resumed = self.control.resume(which, &permit.actor(), &reason).await;
        resumed.map_err(|error| status::store(&error))?;
        let environment = Some(self.standing(which).await?);
        Ok(Response::new(v1::ResumeEnvironmentResponse { environment }))
    }
}

impl Services {
    /// Which environment is meant, and why; no environment: everything.
    fn wish(
        &self,
        permit: &Permit,
        environment: &str,
        reason: String,
    ) -> Result<(Option<EnvironmentId>, String), Status> {
        match environment {
            "" => permit.in_all()?,
            named => permit.in_named(named)?,
        }
        let mut fields = Fields::default();
        let which = fields.filter("environment_id", environment, EnvironmentId::parse);
        let reason = fields.text("reason", reason, REASON_AT_MOST);
        let (which, reason) = fields.done(Some((which, reason)))?;
        match which {
            Some(id) if !self.control.serves(id) => Err(permit.not_served(id)),
            _ => Ok((which, reason)),
        }
    }

    /// The next page of those that the caller may see. Shorter than asked for, even empty, where few of many are the caller's.
    async fn page(
        &self,
        permit: &Permit,
        size: usize,
        from: Option<EnvironmentsToken>,
    ) -> Result<EnvironmentsPage, StoreError> {
        let shown = permit.environments();
        let mut page = self.store.list_environments(size, from).await?;
        page.environments.retain(|environment| shown.have(environment.id));
        for _ in 0..PAGES_AT_ONCE {
            let (true, Some(from)) = (page.environments.is_empty(), page.next) else { break };
            page = self.store.list_environments(size, Some(from)).await?;
            page.environments.retain(|environment| shown.have(environment.id));
        }
        Ok(page)
    }

    /// How an environment, or everything, stands now.
    async fn standing(&self, which: Option<EnvironmentId>) -> Result<v1::Environment, Status> {
        let Some(id) = which else {
            let pause = self.store.find_global_pause().await.map_err(|error| status::store(&error))?;
            return Ok(everything(pause.as_ref()));
        };
        self.store.find_environment(id).await.map(message).map_err(|error| status::store(&error))
    }
}

fn everything(pause: Option<&Pause>) -> v1::Environment {
    let state = if pause.is_some() { Told::Paused } else { Told::Sending };
    v1::Environment {
        state: state.into(),
        state_reason: pause.map(Pause::sentence_of_all).unwrap_or_default(),
        ..v1::Environment::default()
    }
}

fn message(environment: Environment) -> v1::Environment {
    let told = v1::Environment {
        environment_id: environment.id.to_string(),
        state: match environment.state {
            State::Sending => Told::Sending,
            State::Paused => Told::Paused,
            State::Throttled => Told::Throttled,
            State::Unreachable => Told::Unreachable,
            State::CredentialRefused => Told::CredentialRefused,
        }
        .into(),
        state_reason: environment.state_reason,
        resume_time: environment.resume_at.map(convert::timestamp),
        owner: environment.owner.map(|owner| owner.to_string()).unwrap_or_default(),
        oldest_pending_age: environment
            .oldest_pending_age
            .and_then(|age| prost_types::Duration::try_from(age).ok()),
        publish_time: environment.published_at.map(convert::timestamp),
        ..v1::Environment::default()
    };
    let Some(status) = environment.status else { return told };
    v1::Environment {
        limit_group: status.limit_group.unwrap_or_default(),
        rate_limit: limit(status.rate_limit),
        effective_rate_limit: limit(status.effective_rate),
        current_rate: status.current_rate,
        in_flight: i32::try_from(status.in_flight).unwrap_or(i32::MAX),
        max_in_flight: i32::try_from(status.max_in_flight).unwrap_or(i32::MAX),
        pending_interactive: i64::try_from(status.pending_interactive).unwrap_or(i64::MAX),
        pending_bulk: i64::try_from(status.pending_bulk).unwrap_or(i64::MAX),
        ..told
    }
}

/// The contract has no infinity: 0 is unlimited.
fn limit(rate: f64) -> f64 {
    if rate.is_finite() { rate } else { 0.0 }
}
