//! `AuditService`: hands out the audit trail, and records that it does.

use tonic::{Request, Response, Status};

use super::{
    Services, convert,
    fields::Fields,
    permit::Permit,
    status::{self, ErrorReason},
};
use crate::{
    audit::{Action, Event, Personal},
    auth::Environments,
    device::EnvironmentId,
    job::JobId,
    proto::v1::{self, audit_service_server::AuditService},
    store::{TrailFilter, TrailToken},
};

/// Callers have names of that length at most.
const CALLER_AT_MOST: usize = 200;

#[tonic::async_trait]
impl AuditService for Services {
    async fn list_audit_events(
        &self,
        request: Request<v1::ListAuditEventsRequest>,
    ) -> Result<Response<v1::ListAuditEventsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let given = request.into_inner();
        if !given.environment_id.is_empty() {
            permit.in_named(&given.environment_id)?;
        }
        let mut fields = Fields::default();
        let environment = fields.filter("environment_id", &given.environment_id, EnvironmentId::parse);
        let job = fields.filter("job_id", &given.job_id, JobId::parse);
        let caller = fields.text("caller", given.caller, CALLER_AT_MOST);
        let actions = actions(&mut fields, &given.actions);
        let start = fields.instant("start_time", given.start_time);
        let end = fields.instant("end_time", given.end_time);
        let size = fields.page_size(given.page_size);
        let size = fields.done(Some(size))?;
        let filter = TrailFilter {
            environments: visible(&permit, environment),
            caller: Some(caller).filter(|caller| !caller.is_empty()),
            job,
            actions,
            start,
            end,
        };
        let from = match given.page_token.as_str() {
            "" => None,
            text => Some(TrailToken::parse(text, &filter).ok_or_else(|| {
                ErrorReason::PageTokenInvalid
                    .status("page_token: give the next_page_token of a call with the same filters, or none")
            })?),
        };
        let recorded = self.store.record_trail_read(environment, &permit.actor(), "ListAuditEvents").await;
        recorded.map_err(|error| status::store(&error))?;
        let page =
            self.store.list_events(&filter, size, from).await.map_err(|error| status::store(&error))?;
        let mut events: Vec<v1::AuditEvent> = page.events.into_iter().map(message).collect();
        self.name_targets(&mut events).await?;
        Ok(Response::new(v1::ListAuditEventsResponse {
            events,
            next_page_token: page.next.map(|token| token.to_string()).unwrap_or_default(),
        }))
    }
}

/// Of which environments the caller sees events when it asks for this one, or for any; nothing: of any, and what is of none.
fn visible(permit: &Permit, asked: Option<EnvironmentId>) -> Option<Vec<EnvironmentId>> {
    match (asked, permit.environments()) {
        (Some(asked), _) => Some(vec![asked]),
        (None, Environments::All) => None,
        (None, Environments::Only(these)) => Some(these.iter().copied().collect()),
    }
}

impl Services {
    /// What became of a job names its device by the job alone.
    async fn name_targets(&self, events: &mut [v1::AuditEvent]) -> Result<(), Status> {
        let nameless = |event: &v1::AuditEvent| event.user_id.is_empty() && !event.erased;
        let job = |event: &v1::AuditEvent| JobId::parse(&event.job_id).ok();
        let jobs: Vec<JobId> = events.iter().filter(|event| nameless(event)).filter_map(job).collect();
        if jobs.is_empty() {
            return Ok(());
        }
        let targets = self.store.find_targets(&jobs).await.map_err(|error| status::store(&error))?;
        for event in events.iter_mut().filter(|event| nameless(event)) {
            let Some((user, device)) = job(event).and_then(|job| targets.get(&job)) else { continue };
            event.user_id = user.to_string();
            if *device != crate::device::DeviceId::EVERY {
                event.device_id = device.to_string();
            }
        }
        Ok(())
    }
}

fn actions(fields: &mut Fields, given: &[i32]) -> Vec<Action> {
    let known = |number: &i32| i16::try_from(*number).ok().and_then(Action::from_number);
    if let Some(unknown) = given.iter().find(|number| known(number).is_none()) {
        fields.wrong("actions", format!("{unknown} is none: give those of AuditEvent.Action"));
    }
    given.iter().filter_map(known).collect()
}

fn message(event: Event) -> v1::AuditEvent {
    let personal = event.personal.as_deref().and_then(Personal::unpack).unwrap_or_default();
    let text = |id: Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    v1::AuditEvent {
        event_id: event.id.to_string(),
        event_time: Some(convert::timestamp(event.at)),
        action: i32::from(event.action),
        environment_id: text(event.environment),
        job_id: text(event.job().map(JobId::as_uuid)),
        outcome: event.outcome.map(i32::from).unwrap_or_default(),
        erased: event.is_erased(),
        caller: event.caller,
        acting_for: personal.acting_for,
        policy: event.policy.unwrap_or_default(),
        batch_id: event.batch.unwrap_or_default(),
        user_id: personal.user.map(|id| id.to_string()).unwrap_or_default(),
        device_id: personal.device.map(|id| id.to_string()).unwrap_or_default(),
        on_behalf_of: personal.on_behalf_of,
        reason: personal.reason,
        ticket: personal.ticket,
        reference: personal.reference,
        run: event.run.unwrap_or_default(),
        attempts: event.attempts.unwrap_or_default(),
        http_status: event.http_status.map(i32::from).unwrap_or_default(),
        correlation_id: event.correlation.unwrap_or_default(),
        error_reason: event.reason.unwrap_or_default(),
        detail: event.detail.unwrap_or_default(),
        count: event.count.unwrap_or_default(),
        trace_id: event.trace.map(|id| id.simple().to_string()).unwrap_or_default(),
        erased_event_ids: event.erased.into_iter().flatten().map(|id| id.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_its_name_in_the_contract() {
        for action in Action::ALL {
            let told = v1::audit_event::Action::try_from(i32::from(action.number()));
            assert!(told.is_ok(), "{} has none", action.name());
        }
    }
}
