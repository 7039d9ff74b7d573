//! Which faults happen to which requests.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fault::Fault;
use crate::device::{DeviceId, EnvironmentId};

/// Which requests a plan is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// POSTs to a device.
    #[default]
    Post,
    /// Reads of a device or of a user's devices.
    Get,
    /// Both.
    Any,
    /// Requests for a token.
    Token,
}

/// Which faults happen to which requests: the first matching request has the first fault, the next one the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The kind of request.
    #[serde(default)]
    pub on: On,
    /// Only of this environment.
    #[serde(default)]
    pub environment: Option<Uuid>,
    /// Only of this device. Such plans go before wider ones.
    #[serde(default)]
    pub device: Option<Uuid>,
    /// One for each request, in order.
    pub faults: Vec<Fault>,
    /// How often the faults are gone through; none: until they are cleared.
    #[serde(default = "once")]
    pub rounds: Option<u32>,
}

const fn once() -> Option<u32> {
    Some(1)
}

impl Plan {
    /// Once through `faults`, for the POSTs to any device.
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self {
            on: On::Post,
            environment: None,
            device: None,
            faults: faults.into_iter().collect(),
            rounds: once(),
        }
    }

    /// For another kind of request.
    #[must_use]
    pub const fn on(mut self, on: On) -> Self {
        self.on = on;
        self
    }

    /// For one environment only.
    #[must_use]
    pub const fn environment(mut self, environment: EnvironmentId) -> Self {
        self.environment = Some(environment.as_uuid());
        self
    }

    /// For one device only.
    #[must_use]
    pub const fn device(mut self, device: DeviceId) -> Self {
        self.device = Some(device.as_uuid());
        self
    }

    /// Gone through so often.
    #[must_use]
    pub const fn times(mut self, rounds: u32) -> Self {
        self.rounds = Some(rounds);
        self
    }

    /// Gone through again and again, until the faults are cleared.
    #[must_use]
    pub const fn until_cleared(mut self) -> Self {
        self.rounds = None;
        self
    }
}

/// The plans under way.
#[derive(Default)]
pub(super) struct Plans {
    of_device: HashMap<Uuid, Vec<Running>>,
    wide: Vec<Running>,
}

struct Running {
    plan: Plan,
    next: usize,
}

impl Plans {
    pub(super) fn add(&mut self, plan: Plan) {
        if plan.faults.is_empty() || plan.rounds == Some(0) {
            return;
        }
        let plans = match plan.device {
            Some(device) => self.of_device.entry(device).or_default(),
            None => &mut self.wide,
        };
        plans.push(Running { plan, next: 0 });
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The fault of a request that has just arrived: `on` is `Post`, `Get` or `Token`.
    pub(super) fn next(&mut self, on: On, environment: EnvironmentId, device: Option<DeviceId>) -> Fault {
        let own = device.and_then(|device| self.of_device.get_mut(&device.as_uuid()));
        own.and_then(|plans| take(plans, on, environment))
            .or_else(|| take(&mut self.wide, on, environment))
            .unwrap_or_default()
    }
}

fn take(plans: &mut Vec<Running>, on: On, environment: EnvironmentId) -> Option<Fault> {
    let index = plans.iter().position(|Running { plan, .. }| {
        (plan.on == on || (plan.on == On::Any && on != On::Token))
            && plan.environment.is_none_or(|only| only == environment.as_uuid())
    })?;
    let Running { plan, next } = &mut plans[index];
    let fault = plan.faults[*next].clone();
    *next = (*next + 1) % plan.faults.len();
    if *next == 0 {
        plan.rounds = plan.rounds.map(|left| left - 1);
    }
    if plan.rounds == Some(0) {
        plans.remove(index);
    }
    Some(fault)
}
