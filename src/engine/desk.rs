//! What the owner of an environment keeps for it: its gate, its slots, the jobs that are claimed and about to start, and those that
//! wait. Decides who is next. Pure: time is passed in, and what is started is somebody else's.

mod handed;
mod pace;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Limits,
    flow::{Flow, Waiting},
    gate::Gate,
    robin::Robin,
};
use crate::{
    device::{DeviceId, UserId},
    job::{JobId, Priority},
};

pub(super) use handed::{Due, Room, Staged};
use pace::Pace;

/// Claims are made just in time: for what tokens allow this soon …
pub(super) const HORIZON: Duration = Duration::from_millis(250);
/// … and for the slots that will come free this soon.
const SLOTS_AHEAD: Duration = Duration::from_millis(150);
/// Where interactive jobs never end, bulk has one token of so many.
const BULK_EVERY: u32 = 10;
/// One slot of so many is kept for interactive jobs.
const RESERVED: u32 = 8;
/// Jobs of one batch in a row while others wait, at most.
const BATCH_QUANTUM: u32 = 8;
/// A bulk job whose device an interactive job is about to unblock is looked at again after this: by then it is answered.
const ANSWERED_AFTER: Duration = Duration::from_millis(250);
/// The window of a flow: enough for the next claims, bounded for memory.
const WINDOW: std::ops::RangeInclusive<usize> = 32..=2048;

/// One environment, as its owner sees it.
#[derive(Debug)]
pub(super) struct Desk<A> {
    pub(super) limits: Limits,
    pub(super) gate: Gate,
    /// The licence whose rate it shares.
    pub(super) group: Option<Arc<str>>,
    /// Started attempts that wait for a slot of the licence for their second request.
    second_slots: usize,
    /// What is stored of it has been read.
    pub(super) adopted: bool,
    pub(super) flows: BTreeMap<i64, Flow>,
    bulk_turns: Robin<i64>,
    running: [u32; 2],
    /// Of each batch's flows.
    running_of: HashMap<i64, u32>,
    staged: [VecDeque<Staged<A>>; 2],
    /// Promised to jobs that are being recorded.
    admitted: [usize; 2],
    /// Tokens in a row that went to interactive jobs while bulk waited.
    in_a_row: u32,
    ended: Pace,
    timer: Option<Instant>,
    /// Devices that an interactive job is about to unblock.
    answering: HashMap<(UserId, DeviceId), u32>,
}

const fn index(priority: Priority) -> usize {
    match priority {
        Priority::Interactive => 0,
        Priority::Bulk => 1,
    }
}

impl<A> Desk<A> {
    pub(super) fn new(limits: Limits, group: Option<Arc<str>>, now: Instant) -> Self {
        let mut desk = Self {
            limits,
            gate: Gate::new(limits, group.is_some(), now),
            group,
            second_slots: 0,
            adopted: false,
            flows: BTreeMap::new(),
            bulk_turns: Robin::new(BATCH_QUANTUM),
            running: [0; 2],
            running_of: HashMap::new(),
            staged: [VecDeque::new(), VecDeque::new()],
            admitted: [0; 2],
            in_a_row: 0,
            ended: Pace::default(),
            timer: None,
            answering: HashMap::new(),
        };
        desk.open_flow(Priority::Interactive.flow());
        desk.open_flow(Priority::Bulk.flow());
        desk
    }

    /// The flow of that number, which takes part from now on.
    pub(super) fn open_flow(&mut self, flow: i64) -> &mut Flow {
        if Priority::of_flow(flow) == Priority::Bulk {
            self.bulk_turns.enter(flow);
        }
        // Whether a batch may be sent says who keeps batches.
        self.flows.entry(flow).or_insert_with(|| Flow::unread(flow <= Priority::Bulk.flow()))
    }

    /// How many jobs may be claimed now. Bulk is claimed in strides, so that a claim is worth its statement.
    pub(super) fn room(&mut self, now: Instant) -> Room {
        let places = self.gate.places(now, now + HORIZON) as usize;
        let slots = self.limits.max_in_flight.saturating_sub(self.in_flight()) as usize;
        let target = places.min(slots + self.ended.expected(now, SLOTS_AHEAD));
        let [interactive, bulk] = [0, 1].map(|kind| self.staged[kind].len() + self.admitted[kind]);
        let (all, enough) = (interactive + bulk, target.div_ceil(2));
        let stride = match (target, bulk) {
            (0, _) => 0,
            // Also where interactive jobs take all there is: the tenth token is bulk's.
            (_, 0) => target.saturating_sub(all).max(1),
            _ if all >= enough => 0,
            _ => target - all,
        };
        Room { interactive: target.saturating_sub(interactive), bulk: stride }
    }

    /// Takes the next job that waits, within `room`. Those past their time go to `expired`.
    pub(super) fn pop(&mut self, now: Instant, room: &mut Room, expired: &mut Vec<JobId>) -> Option<Waiting> {
        while room.interactive > 0
            && let Some(waiting) = self.flows.get_mut(&0).and_then(|flow| flow.pop(now))
        {
            if waiting.expires <= now {
                expired.push(waiting.id);
                continue;
            }
            room.interactive -= 1;
            return Some(waiting);
        }
        while room.bulk > 0 {
            let flows = &mut self.flows;
            let cost = |flow| flows.get_mut(&flow)?.first(now).map(|waiting| 1 + u32::from(waiting.repeated));
            let flow = self.bulk_turns.pick(cost)?;
            let flow = self.flows.get_mut(&flow)?;
            let waiting = flow.pop(now)?;
            if waiting.expires <= now {
                expired.push(waiting.id);
            } else if self.answering.contains_key(&(waiting.device.user, waiting.device.device)) {
                flow.park(waiting, now + ANSWERED_AFTER);
            } else {
                room.bulk -= 1;
                return Some(waiting);
            }
        }
        None
    }

    /// Promises a place to a job that is being recorded, if it could start at once: nothing waits before it.
    pub(super) fn admit(&mut self, priority: Priority, now: Instant) -> bool {
        if !self.adopted || !self.flows.get(&priority.flow()).is_some_and(Flow::is_idle) {
            return false;
        }
        let room = self.room(now);
        let room = match priority {
            Priority::Interactive => room.interactive,
            Priority::Bulk if self.has_bulk() => 0,
            Priority::Bulk => room.bulk,
        };
        self.admitted[index(priority)] += usize::from(room > 0);
        room > 0
    }

    /// The promise is kept or not needed any more.
    pub(super) fn settle(&mut self, priority: Priority) {
        let admitted = &mut self.admitted[index(priority)];
        *admitted = admitted.saturating_sub(1);
    }

    /// A claimed job waits to start. Bulk jobs about to start for the same device make way: given back, they are answered by it.
    #[must_use]
    pub(super) fn stage(&mut self, staged: Staged<A>, priority: Priority) -> Vec<A> {
        let mut made_way = Vec::new();
        if priority == Priority::Interactive && staged.target.1 != DeviceId::EVERY {
            *self.answering.entry(staged.target).or_default() += 1;
            let bulk = &mut self.staged[index(Priority::Bulk)];
            if bulk.iter().any(|other| other.target == staged.target) {
                let (same, others) =
                    std::mem::take(bulk).into_iter().partition(|other| other.target == staged.target);
                *bulk = others;
                let same: VecDeque<Staged<A>> = same;
                made_way = same.into_iter().map(|other| other.attempt).collect();
            }
        }
        self.staged[index(priority)].push_back(staged);
        made_way
    }

    /// An interactive job is settled: bulk jobs for the same device need not wait for it.
    pub(super) fn answered(&mut self, target: (UserId, DeviceId)) {
        if let Some(count) = self.answering.get_mut(&target) {
            *count -= 1;
            if *count == 0 {
                self.answering.remove(&target);
            }
        }
    }

    /// What is to be done now. With `may_start` false, nothing starts.
    pub(super) fn due(&mut self, now: Instant, may_start: bool) -> Due<A> {
        let mut due = Due { start: Vec::new(), late: Vec::new(), wake: None, hungry: false };
        for staged in &mut self.staged {
            while staged.front().is_some_and(|first| !may_start || first.start_by <= now) {
                due.late.extend(staged.pop_front().map(|first| first.attempt));
            }
        }
        let mut opens = None;
        while let Some(priority) = self.next() {
            opens = self.gate.opens(now);
            if opens.is_none_or(|at| at > now) {
                break;
            }
            let started = self.gate.take(now);
            let Some(staged) = self.staged[index(priority)].pop_front() else { break };
            self.running[index(priority)] += 1;
            let passed_over = priority == Priority::Interactive && self.has_bulk();
            self.in_a_row = if passed_over { self.in_a_row + 1 } else { 0 };
            due.start.push((staged.attempt, started, priority));
        }
        // Where tokens are further apart than the horizon, nothing can be claimed yet: but whoever claims is to know when.
        let runs_dry = !due.start.is_empty() && self.staged() == 0 && self.flows.values().any(Flow::has_more);
        due.hungry = runs_dry || self.is_hungry(now);
        let firsts = self.staged.iter().filter_map(|staged| staged.front().map(|first| first.start_by));
        let wake = firsts.chain(opens.filter(|at| *at > now)).min();
        if let Some(at) = wake.filter(|at| self.timer.is_none_or(|timer| *at < timer || timer <= now)) {
            self.timer = Some(at);
            due.wake = Some(at);
        }
        due
    }

    /// Takes those of the staged jobs back that `of` holds for.
    pub(super) fn take_back(&mut self, of: impl Fn(&A) -> bool) -> Vec<A> {
        let mut taken = Vec::new();
        for staged in &mut self.staged {
            let (back, stay): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(staged).into_iter().partition(|staged| of(&staged.attempt));
            *staged = stay;
            taken.extend(back.into_iter().map(|staged| staged.attempt));
        }
        taken
    }

    /// A request for a job of `flow` began.
    pub(super) fn began(&mut self, flow: i64) {
        if flow > Priority::Bulk.flow() {
            *self.running_of.entry(flow).or_default() += 1;
        }
    }

    /// A request for a job of `flow` ended.
    pub(super) fn ended(&mut self, flow: i64) {
        if let Some(count) = self.running_of.get_mut(&flow) {
            *count -= 1;
            if *count == 0 {
                self.running_of.remove(&flow);
            }
        }
    }

    /// Requests for jobs of `flow` that have started and not ended.
    pub(super) fn running_of(&self, flow: i64) -> u32 {
        self.running_of.get(&flow).copied().unwrap_or_default()
    }

    /// Takes the staged jobs back: nothing of this environment starts here any more.
    pub(super) fn give_up(&mut self) -> Vec<A> {
        self.staged.iter_mut().flat_map(std::mem::take).map(|staged| staged.attempt).collect()
    }

    /// A request ended.
    pub(super) fn release(&mut self, priority: Priority, now: Instant) {
        let running = &mut self.running[index(priority)];
        *running = running.saturating_sub(1);
        self.ended.count(now);
    }

    /// Requests that have started and not ended: interactive, bulk.
    pub(super) const fn running(&self) -> [u32; 2] {
        self.running
    }

    /// Requests that have started and not ended.
    pub(super) fn in_flight(&self) -> u32 {
        self.running.iter().sum()
    }

    /// Jobs that are claimed and have not started.
    pub(super) fn staged(&self) -> usize {
        self.staged.iter().map(VecDeque::len).sum()
    }

    /// A started attempt waits for a slot of the licence.
    pub(super) const fn wants_slot(&mut self) {
        self.second_slots += 1;
    }

    /// How many slots of the licence could be used now, beyond those in hand.
    pub(super) fn slots_wanted(&mut self, now: Instant) -> usize {
        let seconds = std::mem::take(&mut self.second_slots);
        if self.gate.is_shut(now) && self.gate.places(now, now + HORIZON) == 0 {
            return 0;
        }
        (self.staged() + seconds).saturating_sub(self.gate.slots(now))
    }

    /// Whether more should be claimed now.
    pub(super) fn is_hungry(&mut self, now: Instant) -> bool {
        let waits = |flow: &Flow| flow.has_more() || flow.ripens().is_some_and(|at| at <= now);
        let (interactive, bulk) =
            self.flows.iter().fold((false, false), |(interactive, bulk), (flow, waiting)| {
                match Priority::of_flow(*flow) {
                    Priority::Interactive => (interactive || waits(waiting), bulk),
                    Priority::Bulk => (interactive, bulk || waits(waiting)),
                }
            });
        if !interactive && !bulk {
            return false;
        }
        let room = self.room(now);
        (interactive && room.interactive > 0) || (bulk && room.bulk > 0)
    }

    /// Whether bulk jobs wait that may be sent, as far as is known here.
    pub(super) fn has_bulk(&self) -> bool {
        !self.staged[index(Priority::Bulk)].is_empty()
            || self.flows.range(Priority::Bulk.flow()..).any(|(_, flow)| flow.is_open() && !flow.is_empty())
    }

    /// Whether bulk jobs wait, those of paused batches too.
    pub(super) fn knows_bulk(&self) -> bool {
        self.has_bulk() || self.flows.range(Priority::Bulk.flow()..).any(|(_, flow)| !flow.is_empty())
    }

    /// How many jobs each flow's window should hold.
    pub(super) fn window(&mut self, now: Instant) -> usize {
        let room = self.room(now);
        (room.bulk.max(room.interactive) * 2 + self.ended.expected(now, SLOTS_AHEAD))
            .clamp(*WINDOW.start(), *WINDOW.end())
    }

    /// Forgets batches of which nothing is left.
    pub(super) fn close_flows(&mut self) {
        self.flows.retain(|flow, waiting| *flow <= Priority::Bulk.flow() || !waiting.is_empty());
        let flows = &self.flows;
        self.bulk_turns.retain(|flow| flows.contains_key(&flow));
    }

    /// The next to start, if a slot is free for it.
    fn next(&self) -> Option<Priority> {
        let max = self.limits.max_in_flight;
        let reserved = if max >= 2 { (max / RESERVED).max(1) } else { 0 };
        let free = self.in_flight() < max;
        let free_for_bulk = free && self.running[index(Priority::Bulk)] < max - reserved;
        let interactive = free && !self.staged[index(Priority::Interactive)].is_empty();
        let bulk = free_for_bulk && !self.staged[index(Priority::Bulk)].is_empty();
        match (interactive, bulk) {
            (true, true) if self.in_a_row + 1 >= BULK_EVERY => Some(Priority::Bulk),
            (true, _) => Some(Priority::Interactive),
            (false, true) => Some(Priority::Bulk),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests;
