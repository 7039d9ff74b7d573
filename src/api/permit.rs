//! What the caller of one request may do: put there by the gate, asked by whatever answers the call.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Status};

use super::{
    contacts::Contacts,
    denials::Denials,
    fields::Fields,
    status::{self, ErrorReason},
};
use crate::{
    audit::{Denial, Who},
    auth::{Bounds, DeviceBound, Environments, Grants, Policy, Scope},
    device::EnvironmentId,
    job::{Actor, Caller, DeviceLimit, Limits, OverQuota},
    telemetry,
};

/// What the caller of one request may do. An extension of every request that the gate let in.
#[derive(Debug, Clone)]
pub(super) struct Permit {
    caller: Caller,
    acting_for: Option<Arc<str>>,
    policy: Arc<Policy>,
    grants: Grants,
    /// What the method asks for; nothing where it is none of ours.
    scope: Option<Scope>,
    method: &'static str,
    denials: Denials,
}

impl Permit {
    pub(super) const fn new(
        caller: Caller,
        acting_for: Option<Arc<str>>,
        policy: Arc<Policy>,
        grants: Grants,
        scope: Option<Scope>,
        method: &'static str,
        denials: Denials,
    ) -> Self {
        Self { caller, acting_for, policy, grants, scope, method, denials }
    }

    /// The permit of a request. Without the gate there is none, and nothing is answered.
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let permit = request.extensions().get::<Self>().cloned();
        permit.ok_or_else(|| status::internal(&"a call came past the gate"))
    }

    /// Who calls.
    pub(super) const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Who has it done, for whatever is recorded.
    pub(super) fn actor(&self) -> Actor {
        Actor {
            caller: self.caller.clone(),
            acting_for: self.acting_for.clone(),
            policy: Arc::clone(self.policy.version()),
            trace_id: telemetry::trace_id().map(Arc::from),
            limits: self.limits(),
        }
    }

    /// How much the caller may.
    pub(super) fn bounds(&self) -> &Bounds {
        self.grants.bounds()
    }

    fn limits(&self) -> Limits {
        let bounds = self.bounds();
        let per_device =
            self.policy.device_bound().map(|DeviceBound { count, within }| DeviceLimit { count, within });
        Limits {
            per_hour: bounds.unblocks_per_hour,
            per_day: bounds.unblocks_per_day,
            per_device,
            batch_rows: bounds.batch_rows,
        }
    }

    /// At all: in some environment.
    pub(super) fn may(&self) -> Result<(), Status> {
        match self.scope {
            Some(scope) if !self.grants.anywhere(scope) => Err(self.refused(None)),
            _ => Ok(()),
        }
    }

    /// In the environment that a field names. What is no id is left for the field's own check: it is nobody's.
    pub(super) fn in_named(&self, environment: &str) -> Result<(), Status> {
        EnvironmentId::parse(environment).map_or(Ok(()), |id| self.in_environment(id))
    }

    /// In this environment.
    pub(super) fn in_environment(&self, environment: EnvironmentId) -> Result<(), Status> {
        match self.scope {
            Some(scope) if self.grants.in_environment(scope, environment) => Ok(()),
            _ => Err(self.refused(Some(environment))),
        }
    }

    /// In all environments, those that nobody has seen yet included.
    pub(super) fn in_all(&self) -> Result<(), Status> {
        if self.has_all() { Ok(()) } else { Err(self.refused(None)) }
    }

    fn has_all(&self) -> bool {
        self.scope.is_some_and(|scope| self.grants.everywhere(scope))
    }

    /// Those environments that may be shown.
    pub(super) fn environments(&self) -> Environments<'_> {
        self.grants.environments(self.scope.unwrap_or(Scope::Read))
    }

    /// Says that something is not there: to those who may know. To others it is what they may not see.
    pub(super) fn nothing_there(&self, reason: ErrorReason, sentence: String) -> Status {
        if self.has_all() { reason.status(sentence) } else { self.refused(None) }
    }

    /// The environment is not one that this service sends for.
    pub(super) fn not_served(&self, environment: EnvironmentId) -> Status {
        if self.has_all() { status::not_served(environment) } else { self.refused(Some(environment)) }
    }

    /// How contacts are shown that belong to `environment`.
    pub(super) fn contacts(&self, environment: EnvironmentId) -> Contacts {
        if self.grants.in_environment(Scope::Contacts, environment) {
            Contacts::Shown
        } else {
            Contacts::Masked
        }
    }

    /// For whom it is done: what the token says is true, what the request says is the caller's word.
    pub(super) fn on_behalf_of(&self, fields: &mut Fields, field: &str, given: String) -> String {
        match &self.acting_for {
            Some(person) if given.is_empty() || *given == **person => person.to_string(),
            Some(_) => {
                fields.wrong(field, "is not the person that the token names: leave it out");
                given
            }
            None => given,
        }
    }

    /// What has to be said in `environment`, and is not.
    pub(super) fn demand(
        &self,
        fields: &mut Fields,
        prefix: &str,
        environment: EnvironmentId,
        (reason, ticket, on_behalf_of): (&str, &str, Option<&str>),
    ) {
        let missing =
            self.policy.demands(environment).check(reason, ticket, on_behalf_of.unwrap_or_default());
        // What a request has no field for cannot be demanded of it.
        let askable = |field: &str| on_behalf_of.is_some() || field != "on_behalf_of";
        for (field, remedy) in missing.into_iter().filter(|(field, _)| askable(field)) {
            fields.wrong(&format!("{prefix}{field}"), remedy);
        }
    }

    /// Refuses, in the same words whether it is there or not.
    pub(super) fn refused(&self, environment: Option<EnvironmentId>) -> Status {
        tracing::info!(
            caller = self.caller.as_str(),
            rpc.method = self.method,
            environment.id = environment.map(tracing::field::display),
            policy.version = %self.policy.version(),
            "not permitted"
        );
        let reason = ErrorReason::PermissionMissing;
        self.denied(environment, reason);
        reason.status(match self.scope {
            Some(scope) => format!(
                "it is not there, or the caller may not: this takes the scope `{scope}` in its environment"
            ),
            None => "the caller may not".to_owned(),
        })
    }

    /// Refuses a call that comes too early: after `wait` there is room for one.
    pub(super) fn too_often(&self, wait: Duration) -> Status {
        let reason = ErrorReason::CallerRateLimited;
        self.denied(None, reason);
        let rate = self.bounds().calls_per_second.unwrap_or_default();
        reason.waiting(
            format!("this caller may make {rate} calls in a second: try again after RetryInfo"),
            wait,
        )
    }

    /// Refuses a stream beyond those that the caller may have open.
    pub(super) fn too_many_streams(&self) -> Status {
        let reason = ErrorReason::StreamLimit;
        self.denied(None, reason);
        let streams = self.bounds().open_streams.unwrap_or_default();
        reason.status(format!(
            "this caller may have {streams} streams open: end one, or try again after RetryInfo"
        ))
    }

    /// Refuses what there is no room for in a bound.
    pub(super) fn over_quota(&self, environment: EnvironmentId, over: OverQuota) -> Status {
        let (reason, status) = status::over_quota(over);
        self.denied(Some(environment), reason);
        status
    }

    /// Tells the trail of a refusal.
    fn denied(&self, environment: Option<EnvironmentId>, reason: ErrorReason) {
        self.denials.note(Denial {
            environment,
            who: Who::Caller(self.caller.clone()),
            method: Arc::from(self.method),
            reason: reason.name(),
            policy: Some(Arc::clone(self.policy.version())),
            trace_id: telemetry::trace_id().map(Arc::from),
        });
    }
}
