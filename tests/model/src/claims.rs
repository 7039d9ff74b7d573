//! The life of jobs between replicas, Postgres and PingOne, as a machine of states. Time is in ticks; a replica whose lane is gone may
//! still believe that it has it, so any replica may try anything: hand-overs need no step of their own.

use std::collections::BTreeSet;

use stateright::{Model, Property, Representative};

const REPLICAS: usize = 2;
const JOBS: usize = 2;

/// From claiming to the last moment at which its request may start; from there to its answer or abandonment, at most; what a run has.
const SEND_WINDOW: u8 = 1;
const DEADLINE: u8 = 1;
const LEASE: u8 = SEND_WINDOW + DEADLINE;
const TIME_TO_LIVE: u8 = 3;
const ATTEMPTS: u8 = 2;

/// What is left out, to see that it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// A result is taken from whoever claimed some attempt of the run.
    NoAttemptFence,
    /// A result is taken whichever run it is of.
    CompletedById,
    /// A lease ends before the attempt must have.
    ShortLease,
    /// A request starts when its claim was asked for, not when it was granted.
    SentBeforeCommit,
    /// A claim is good however late its request starts.
    NoSendWindow,
    /// Cancelling is told to be settled at once.
    CancelSettledAtOnce,
    /// A call is answered before its job is committed.
    AnsweredBeforeCommit,
}

/// What may happen, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claims {
    pub(crate) broken: Broken,
    pub(crate) ticks: u8,
    pub(crate) faults: u8,
    /// So many of the jobs may be cancelled, given back and redriven; the others just go their way.
    pub(crate) steered: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Call {
    New,
    Asked(usize),
    Answered,
}

/// The row of an unfinished job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Ready {
    run: u8,
    attempt: u8,
    lease_until: u8,
    expires_at: u8,
    cancel: bool,
}

/// A request at PingOne. Nobody hears how one ended whose replica is gone; PingOne goes on with it for as long as it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Post {
    by: Option<usize>,
    run: u8,
    attempt: u8,
    ends: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Job {
    call: Call,
    ready: Option<Ready>,
    /// One for each run that ended.
    pub(crate) ends: Vec<End>,
    posts: BTreeSet<Post>,
    /// Since when nothing may start, as the canceller was told.
    settled: Option<u8>,
    cancelled: bool,
}

/// What a replica does for a job. What it has asked Postgres for is carried out at any later moment, and answered then: a replica that is
/// slow to hear, or to act on it, is one that waits with its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Task {
    Idle,
    Submits { asked: u8 },
    Claims { run: u8, attempt: u8, asked: u8 },
    Claimed { run: u8, attempt: u8, start_by: u8, expires_at: u8 },
    Sends { run: u8, attempt: u8 },
    Knows { run: u8, attempt: u8, ok: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Up {
    Runs,
    Frozen,
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Replica {
    up: Up,
    tasks: [Task; JOBS],
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wrong {
    Overlap,
    AfterTheEnd,
    AfterItsTime,
    AfterTheCancel,
    LateAnswer,
    Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct State {
    now: u8,
    faults: u8,
    replicas: [Replica; REPLICAS],
    pub(crate) jobs: [Job; JOBS],
    pub(crate) wrong: Option<Wrong>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Tick,
    Call(usize, usize),
    Claim(usize, usize),
    /// What a replica asked Postgres for takes effect.
    CarryOut(usize, usize),
    Start(usize, usize),
    Answer(usize, bool),
    Save(usize, usize),
    GiveBack(usize, usize),
    Cancel(usize),
    Sweep(usize),
    Redrive(usize),
    Crash(usize),
    Freeze(usize),
    Thaw(usize),
}

/// The replicas are alike: what differs by their numbers alone is looked at once.
impl Representative for State {
    fn representative(&self) -> Self {
        let mut other = self.clone();
        other.replicas.reverse();
        let turned = |replica: usize| REPLICAS - 1 - replica;
        for job in &mut other.jobs {
            if let Call::Asked(by) = job.call {
                job.call = Call::Asked(turned(by));
            }
            job.posts = job.posts.iter().map(|post| Post { by: post.by.map(turned), ..*post }).collect();
        }
        other.min(self.clone())
    }
}

impl Wrong {
    /// The promise that it breaks.
    pub(crate) const fn denied(self) -> &'static str {
        match self {
            Self::Overlap => "no request overlaps another for the same job",
            Self::AfterTheEnd => "no request starts after the end of its run",
            Self::AfterItsTime => "no request starts after the job's time",
            Self::AfterTheCancel => "no request starts after a cancel was said to be settled",
            Self::LateAnswer => "no answer to another attempt changes a job",
            Self::Lost => "nothing acknowledged is lost",
        }
    }
}

impl Job {
    const fn recorded(&self) -> bool {
        self.ready.is_some() || !self.ends.is_empty()
    }

    fn end(&mut self, end: End) {
        self.ready = None;
        self.ends.push(end);
    }

    /// The run that goes on, or went last.
    fn run(&self) -> u8 {
        u8::try_from(self.ends.len()).unwrap_or(u8::MAX) + u8::from(self.ready.is_some())
    }
}

impl Claims {
    fn lease(self) -> u8 {
        if self.broken == Broken::ShortLease { LEASE - 1 } else { LEASE }
    }

    fn may_start(self, state: &State, replica: usize, job: usize) -> Option<(u8, u8)> {
        match state.replicas[replica].tasks[job] {
            Task::Claimed { run, attempt, start_by, expires_at } => {
                let in_time = state.now <= start_by || self.broken == Broken::NoSendWindow;
                (in_time && state.now < expires_at).then_some((run, attempt))
            }
            Task::Claims { run, attempt, .. } if self.broken == Broken::SentBeforeCommit => {
                Some((run, attempt + 1))
            }
            _ => None,
        }
    }

    fn start(state: &mut State, by: usize, job: usize, run: u8, attempt: u8) {
        let now = state.now;
        let of = &mut state.jobs[job];
        let late = of.ready.is_some_and(|ready| ready.run == run && now >= ready.expires_at);
        state.wrong = match () {
            () if !of.posts.is_empty() => Some(Wrong::Overlap),
            () if of.ends.len() >= usize::from(run) => Some(Wrong::AfterTheEnd),
            () if late => Some(Wrong::AfterItsTime),
            () if of.settled.is_some_and(|settled| now > settled) => Some(Wrong::AfterTheCancel),
            () => state.wrong,
        };
        of.posts.insert(Post { by: Some(by), run, attempt, ends: now + DEADLINE });
        state.replicas[by].tasks[job] = Task::Sends { run, attempt };
    }

    /// The replica learns how its request went, if it still lives.
    fn learn(state: &mut State, job: usize, post: Post, ok: bool) {
        let Post { by, run, attempt, .. } = post;
        state.jobs[job].posts.remove(&post);
        if let Some(by) = by {
            state.replicas[by].tasks[job] = Task::Knows { run, attempt, ok };
        }
    }

    fn carry_out(self, state: &mut State, by: usize, job: usize) -> Option<()> {
        let (now, lease_until) = (state.now, state.now + self.lease());
        let of = &mut state.jobs[job];
        let task = &mut state.replicas[by].tasks[job];
        match *task {
            Task::Submits { asked } => {
                of.call = Call::Answered;
                *task = Task::Idle;
                if !of.recorded() {
                    let (start_by, expires_at) = (asked + SEND_WINDOW, now + TIME_TO_LIVE);
                    of.ready = Some(Ready { run: 1, attempt: 1, lease_until, expires_at, cancel: false });
                    *task = Task::Claimed { run: 1, attempt: 1, start_by, expires_at };
                }
            }
            Task::Claims { run, attempt, asked } => {
                *task = Task::Idle;
                if let Some(ready) = of.ready.as_mut().filter(|ready| {
                    let seen = (ready.run, ready.attempt) == (run, attempt);
                    seen && ready.lease_until <= now && now < ready.expires_at && !ready.cancel
                }) {
                    (ready.attempt, ready.lease_until) = (attempt + 1, lease_until);
                    let (start_by, expires_at) = (asked + SEND_WINDOW, ready.expires_at);
                    *task = Task::Claimed { run, attempt: attempt + 1, start_by, expires_at };
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn save(self, state: &mut State, by: usize, job: usize) -> Option<()> {
        let Task::Knows { run, attempt, ok } = state.replicas[by].tasks[job] else { return None };
        state.replicas[by].tasks[job] = Task::Idle;
        let of = &mut state.jobs[job];
        let holds = |ready: &Ready| match self.broken {
            Broken::CompletedById => true,
            Broken::NoAttemptFence => ready.run == run,
            _ => (ready.run, ready.attempt) == (run, attempt),
        };
        let Some(ready) = of.ready.as_mut().filter(|ready| holds(ready)) else { return Some(()) };
        if (ready.run, ready.attempt) != (run, attempt) {
            state.wrong = Some(Wrong::LateAnswer);
        }
        match (ok, ready.cancel) {
            (true, _) => of.end(End::Succeeded),
            (false, true) => of.end(End::Cancelled),
            (false, false) if ready.attempt >= ATTEMPTS => of.end(End::Failed),
            (false, false) => ready.lease_until = state.now,
        }
        Some(())
    }

    fn give_back(state: &mut State, by: usize, job: usize) -> Option<()> {
        let Task::Claimed { run, attempt, .. } = state.replicas[by].tasks[job] else { return None };
        state.replicas[by].tasks[job] = Task::Idle;
        if let Some(ready) =
            state.jobs[job].ready.as_mut().filter(|ready| (ready.run, ready.attempt) == (run, attempt))
        {
            ready.lease_until = state.now;
        }
        Some(())
    }

    fn crash(state: &mut State, by: usize) {
        state.faults -= 1;
        state.replicas[by] = Replica { up: Up::Down, tasks: [Task::Idle; JOBS] };
        for of in &mut state.jobs {
            let posts =
                of.posts.iter().map(|post| Post { by: post.by.filter(|replica| *replica != by), ..*post });
            of.posts = posts.collect();
            if of.call == Call::Answered && !of.recorded() {
                state.wrong = Some(Wrong::Lost);
            }
        }
    }

    /// What a replica that runs has claimed and may start no more, it forgets.
    fn forget(self, state: &mut State) {
        for replica in 0..REPLICAS {
            for job in 0..JOBS {
                let claimed = matches!(state.replicas[replica].tasks[job], Task::Claimed { .. });
                if state.replicas[replica].up == Up::Runs
                    && claimed
                    && self.may_start(state, replica, job).is_none()
                {
                    state.replicas[replica].tasks[job] = Task::Idle;
                }
            }
        }
    }

    /// From any replica: a plain write, and its answer at once.
    fn cancel(self, state: &mut State, job: usize) {
        let now = state.now;
        let of = &mut state.jobs[job];
        of.cancelled = true;
        let Some(ready) = &mut of.ready else { return };
        if ready.lease_until <= now {
            of.end(End::Cancelled);
            of.settled = Some(now);
        } else {
            ready.cancel = true;
            let settled = ready.lease_until - self.lease() + SEND_WINDOW;
            of.settled =
                Some(if self.broken == Broken::CancelSettledAtOnce { now } else { settled.max(now) });
        }
    }

    fn of_replica(self, state: &State, replica: usize, actions: &mut Vec<Action>) {
        for (job, of) in state.jobs.iter().enumerate() {
            let task = state.replicas[replica].tasks[job];
            match task {
                Task::Idle => {
                    let calls = match of.call {
                        Call::New => true,
                        // Its answer was lost.
                        Call::Asked(by) => state.replicas[by].up == Up::Down,
                        Call::Answered => false,
                    };
                    let due = |ready: &Ready| {
                        ready.lease_until <= state.now && state.now < ready.expires_at && !ready.cancel
                    };
                    if calls {
                        actions.push(Action::Call(replica, job));
                    }
                    if of.ready.as_ref().is_some_and(due) {
                        actions.push(Action::Claim(replica, job));
                    }
                }
                Task::Claimed { .. } if job < self.steered => actions.push(Action::GiveBack(replica, job)),
                Task::Knows { .. } => actions.push(Action::Save(replica, job)),
                Task::Submits { .. } | Task::Claims { .. } | Task::Claimed { .. } | Task::Sends { .. } => {}
            }
            if self.may_start(state, replica, job).is_some() {
                actions.push(Action::Start(replica, job));
            }
        }
    }
}

impl Model for Claims {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let job = Job {
            call: Call::New,
            ready: None,
            ends: Vec::new(),
            posts: BTreeSet::new(),
            settled: None,
            cancelled: false,
        };
        let replica = Replica { up: Up::Runs, tasks: [Task::Idle; JOBS] };
        vec![State {
            now: 0,
            faults: self.faults,
            replicas: std::array::from_fn(|_| replica.clone()),
            jobs: std::array::from_fn(|_| job.clone()),
            wrong: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // What follows a mistake says nothing new; and what was given back could be claimed for ever.
        let worn = |job: &Job| job.ready.is_some_and(|ready| ready.attempt > ATTEMPTS);
        if state.wrong.is_some() || state.jobs.iter().any(worn) {
            return;
        }
        if state.now < self.ticks {
            actions.push(Action::Tick);
        }
        for (replica, of) in state.replicas.iter().enumerate() {
            for (job, task) in of.tasks.iter().enumerate() {
                if matches!(task, Task::Submits { .. } | Task::Claims { .. }) {
                    actions.push(Action::CarryOut(replica, job));
                }
            }
            match of.up {
                Up::Runs => self.of_replica(state, replica, actions),
                Up::Frozen => actions.push(Action::Thaw(replica)),
                Up::Down => {}
            }
            if of.up == Up::Runs && state.faults > 0 {
                actions.extend([Action::Crash(replica), Action::Freeze(replica)]);
            }
        }
        for (job, of) in state.jobs.iter().enumerate() {
            if of.posts.iter().any(|post| post.by.is_some()) {
                actions.extend([Action::Answer(job, true), Action::Answer(job, false)]);
            }
            if job < self.steered && of.call == Call::Answered && !of.cancelled {
                actions.push(Action::Cancel(job));
            }
            if of.ready.is_some_and(|ready| {
                ready.lease_until <= state.now && (ready.cancel || state.now >= ready.expires_at)
            }) {
                actions.push(Action::Sweep(job));
            }
            let mendable = matches!(of.ends.last(), Some(End::Failed | End::Expired));
            if job < self.steered && of.ready.is_none() && of.ends.len() == 1 && mendable {
                actions.push(Action::Redrive(job));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let now = state.now;
        match action {
            Action::Tick => {
                state.now += 1;
                for job in 0..JOBS {
                    let over: Vec<Post> =
                        state.jobs[job].posts.iter().copied().filter(|post| post.ends <= state.now).collect();
                    over.into_iter().for_each(|post| Self::learn(&mut state, job, post, false));
                }
                self.forget(&mut state);
            }
            Action::Call(by, job) => {
                let early = self.broken == Broken::AnsweredBeforeCommit;
                state.jobs[job].call = if early { Call::Answered } else { Call::Asked(by) };
                state.replicas[by].tasks[job] = Task::Submits { asked: now };
            }
            Action::Claim(by, job) => {
                let Ready { run, attempt, .. } = state.jobs[job].ready?;
                state.replicas[by].tasks[job] = Task::Claims { run, attempt, asked: now };
            }
            Action::CarryOut(by, job) => self.carry_out(&mut state, by, job)?,
            Action::Start(by, job) => {
                let (run, attempt) = self.may_start(&state, by, job)?;
                Self::start(&mut state, by, job, run, attempt);
            }
            Action::Answer(job, ok) => {
                let post = *state.jobs[job].posts.iter().find(|post| post.by.is_some())?;
                Self::learn(&mut state, job, post, ok);
            }
            Action::Save(by, job) => self.save(&mut state, by, job)?,
            Action::GiveBack(by, job) => Self::give_back(&mut state, by, job)?,
            Action::Cancel(job) => self.cancel(&mut state, job),
            Action::Sweep(job) => {
                let of = &mut state.jobs[job];
                let cancel = of.ready?.cancel;
                of.end(if cancel { End::Cancelled } else { End::Expired });
            }
            Action::Redrive(job) => {
                let of = &mut state.jobs[job];
                let (run, expires_at) = (of.run() + 1, now + TIME_TO_LIVE);
                of.ready = Some(Ready { run, attempt: 0, lease_until: now, expires_at, cancel: false });
                of.settled = None;
            }
            Action::Crash(by) => Self::crash(&mut state, by),
            Action::Freeze(by) => {
                state.faults -= 1;
                state.replicas[by].up = Up::Frozen;
            }
            Action::Thaw(by) => {
                state.replicas[by].up = Up::Runs;
                self.forget(&mut state);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let never = |wrong: Wrong, condition| Property::always(wrong.denied(), condition);
        vec![
            never(Wrong::Overlap, |_, state: &State| state.wrong != Some(Wrong::Overlap)),
            never(Wrong::AfterTheEnd, |_, state: &State| state.wrong != Some(Wrong::AfterTheEnd)),
            never(Wrong::AfterItsTime, |_, state: &State| state.wrong != Some(Wrong::AfterItsTime)),
            never(Wrong::AfterTheCancel, |_, state: &State| state.wrong != Some(Wrong::AfterTheCancel)),
            never(Wrong::LateAnswer, |_, state: &State| state.wrong != Some(Wrong::LateAnswer)),
            never(Wrong::Lost, |_, state: &State| state.wrong != Some(Wrong::Lost)),
            Property::sometimes("all succeed", |_, state: &State| {
                state.jobs.iter().all(|job| job.ends.last() == Some(&End::Succeeded))
            }),
            Property::sometimes("one fails", |_, state: &State| {
                state.jobs.iter().any(|job| job.ends.contains(&End::Failed))
            }),
            Property::sometimes("one expires", |_, state: &State| {
                state.jobs.iter().any(|job| job.ends.contains(&End::Expired))
            }),
            Property::sometimes("one is cancelled", |_, state: &State| {
                state.jobs.iter().any(|job| job.ends.contains(&End::Cancelled))
            }),
            Property::sometimes("a redriven one succeeds", |_, state: &State| {
                state.jobs.iter().any(|job| job.ends.len() == 2 && job.ends[1] == End::Succeeded)
            }),
            Property::sometimes("one succeeds though a replica is lost", |_, state: &State| {
                state.faults == 0 && state.jobs.iter().any(|job| job.ends.contains(&End::Succeeded))
            }),
        ]
    }
}
