//! `audit verify`: goes through every chain with the database's own words, and says what is not as it was sealed.

use std::{
    collections::HashMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    database::{DatabaseOptions, failed},
    head,
};
use crate::{
    audit::{Chain, Finding, Head, SETTLED_MS, Seal, Verdict, first_id, millis_at},
    cli::{
        args,
        error::{Error, printed},
        exit::Exit,
        screen::{Hue, Screen},
    },
    device::Lane,
    store::{EventRange, Store},
};

/// Proves that the audit trail is as it was sealed, or says what is not
///
/// Reads the database itself, with any role that may read `audit` and `audit_seal`. Ends with 0 where all is as it was sealed,
/// 1 where something is not, 3 where Postgres cannot be reached.
#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// Only this lane
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(0..=255))]
    lane: Option<i16>,
    /// Heads that `audit head` printed earlier and that were kept elsewhere: shows whether an end was cut off since
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Only what was sealed since, e.g. 2026-01-02T03:04:05Z; what was before is taken as it is
    #[arg(long, value_name = "TIME", value_parser = args::instant)]
    since: Option<OffsetDateTime>,
    #[command(flatten)]
    database: DatabaseOptions,
}

/// Seals, events and ids read at once.
const SEALS: u32 = 200;
const EVENTS: usize = 1_000;
const IDS: u32 = 10_000;
/// Entries that wait for longer are told with a warning.
const WAITS_AT_MOST: u64 = 60_000;
const REDRAW: Duration = Duration::from_millis(200);

/// What was found in all.
#[derive(Default)]
struct Sum {
    lanes: u64,
    seals: u64,
    events: u64,
    late: u64,
    wrong: u64,
    unsealed: u64,
    oldest: Option<u64>,
    /// Lanes whose first seals were forgotten, or that have none of what a head says any more.
    forgotten: u64,
    heads_forgotten: u64,
}

struct Run<'a> {
    screen: &'a Screen,
    store: Store,
    now: OffsetDateTime,
    since: Option<OffsetDateTime>,
    seals: u64,
    of: u64,
    drawn: Option<Instant>,
}

impl Verify {
    pub(super) async fn run(self, screen: &Screen) -> Result<Exit, Error> {
        let heads: HashMap<i16, Head> = match &self.head {
            Some(path) => head::read(path)?.into_iter().collect(),
            None => HashMap::new(),
        };
        let store = self.database.store()?;
        let now = store.find_now().await.map_err(failed)?;
        let lanes: Vec<Lane> =
            Lane::all().filter(|lane| self.lane.is_none_or(|only| only == lane.number())).collect();
        let below: Vec<_> = lanes.iter().map(|lane| (*lane, i64::MAX)).collect();
        let newest = store.find_newest_seals(&below, 1).await.map_err(failed)?;
        let of = newest.iter().map(|seal| u64::try_from(seal.number).unwrap_or_default()).sum();
        let mut run = Run { screen, store, now, since: self.since, seals: 0, of, drawn: None };
        let mut sum = Sum::default();
        for lane in lanes {
            let verdict = run.lane(lane, heads.get(&lane.number()).copied()).await?;
            run.clear();
            tell(screen, lane, &verdict)?;
            sum.add(&verdict);
        }
        run.store.close().await;
        sum.tell(screen, now)?;
        Ok(if sum.wrong == 0 { Exit::Done } else { Exit::Failed })
    }
}

impl Run<'_> {
    async fn lane(&mut self, lane: Lane, expected: Option<Head>) -> Result<Verdict, Error> {
        let mut chain = Chain::new(lane.number(), self.now, expected, self.since);
        let (mut number, mut hash) = (self.first(lane).await? - 1, vec![0xFF; 33]);
        loop {
            let seals = self.store.find_seals_after(lane, number, &hash, SEALS).await.map_err(failed)?;
            let Some(last) = seals.last() else { break };
            (number, hash) = (last.number, last.hash.clone());
            for seals in parts(&seals) {
                self.seals(lane, &mut chain, seals).await?;
            }
            self.progress();
        }
        self.end(lane, chain).await
    }

    /// Some seals, whose events are read at once.
    async fn seals(&mut self, lane: Lane, chain: &mut Chain, seals: &[Seal]) -> Result<(), Error> {
        let ids: Vec<Uuid> = seals.iter().flat_map(|seal| &seal.events).copied().collect();
        let events = self.store.find_events(lane, &ids).await.map_err(failed)?;
        for seal in seals {
            while let Some(after) = chain.wants(seal) {
                let ids = self.store.find_event_ids(lane, after, Uuid::max(), IDS).await.map_err(failed)?;
                chain.show(&ids);
            }
            chain.seal(seal, &events);
            self.seals += 1;
        }
        Ok(())
    }

    /// What is in no seal yet is only counted: there may be any number of them.
    async fn end(&self, lane: Lane, mut chain: Chain) -> Result<Verdict, Error> {
        let shown = chain.shown();
        let ahead = first_id(millis_at(self.now) + SETTLED_MS);
        let mut waits = (0, None);
        if shown < ahead {
            let oldest = self.store.find_event_ids(lane, shown, ahead, 1).await.map_err(failed)?;
            if let Some(oldest) = oldest.first() {
                let range = EventRange { lane, from: *oldest, to: ahead };
                let counted = self.store.count_events(&[range]).await.map_err(failed)?;
                waits = (counted.iter().map(|(_, events)| events).sum(), Some(*oldest));
            }
        }
        // Ids that no clock would give yet.
        let far =
            self.store.find_event_ids(lane, shown.max(ahead), Uuid::max(), IDS).await.map_err(failed)?;
        chain.show(&far);
        Ok(chain.end(waits.0, waits.1))
    }

    /// The first seal to be looked at, found by halving.
    async fn first(&self, lane: Lane) -> Result<i64, Error> {
        let Some(since) = self.since else { return Ok(0) };
        let newest = self.store.find_newest_seals(&[(lane, i64::MAX)], 1).await.map_err(failed)?;
        let (mut low, mut high) = (1, newest.first().map_or(1, |seal| seal.number));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.store.find_seal_time(lane, middle).await.map_err(failed)? {
                Some((number, at)) if at < since => low = number + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn progress(&mut self) {
        if self.screen.live() && self.drawn.is_none_or(|at| at.elapsed() >= REDRAW) {
            self.drawn = Some(Instant::now());
            let percent = (100 * self.seals).checked_div(self.of).unwrap_or(100).min(100);
            self.screen.draw(&format!("\r\x1b[K{percent:>3} %  {} of {} seals", self.seals, self.of));
        }
    }

    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            self.screen.draw("\r\x1b[K");
        }
    }
}

/// As many seals at once as have some events; one of more alone.
fn parts(seals: &[Seal]) -> impl Iterator<Item = &[Seal]> {
    let mut rest = seals;
    std::iter::from_fn(move || {
        let mut events = 0;
        let take = rest.iter().take_while(|seal| {
            events += seal.events.len();
            events <= EVENTS
        });
        let count = take.count().max(1).min(rest.len());
        let (part, after) = rest.split_at(count);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

fn tell(screen: &Screen, lane: Lane, verdict: &Verdict) -> Result<(), Error> {
    for finding in &verdict.findings {
        if screen.is_json() {
            screen.print_json(&json!({ "finding": finding_json(finding) }))?;
        } else {
            screen.print(&line(finding))?;
        }
    }
    for (kind, count) in &verdict.counts {
        let told = verdict.findings.iter().filter(|finding| finding.kind == *kind).count();
        let more = count.saturating_sub(u64::try_from(told).unwrap_or(u64::MAX));
        if more > 0 {
            screen.say(&format!("lane {}: {more} more like it ({})", lane.number(), kind.name()));
        }
    }
    Ok(())
}

fn line(finding: &Finding) -> String {
    let seal = finding.seal.map(|seal| format!(", seal {seal}")).unwrap_or_default();
    let event = finding.event.map(|event| format!(", event {event}")).unwrap_or_default();
    format!(
        "WRONG   lane {}{seal}{event}: {} ({})",
        finding.lane,
        finding.kind.sentence(),
        finding.kind.name()
    )
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.name(),
        "lane": finding.lane,
        "seal": finding.seal,
        "eventId": finding.event,
        "message": finding.kind.sentence(),
    })
}

impl Sum {
    fn add(&mut self, verdict: &Verdict) {
        self.lanes += 1;
        self.seals += verdict.seals;
        self.events += verdict.events;
        self.late += verdict.late;
        self.wrong += verdict.counts.values().sum::<u64>();
        self.unsealed += verdict.unsealed;
        self.oldest = self.oldest.into_iter().chain(verdict.oldest_unsealed).min();
        self.forgotten += u64::from(verdict.first.is_some_and(|first| first > 1));
        self.heads_forgotten += u64::from(verdict.head_forgotten);
    }

    fn tell(&self, screen: &Screen, now: OffsetDateTime) -> Result<(), Error> {
        let age = self.oldest.map(|made| millis_at(now).saturating_sub(made));
        if screen.is_json() {
            screen.print_json(&json!({ "summary": {
                "ok": self.wrong == 0,
                "lanes": self.lanes,
                "seals": self.seals,
                "events": self.events,
                "wrong": self.wrong,
                "late": self.late,
                "unsealed": self.unsealed,
                "oldestUnsealedSeconds": age.map(|age| age / 1000),
                "lanesBegunLater": self.forgotten,
                "headsForgotten": self.heads_forgotten,
            } }))?;
        } else {
            let counted = format!("{} lanes, {} seals, {} events", self.lanes, self.seals, self.events);
            let verdict = match self.wrong {
                0 => "as they were sealed".to_owned(),
                1 => "1 thing is wrong".to_owned(),
                wrong => format!("{wrong} things are wrong"),
            };
            screen.print(&format!("{counted}: {verdict}"))?;
        }
        if let Some(age) = age {
            let waits = printed(Duration::from_millis(age));
            let sentence = format!("{} events are in no seal yet, the oldest for {waits}", self.unsealed);
            match age > WAITS_AT_MOST {
                true => {
                    screen.headline(Hue::Attention, "warning:", &format!("{sentence}: is a worker running?"))
                }
                false => screen.say(&sentence),
            }
        }
        if self.late > 0 {
            let sentence = format!("{} events were sealed more than two minutes after their time", self.late);
            screen.headline(Hue::Attention, "warning:", &sentence);
        }
        if self.forgotten > 0 {
            screen.say(&format!(
                "{} lanes begin later than with their first seal: older ones were deleted",
                self.forgotten
            ));
        }
        if self.heads_forgotten > 0 {
            let sentence =
                format!("{} heads are older than what is kept: not compared", self.heads_forgotten);
            screen.headline(Hue::Attention, "warning:", &sentence);
        }
        Ok(())
    }
}
