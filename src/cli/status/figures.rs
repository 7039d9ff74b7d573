//! What the environments say, added up page by page: a screenful of them is kept, however many there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use time::OffsetDateTime;

use crate::{
    cli::table::instant,
    proto::v1::{Environment, ListEnvironmentsResponse, environment::State},
};

/// Owners publish once a second. What is older nobody stands for.
const FRESH_FOR: time::Duration = time::Duration::seconds(10);
/// A person who waits longer than this has hung up.
const LATE_AFTER: Duration = Duration::from_secs(30);
/// Of the rate that is allowed, from here on it is the rate that is waited for.
const NEARLY_ALL: f64 = 0.9;
/// More than a screen holds.
const WORST_KEPT: usize = 24;
/// In so many environments is looked for open batches.
const LOOKED_AT_FOR_BATCHES: usize = 200;

/// What is wrong with an environment, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// Jobs wait, and no replica sends for it.
    NoOwner,
    CredentialRefused,
    Unreachable,
    Throttled,
    Paused,
    /// A person waits too long, though it is sent to.
    Late,
    /// Jobs wait for the rate that is allowed.
    AtRate,
}

/// How many have the trouble, and the one of them whose job is due longest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) worst: Environment,
}

/// Environments by the state that the server tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct States {
    pub(super) sending: u64,
    pub(super) paused: u64,
    pub(super) throttled: u64,
    pub(super) unreachable: u64,
    pub(super) credential_refused: u64,
    /// A newer server knows more states.
    pub(super) other: u64,
}

/// What waits, and how fast it goes, where that is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Queue {
    pub(super) interactive: i64,
    pub(super) bulk: i64,
    pub(super) in_flight: i64,
    pub(super) rate: f64,
    /// Of the environments that work; those without a limit left out.
    pub(super) allowed: f64,
    pub(super) unlimited: bool,
    pub(super) oldest: Option<Duration>,
    /// Environments whose figures are too old to count.
    pub(super) unknown: u64,
}

/// All environments.
#[derive(Debug, Clone, Default)]
pub(super) struct Environments {
    pub(super) count: u64,
    pub(super) states: States,
    pub(super) everything_paused: Option<String>,
    pub(super) troubles: BTreeMap<Trouble, Tally>,
    pub(super) queue: Queue,
    owners: HashSet<String>,
    /// Those that are not sent to or where jobs wait; the worst of them.
    pub(super) remarkable: u64,
    worst: Vec<Environment>,
    most_bulk: Vec<(i64, String)>,
}

impl Environments {
    /// Adds a page, as it was told at `now`.
    pub(super) fn add(&mut self, page: ListEnvironmentsResponse, now: OffsetDateTime) {
        if page.all_paused {
            self.everything_paused = Some(page.all_paused_reason);
        }
        for one in page.environments {
            self.add_one(one, now);
        }
        self.worst.sort_by_cached_key(|one| (first_trouble(one, now), Reverse(oldest(one))));
        self.worst.truncate(WORST_KEPT);
        self.most_bulk.sort_by_key(|(bulk, _)| Reverse(*bulk));
        self.most_bulk.truncate(LOOKED_AT_FOR_BATCHES);
    }

    fn add_one(&mut self, one: Environment, now: OffsetDateTime) {
        self.count += 1;
        *self.states.of(&one) += 1;
        if !one.owner.is_empty() {
            self.owners.insert(one.owner.clone());
        }
        for trouble in troubles(&one, now) {
            let tally =
                self.troubles.entry(trouble).or_insert_with(|| Tally { count: 0, worst: one.clone() });
            tally.count += 1;
            if oldest(&one) > oldest(&tally.worst) {
                tally.worst = one.clone();
            }
        }
        self.queue.add(&one, now);
        self.most_bulk.push((one.pending_bulk, one.environment_id.clone()));
        if waits(&one) || one.state() != State::Sending {
            self.remarkable += 1;
            self.worst.push(one);
        }
    }

    /// How many replicas send.
    pub(super) fn replicas(&self) -> usize {
        self.owners.len()
    }

    /// Those to look at first, in this order.
    pub(super) fn worst(&self) -> &[Environment] {
        &self.worst
    }

    /// Where open batches are most likely.
    pub(super) fn most_bulk(&self) -> impl Iterator<Item = &str> {
        self.most_bulk.iter().map(|(_, id)| id.as_str())
    }

    pub(super) fn having(&self, trouble: Trouble) -> u64 {
        self.troubles.get(&trouble).map_or(0, |tally| tally.count)
    }
}

impl States {
    fn of(&mut self, one: &Environment) -> &mut u64 {
        match State::try_from(one.state) {
            Ok(State::Sending) => &mut self.sending,
            Ok(State::Paused) => &mut self.paused,
            Ok(State::Throttled) => &mut self.throttled,
            Ok(State::Unreachable) => &mut self.unreachable,
            Ok(State::CredentialRefused) => &mut self.credential_refused,
            Ok(State::Unspecified) | Err(_) => &mut self.other,
        }
    }
}

impl Queue {
    fn add(&mut self, one: &Environment, now: OffsetDateTime) {
        if !is_known(one, now) {
            self.unknown += 1;
            return;
        }
        self.interactive += one.pending_interactive;
        self.bulk += one.pending_bulk;
        self.in_flight += i64::from(one.in_flight);
        self.rate += one.current_rate;
        if waits(one) || one.in_flight > 0 || one.current_rate > 0.0 {
            self.allowed += one.effective_rate_limit;
            self.unlimited |= one.effective_rate_limit == 0.0;
        }
        self.oldest = self.oldest.max(oldest(one));
    }
}

/// Whether the figures are true now. An owner that has nothing to do publishes nothing: then they are, however old.
pub(super) fn is_known(one: &Environment, now: OffsetDateTime) -> bool {
    let fresh = one.publish_time.and_then(instant).is_some_and(|at| now - at <= FRESH_FOR);
    // This clock may be wrong; the server gives figures of the moment only while they are fresh.
    fresh || one.in_flight > 0 || one.current_rate > 0.0 || (!one.owner.is_empty() && !waits(one))
}

/// How long the job that is due longest has been due.
pub(super) fn oldest(one: &Environment) -> Option<Duration> {
    one.oldest_pending_age.and_then(|age| Duration::try_from(age).ok())
}

fn waits(one: &Environment) -> bool {
    one.pending_interactive > 0 || one.pending_bulk > 0
}

fn first_trouble(one: &Environment, now: OffsetDateTime) -> (bool, Option<Trouble>) {
    let first = troubles(one, now).next();
    (first.is_none(), first)
}

fn troubles(one: &Environment, now: OffsetDateTime) -> impl Iterator<Item = Trouble> {
    let abandoned = one.owner.is_empty() && waits(one);
    let state = match State::try_from(one.state) {
        Ok(State::CredentialRefused) => Some(Trouble::CredentialRefused),
        Ok(State::Unreachable) => Some(Trouble::Unreachable),
        Ok(State::Throttled) => Some(Trouble::Throttled),
        Ok(State::Paused) => Some(Trouble::Paused),
        Ok(State::Sending) if abandoned || !is_known(one, now) => None,
        Ok(State::Sending) if is_late(one) => Some(Trouble::Late),
        Ok(State::Sending) if is_at_rate(one) => Some(Trouble::AtRate),
        Ok(State::Sending | State::Unspecified) | Err(_) => None,
    };
    abandoned.then_some(Trouble::NoOwner).into_iter().chain(state)
}

/// The age is of the oldest job of any kind, so it tells of interactive ones only where nothing else waits; elsewhere more of them
/// wait than can be sent in time.
fn is_late(one: &Environment) -> bool {
    let alone = one.pending_interactive > 0 && one.pending_bulk == 0;
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let to_send = one.pending_interactive as f64;
    let rate = one.effective_rate_limit;
    (alone && oldest(one) > Some(LATE_AFTER)) || (rate > 0.0 && to_send > rate * LATE_AFTER.as_secs_f64())
}

fn is_at_rate(one: &Environment) -> bool {
    let rate = one.effective_rate_limit;
    waits(one) && rate > 0.0 && one.current_rate >= rate * NEARLY_ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_323_045;

    fn environment(id: usize, pending: i64, age: i64) -> Environment {
        Environment {
            environment_id: id.to_string(),
            state: State::Sending.into(),
            owner: "one".to_owned(),
            pending_bulk: pending,
            oldest_pending_age: (pending > 0).then_some(prost_types::Duration { seconds: age, nanos: 0 }),
            publish_time: Some(prost_types::Timestamp { seconds: NOW - 1, nanos: 0 }),
            ..Environment::default()
        }
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(NOW).expect("a year with four digits")
    }

    fn of(pages: Vec<Vec<Environment>>) -> Environments {
        let mut all = Environments::default();
        for environments in pages {
            all.add(ListEnvironmentsResponse { environments, ..Default::default() }, now());
        }
        all
    }

    #[test]
    fn a_screenful_of_the_worst_is_kept_of_thousands() {
        let page = |first: usize| (first..first + 1000).map(|i| environment(i, 1, i as i64)).collect();
        let mut pages: Vec<Vec<Environment>> = vec![page(0), page(1000), page(2000)];
        pages[1][7].state = State::Unreachable.into();
        let all = of(pages);
        assert_eq!((all.count, all.remarkable, all.replicas(), all.queue.bulk), (3000, 3000, 1, 3000));
        assert_eq!((all.worst().len(), all.most_bulk().count()), (WORST_KEPT, LOOKED_AT_FOR_BATCHES));
        let first: Vec<&str> = all.worst().iter().take(3).map(|one| one.environment_id.as_str()).collect();
        assert_eq!(first, ["1007", "2999", "2998"], "not sent to, then by age");
    }

    #[test]
    fn figures_that_nobody_stands_for_are_unknown() {
        let old = Some(prost_types::Timestamp { seconds: NOW - 11, nanos: 0 });
        let stale = Environment { publish_time: old, ..environment(0, 5, 90) };
        let idle = Environment { publish_time: old, ..environment(1, 0, 0) };
        let orphan = Environment { owner: String::new(), ..idle.clone() };
        let moving = Environment { current_rate: 1.0, ..stale.clone() };
        let known = [&stale, &idle, &orphan, &moving].map(|one| is_known(one, now()));
        assert_eq!(known, [false, true, false, true]);
        let queue = of(vec![vec![stale, idle, orphan, moving]]).queue;
        assert_eq!((queue.bulk, queue.unknown), (5, 2));
    }

    #[test]
    fn people_wait_too_long_only_where_that_is_certain() {
        let late = |interactive, bulk, age, rate| {
            is_late(&Environment {
                pending_interactive: interactive,
                effective_rate_limit: rate,
                oldest_pending_age: Some(prost_types::Duration { seconds: age, nanos: 0 }),
                ..environment(0, bulk, age)
            })
        };
        assert!(late(1, 0, 31, 20.0) && late(601, 1, 0, 20.0));
        assert!(!late(1, 0, 30, 20.0) && !late(0, 1, 9000, 20.0) && !late(600, 1, 9000, 20.0));
        assert!(!late(9000, 1, 0, 0.0), "without a limit");
    }
}
