//! The jobs of one environment that wait in one order: a window of what comes next, and how far the store has been read. Pure.

use std::{collections::BTreeMap, time::Duration};

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::{
    device::DeviceRef,
    job::JobId,
    store::{Head, Place},
    telemetry::TracePoint,
};

/// Rows are committed out of order by this much at most, but for what a sweep finds.
const TAIL: Duration = Duration::from_secs(2);
/// The tail is read again at most this often.
const TAIL_EVERY: Duration = Duration::from_millis(300);
/// Jobs in the window that were put there as they were recorded, at most; more are read when it is their turn.
const WINDOW_AT_MOST: usize = 4096;
/// Jobs that wait for their time, kept in memory; more are found when their time has come.
const PARKED_AT_MOST: usize = 4096;

/// A job that waits, as it is known here.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) id: JobId,
    pub(super) device: DeviceRef,
    pub(super) flow: i64,
    pub(super) run: u32,
    /// Claims of that run so far.
    pub(super) attempt: u32,
    pub(super) due_at: OffsetDateTime,
    /// No request may start from then on.
    pub(super) expires: Instant,
    /// The last claim ended without a word.
    pub(super) lapsed: Option<OffsetDateTime>,
    /// A request may have reached PingOne before.
    pub(super) repeated: bool,
    /// When it was asked for, by the database's clock and by ours.
    pub(super) requested_at: OffsetDateTime,
    pub(super) requested: Instant,
    pub(super) trace_parent: Option<String>,
    /// The span of its last attempt, as far as that was made here.
    pub(super) attempted: Option<TracePoint>,
}

/// Jobs in the order in which they are sent.
#[derive(Debug)]
pub(super) struct Flow {
    due: BTreeMap<(OffsetDateTime, JobId), Waiting>,
    /// Not before that instant: those whose time has not come, and those another process holds a claim of.
    parked: BTreeMap<(Instant, JobId), Waiting>,
    read_to: Option<Place>,
    /// There is more behind [`Self::read_to`].
    more: bool,
    /// Something may be there that was not read.
    hinted: bool,
    tail_read: Option<Instant>,
    /// The newest job known of, and that when the read under way began: what is older is read then, or behind us.
    newest: Option<OffsetDateTime>,
    newest_before: Option<OffsetDateTime>,
    /// By the last sweep, and what happened since.
    pub(super) count: i64,
    /// Whether its jobs may be sent. Shut, it is neither read nor does it give any away.
    open: bool,
}

impl Flow {
    /// A flow of which nothing has been read.
    pub(super) const fn unread(open: bool) -> Self {
        Self {
            due: BTreeMap::new(),
            parked: BTreeMap::new(),
            read_to: None,
            more: true,
            hinted: true,
            tail_read: None,
            newest: None,
            newest_before: None,
            count: 0,
            open,
        }
    }

    /// Whether its jobs may be sent.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Opens or shuts it. Whether it was shut.
    pub(super) const fn set_open(&mut self, open: bool) -> bool {
        !std::mem::replace(&mut self.open, open)
    }

    /// Something may be there that was not read.
    pub(super) const fn hint(&mut self) {
        self.hinted = true;
    }

    /// All of it is to be read anew: something before what was read may have come back.
    pub(super) const fn read_anew(&mut self) {
        self.read_to = None;
        (self.more, self.hinted) = (true, true);
    }

    /// Where to read on for at least `wanted` jobs in the window; nothing where there is no need.
    pub(super) fn reads_on(&mut self, wanted: usize, now: Instant) -> Option<Option<Place>> {
        if !self.open || self.due.len() >= wanted {
            return None;
        }
        self.newest_before = self.newest;
        if self.more {
            return Some(self.read_to);
        }
        if !self.hinted || self.tail_read.is_some_and(|at| now < at + TAIL_EVERY) {
            return None;
        }
        self.tail_read = Some(now);
        self.hinted = false;
        Some(self.read_to.map(|(due_at, _)| (due_at - TAIL, JobId::first())))
    }

    /// When it has to be looked at for a hint that came too soon after the last.
    pub(super) fn tail_at(&self) -> Option<Instant> {
        self.tail_read.filter(|_| self.open && self.hinted && !self.more).map(|at| at + TAIL_EVERY)
    }

    /// Takes in a page of at most `at_most` jobs that was asked for at `asked`, without those that are `known`.
    pub(super) fn take_in(
        &mut self,
        heads: Vec<Head>,
        at_most: usize,
        asked: Instant,
        known: impl Fn(JobId) -> bool,
    ) {
        self.more = heads.len() >= at_most;
        if let Some(last) = heads.last() {
            self.read_to = Some((last.due_at, last.id));
        }
        if !self.more {
            // Or jobs that never had to be read would leave the mark where it was, and their dead rows behind it.
            let newest = self.newest_before.map(|due_at| (due_at, JobId::first()));
            self.read_to = self.read_to.max(newest);
        }
        for head in heads {
            if known(head.id) {
                continue;
            }
            let not_before = asked + head.due_in.max(head.leased_for);
            let waiting = Waiting {
                id: head.id,
                device: head.device,
                flow: head.flow,
                run: head.run,
                attempt: head.attempt,
                due_at: head.due_at,
                expires: asked + head.expires_in,
                lapsed: head.lapsed,
                repeated: head.repeated,
                requested_at: head.requested_at,
                requested: asked.checked_sub(head.age).unwrap_or(asked),
                trace_parent: head.trace_parent,
                attempted: None,
            };
            if not_before > asked {
                self.park(waiting, not_before);
            } else {
                self.due.insert((waiting.due_at, waiting.id), waiting);
            }
        }
    }

    /// A job was recorded that is due at `due_at`. Whether it has to be put into the window: then nothing has to be read.
    pub(super) fn recorded(&mut self, due_at: OffsetDateTime) -> bool {
        self.newest = self.newest.max(Some(due_at));
        if self.due.len() >= WINDOW_AT_MOST {
            self.more = true;
        }
        !self.more
    }

    /// Puts a job into its place in the order.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        self.due.insert((waiting.due_at, waiting.id), waiting);
    }

    /// Keeps a job until its time has come.
    pub(super) fn park(&mut self, waiting: Waiting, until: Instant) {
        if self.parked.len() < PARKED_AT_MOST {
            self.parked.insert((until, waiting.id), waiting);
        }
    }

    /// The job that is next.
    pub(super) fn first(&mut self, now: Instant) -> Option<&Waiting> {
        if !self.open {
            return None;
        }
        self.ripen(now);
        self.due.first_key_value().map(|(_, waiting)| waiting)
    }

    /// Takes the job that is next.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Waiting> {
        if !self.open {
            return None;
        }
        self.ripen(now);
        self.due.pop_first().map(|(_, waiting)| waiting)
    }

    /// Whether a new job would be the next: nothing waits before it.
    pub(super) fn is_idle(&self) -> bool {
        self.due.is_empty() && !self.more
    }

    /// Whether jobs that may be sent are in the window, or may be behind it.
    pub(super) fn has_more(&self) -> bool {
        self.open && (!self.due.is_empty() || self.more)
    }

    /// Whether any job is known to wait, now or later.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.parked.is_empty() && !self.more
    }

    /// Since when the first of the window is due.
    pub(super) fn oldest_due_at(&self) -> Option<OffsetDateTime> {
        self.due.first_key_value().filter(|_| self.open).map(|((due_at, _), _)| *due_at)
    }

    /// When the next parked job's time comes.
    pub(super) fn ripens(&self) -> Option<Instant> {
        self.parked.first_key_value().filter(|_| self.open).map(|((at, _), _)| *at)
    }

    /// Whether a job due at `due_at` that nobody holds has been overlooked.
    pub(super) fn has_overlooked(&self, due_at: OffsetDateTime) -> bool {
        let read = self.read_to.is_some_and(|(read_to, _)| due_at < read_to - TAIL);
        let first = self.due.first_key_value().map(|((first, _), _)| *first);
        read && first.is_none_or(|first| due_at < first)
            && !self.parked.values().any(|held| held.due_at <= due_at)
    }

    fn ripen(&mut self, now: Instant) {
        while let Some(entry) = self.parked.first_entry().filter(|entry| entry.key().0 <= now) {
            let waiting = entry.remove();
            self.due.insert((waiting.due_at, waiting.id), waiting);
        }
    }
}
