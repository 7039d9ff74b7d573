//! The desks of all environments that this process schedules, and whose turn it is where they compete for what the process has. Pure.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{desk::Desk, flow::Waiting, robin::Robin, routes::Route, send::Attempt};
use crate::{
    device::{EnvironmentId, Lane},
    job::JobId,
};

/// Jobs of one environment in a row while others wait, at most.
const ENVIRONMENT_QUANTUM: u32 = 8;

/// Every environment of the lanes that are ours.
#[derive(Debug)]
pub(super) struct Board {
    desks: HashMap<EnvironmentId, Desk<Attempt>>,
    turns: Robin<EnvironmentId>,
}

/// What one look at the board picked to be claimed.
#[derive(Debug, Default)]
pub(super) struct Picked {
    pub(super) jobs: Vec<Waiting>,
    /// Past their time.
    pub(super) expired: Vec<JobId>,
    /// Look again then.
    pub(super) again: Option<Instant>,
}

impl Board {
    pub(super) fn new() -> Self {
        Self { desks: HashMap::new(), turns: Robin::new(ENVIRONMENT_QUANTUM) }
    }

    pub(super) fn get_mut(&mut self, environment: EnvironmentId) -> Option<&mut Desk<Attempt>> {
        self.desks.get_mut(&environment)
    }

    /// The desk of `environment`, set up if there is none.
    pub(super) fn desk(
        &mut self,
        environment: EnvironmentId,
        route: &Route,
        now: Instant,
    ) -> &mut Desk<Attempt> {
        self.turns.enter(environment);
        self.desks
            .entry(environment)
            .or_insert_with(|| Desk::new(route.limits, route.limit_group.clone(), now))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (EnvironmentId, &mut Desk<Attempt>)> {
        self.desks.iter_mut().map(|(environment, desk)| (*environment, desk))
    }

    /// Something may be there to read in these lanes.
    pub(super) fn hint(&mut self, hinted: impl Fn(Lane) -> bool, anew: bool) {
        for (_, desk) in self.desks.iter_mut().filter(|(environment, _)| hinted(environment.lane())) {
            for flow in desk.flows.values_mut() {
                if anew { flow.read_anew() } else { flow.hint() }
            }
        }
    }

    /// Picks up to `at_most` jobs to be claimed, the environments in turn.
    pub(super) fn pick(&mut self, now: Instant, at_most: usize) -> Picked {
        let mut picked = Picked::default();
        let mut rooms = HashMap::new();
        let mut next: HashMap<EnvironmentId, Waiting> = HashMap::new();
        let (desks, turns) = (&mut self.desks, &mut self.turns);
        while picked.jobs.len() < at_most {
            let expired = &mut picked.expired;
            let turn = turns.pick(|environment| {
                if next.contains_key(&environment) {
                    return Some(1);
                }
                let desk = desks.get_mut(&environment)?;
                let room = rooms.entry(environment).or_insert_with(|| desk.room(now));
                next.insert(environment, desk.pop(now, room, expired)?);
                Some(1)
            });
            let Some(waiting) = turn.and_then(|environment| next.remove(&environment)) else { break };
            picked.jobs.push(waiting);
        }
        // What was looked at in vain goes back.
        for (environment, waiting) in next {
            if let Some(desk) = desks.get_mut(&environment) {
                desk.open_flow(waiting.flow).insert(waiting);
            }
        }
        for desk in desks.values_mut() {
            let ripens = desk.flows.values().filter_map(super::flow::Flow::ripens).min();
            let waits = desk.flows.values().any(super::flow::Flow::has_more);
            let opens = if waits { desk.gate.opens_about(now) } else { None };
            // A gate that opens beyond the horizon is looked at when it comes into it.
            let opens = opens.and_then(|at| at.checked_sub(super::desk::HORIZON)).filter(|at| *at > now);
            picked.again = [picked.again, ripens, opens].into_iter().flatten().min();
        }
        picked
    }

    /// Gives the desks up for which `gone` holds; says what was claimed there and has not started.
    pub(super) fn give_up(&mut self, gone: impl Fn(Lane) -> bool) -> Vec<Attempt> {
        let mut staged = Vec::new();
        self.desks.retain(|environment, desk| {
            let stays = !gone(environment.lane());
            if !stays {
                staged.append(&mut desk.give_up());
            }
            stays
        });
        let desks = &self.desks;
        self.turns.retain(|environment| desks.contains_key(&environment));
        staged
    }
}
