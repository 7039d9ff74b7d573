//! How the environments stand that this replica sends for: said by the engine, shown to whoever asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};

use super::label::{self, CAUSE, Environments, PRIORITIES};
use crate::{
    device::EnvironmentId,
    job::{Priority, State},
};

/// How the environments stand.
#[derive(Debug)]
pub struct Upstream {
    standing: Arc<Standing>,
    transitions: Counter<u64>,
    retry_after: Histogram<f64>,
}

/// One environment. The pairs are for interactive and bulk jobs.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Jobs that wait.
    pub pending: [u64; 2],
    /// Jobs whose requests are under way.
    pub running: [u64; 2],
    /// How long the one that is due longest has been due.
    pub oldest: [Duration; 2],
    /// Requests at once at most.
    pub in_flight_limit: u64,
    /// Jobs that are claimed and wait for a token or a slot.
    pub staged: u64,
    /// Requests per second now.
    pub rate: f64,
    /// Requests per second after what PingOne taught; nothing: unlimited.
    pub rate_allowed: Option<f64>,
    /// Requests per second as configured; nothing: unlimited.
    pub rate_limit: Option<f64>,
    /// Whether each of [`Cause::ALL`], in that order, keeps it waiting.
    pub blocked: [bool; 4],
}

/// What keeps an environment waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An operator's word.
    Paused,
    /// PingOne's word.
    Throttled,
    /// PingOne fails or cannot be reached.
    CircuitOpen,
    /// PingOne refuses the credential.
    CredentialRefused,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 4] = [Self::Paused, Self::Throttled, Self::CircuitOpen, Self::CredentialRefused];

    fn label(self) -> KeyValue {
        let name = match self {
            Self::Paused => "paused",
            Self::Throttled => "throttled",
            Self::CircuitOpen => "circuit_open",
            Self::CredentialRefused => "credential_refused",
        };
        KeyValue::new(CAUSE, name)
    }
}

/// Environments with a label of their own, and all others in one.
#[derive(Debug, Default)]
struct Standing {
    labels: Environments,
    lines: Mutex<Vec<(KeyValue, Line)>>,
}

#[derive(Debug, Default)]
struct Line {
    sum: Environment,
    blocked: [u64; 4],
}

impl Upstream {
    pub(super) fn new(meter: &Meter) -> Self {
        let standing = Arc::<Standing>::default();
        observe(meter, &standing);
        let upstream = Self {
            standing,
            transitions: meter
                .u64_counter("unblock.upstream.transitions")
                .with_unit("{transition}")
                .with_description("How often an environment began or ceased to be kept waiting, by what")
                .build(),
            retry_after: meter
                .f64_histogram("unblock.upstream.retry_after")
                .with_unit("s")
                .with_description("How long PingOne asked to wait, or we waited where it did not say")
                .with_boundaries(vec![0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0])
                .build(),
        };
        // A counter that is there only from its first event on hides that event from whoever looks for an increase.
        upstream.turn(Cause::Throttled, true, 0);
        for cause in [Cause::CircuitOpen, Cause::CredentialRefused] {
            upstream.turn(cause, true, 0);
            upstream.turn(cause, false, 0);
        }
        upstream
    }

    /// Says how all environments stand that this replica sends for.
    pub fn stand(&self, environments: impl Iterator<Item = (EnvironmentId, Environment)>) {
        let mut lines: BTreeMap<Option<EnvironmentId>, Line> = BTreeMap::new();
        for (id, environment) in environments {
            lines.entry(self.standing.labels.named(id)).or_default().add(&environment);
        }
        let labelled = lines.into_iter().map(|(id, line)| (label::environment(id), line));
        *self.standing.lines() = labelled.collect();
    }

    /// An environment began, or ceased, to be kept waiting.
    pub fn turned(&self, cause: Cause, begins: bool) {
        self.turn(cause, begins, 1);
    }

    fn turn(&self, cause: Cause, begins: bool, times: u64) {
        let transition = if begins { "began" } else { "ended" };
        self.transitions.add(times, &[cause.label(), KeyValue::new("unblock.transition", transition)]);
    }

    /// PingOne's rate limit was met: everything waits so long.
    pub fn throttled(&self, wait: Duration) {
        self.turned(Cause::Throttled, true);
        self.retry_after.record(wait.as_secs_f64(), &[]);
    }
}

impl Line {
    fn add(&mut self, other: &Environment) {
        let sum = &mut self.sum;
        for priority in 0..PRIORITIES.len() {
            sum.pending[priority] += other.pending[priority];
            sum.running[priority] += other.running[priority];
            sum.oldest[priority] = sum.oldest[priority].max(other.oldest[priority]);
        }
        sum.in_flight_limit += other.in_flight_limit;
        sum.staged += other.staged;
        sum.rate += other.rate;
        for (sum, other) in
            [(&mut sum.rate_allowed, other.rate_allowed), (&mut sum.rate_limit, other.rate_limit)]
        {
            *sum = sum.map_or(other, |sum| Some(sum + other.unwrap_or_default()));
        }
        for (count, blocked) in self.blocked.iter_mut().zip(other.blocked) {
            *count += u64::from(blocked);
        }
    }
}

impl Standing {
    fn lines(&self) -> MutexGuard<'_, Vec<(KeyValue, Line)>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[rustfmt::skip]
fn observe(meter: &Meter, standing: &Arc<Standing>) {
    let by_priority = |line: &Line, say: &mut dyn FnMut(Priority, &Line)| {
        PRIORITIES.into_iter().for_each(|priority| say(priority, line));
    };
    gauge(meter, standing, "unblock.queue.jobs", "{job}", "Unfinished jobs", move |line, say| {
        by_priority(line, &mut |priority, line| {
            let index = priority as usize;
            say(number(line.sum.pending[index]), &[label::priority(priority), label::state(State::Pending)]);
            say(number(line.sum.running[index]), &[label::priority(priority), label::state(State::Running)]);
        });
    });
    gauge(meter, standing, "unblock.queue.oldest_age", "s", "How long the job has been due that is due longest", move |line, say| {
        by_priority(line, &mut |priority, line| say(line.sum.oldest[priority as usize].as_secs_f64(), &[label::priority(priority)]));
    });
    gauge(meter, standing, "unblock.upstream.in_flight", "{request}", "Requests to PingOne under way", |line, say| {
        say(number(line.sum.running.iter().sum()), &[]);
    });
    gauge(meter, standing, "unblock.upstream.in_flight.limit", "{request}", "Requests to PingOne at once at most", |line, say| {
        say(number(line.sum.in_flight_limit), &[]);
    });
    gauge(meter, standing, "unblock.upstream.staged", "{job}", "Jobs that are claimed and wait for a token or a slot", |line, say| {
        say(number(line.sum.staged), &[]);
    });
    gauge(meter, standing, "unblock.upstream.rate", "{request}/s", "Requests per second", |line, say| say(line.sum.rate, &[]));
    gauge(meter, standing, "unblock.upstream.rate.allowed", "{request}/s", "Requests per second at most, after what PingOne taught", |line, say| {
        line.sum.rate_allowed.into_iter().for_each(|rate| say(rate, &[]));
    });
    gauge(meter, standing, "unblock.upstream.rate.limit", "{request}/s", "Requests per second at most, as configured", |line, say| {
        line.sum.rate_limit.into_iter().for_each(|rate| say(rate, &[]));
    });
    gauge(meter, standing, "unblock.upstream.blocked", "{environment}", "Environments that are kept waiting, by what", |line, say| {
        for (cause, count) in Cause::ALL.into_iter().zip(line.blocked) {
            say(number(count), &[cause.label()]);
        }
    });
}

/// A gauge whose value is looked up for each line when somebody asks.
fn gauge(
    meter: &Meter,
    standing: &Arc<Standing>,
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    values: impl Fn(&Line, &mut dyn FnMut(f64, &[KeyValue])) + Send + Sync + 'static,
) {
    let standing = Arc::clone(standing);
    meter
        .f64_observable_gauge(name)
        .with_unit(unit)
        .with_description(description)
        .with_callback(move |observer| {
            for (environment, line) in standing.lines().iter() {
                values(line, &mut |value, about| {
                    let all: Vec<KeyValue> = std::iter::once(environment).chain(about).cloned().collect();
                    observer.observe(value, &all);
                });
            }
        })
        .build();
}

/// Counts are far below where an `f64` begins to round.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_without_a_label_of_their_own_are_told_together() {
        let upstream = Upstream::new(&opentelemetry::global::meter("test"));
        let one = Environment {
            pending: [1, 2],
            oldest: [Duration::from_secs(1), Duration::ZERO],
            rate: 0.5,
            rate_limit: Some(20.0),
            blocked: [true, false, false, false],
            ..Environment::default()
        };
        upstream.stand((0..53).map(|number| {
            let id = EnvironmentId::from(uuid::Uuid::from_u128(number));
            let oldest = [Duration::from_secs(u64::try_from(number).unwrap_or_default()), Duration::ZERO];
            (id, Environment { oldest, ..one.clone() })
        }));
        let lines = upstream.standing.lines();
        assert_eq!(lines.len(), 51);
        let other = lines.iter().find(|(label, _)| label.value.as_str() == "other");
        let Some((_, Line { sum, blocked })) = other else { panic!("there is no line for the others") };
        assert_eq!((sum.pending, sum.oldest[0]), ([3, 6], Duration::from_secs(52)));
        assert_eq!((sum.rate, sum.rate_limit, *blocked), (1.5, Some(60.0), [3, 0, 0, 0]));
        drop(lines);
        upstream.stand(std::iter::empty());
        assert!(upstream.standing.lines().is_empty(), "what is another's now is not told any more");
    }
}
