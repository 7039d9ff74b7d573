//! What is to be reached, and what the best peers reach, measured the same way on such a machine.

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    Cpu,
    Submit,
    Bulk,
    Drain,
    Delay64,
    Delay500,
    EndToEnd,
    LatencyP50,
    LatencyP99,
    InteractiveFree,
    InteractiveLimited,
    Share,
    Refused,
    GroupShare,
    GroupRefused,
    Wal,
    Memory,
    Restart,
    List,
    SnapshotThroughput,
    SnapshotLatency,
    RecoveryWaiting,
    RecoveryInFlight,
    MetricsCost,
    TelemetryCost,
}

/// What a row says before anything is measured.
pub(crate) struct Facts {
    pub(crate) what: &'static str,
    /// The best peer, in words and as a number in the row's unit.
    pub(crate) peer: (&'static str, Option<f64>),
    pub(crate) limit: Limit,
    pub(crate) unit: Unit,
}

/// What counts as reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// What a number is a number of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    CpuSeconds,
    PerSecond,
    Millis,
    Seconds,
    Percent,
    Kilobytes,
    Mebibytes,
    Count,
}

use Limit::{AtLeast, AtMost};
use Unit::{Count, CpuSeconds, Kilobytes, Mebibytes, Millis, PerSecond, Percent, Seconds};

const NOBODY: (&str, Option<f64>) = ("nobody publishes it", None);
const NONE: (&str, Option<f64>) = ("–", None);

impl Goal {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 25] = [
        Self::Cpu,
        Self::Submit,
        Self::Bulk,
        Self::Drain,
        Self::Delay64,
        Self::Delay500,
        Self::EndToEnd,
        Self::LatencyP50,
        Self::LatencyP99,
        Self::InteractiveFree,
        Self::InteractiveLimited,
        Self::Share,
        Self::Refused,
        Self::GroupShare,
        Self::GroupRefused,
        Self::Wal,
        Self::Memory,
        Self::Restart,
        Self::List,
        Self::SnapshotThroughput,
        Self::SnapshotLatency,
        Self::RecoveryWaiting,
        Self::RecoveryInFlight,
        Self::MetricsCost,
        Self::TelemetryCost,
    ];

    #[rustfmt::skip]
    pub(crate) fn facts(self) -> Facts {
        let facts = |what, peer, limit, unit| Facts { what, peer, limit, unit };
        match self {
            Self::Cpu => facts("CPU of service + Postgres, 1,000 jobs to the end",
                ("BullMQ/Redis 0.34 s", Some(0.34)), AtMost(0.12), CpuSeconds),
            Self::Submit => facts("durable single submits, 64 callers",
                ("BullMQ/Redis 15,000/s", Some(15_000.0)), AtLeast(20_000.0), PerSecond),
            Self::Bulk => facts("bulk submit: BulkUnblock, two streams, idempotent",
                ("underway 59,000/s", Some(59_000.0)), AtLeast(60_000.0), PerSecond),
            Self::Drain => facts("drain of 100,000, PingOne answers at once",
                ("graphile_worker_rs 14,800/s", Some(14_800.0)), AtLeast(18_000.0), PerSecond),
            Self::Delay64 => facts("drain, PingOne takes 50 ms: 64 in flight, of 1,280/s",
                ("graphile_worker_rs 94 %", Some(94.0)), AtLeast(95.0), Percent),
            Self::Delay500 => facts("… 500 in flight, of 10,000/s", NONE, AtLeast(95.0), Percent),
            Self::EndToEnd => facts("submit and deliver at once, 64 callers",
                ("BullMQ/Redis 4,280/s", Some(4_280.0)), AtLeast(10_000.0), PerSecond),
            Self::LatencyP50 => facts("submit to durable result at 100/s, p50",
                ("BullMQ/Redis 2.6 ms", Some(2.6)), AtMost(1.5), Millis),
            Self::LatencyP99 => facts("… p99",
                ("BullMQ/Redis 12 ms", Some(12.0)), AtMost(6.0), Millis),
            Self::InteractiveFree => facts("interactive behind 100,000 bulk, to POST, p99",
                NOBODY, AtMost(20.0), Millis),
            Self::InteractiveLimited => facts("… at 20/s: the next token comes within 50 ms",
                NOBODY, AtMost(60.0), Millis),
            Self::Share => facts("share used of the 50 allowed in any second", NOBODY, AtLeast(97.0), Percent),
            Self::Refused => facts("… 429s from the start on", NOBODY, AtMost(0.0), Count),
            Self::GroupShare => facts("… a licence: 3 replicas, 2 environments",
                NOBODY, AtLeast(97.0), Percent),
            Self::GroupRefused => facts("… 429s from the start on", NOBODY, AtMost(0.0), Count),
            Self::Wal => facts("WAL per job, without full-page images",
                ("awa 1.84 KB, no result kept", Some(1.84)), AtMost(1.6), Kilobytes),
            Self::Memory => facts("memory with 1,000,000 queued jobs, peak",
                ("pg-boss 223 MiB (100,000)", None), AtMost(64.0), Mebibytes),
            Self::Restart => facts("… start to first POST after a clean stop",
                NONE, AtMost(3.0), Seconds),
            Self::List => facts("… ListEnvironments, p99", NONE, AtMost(50.0), Millis),
            Self::SnapshotThroughput => facts("snapshot pinned 5 min: throughput, of clean",
                ("most lose half or more", None), AtLeast(90.0), Percent),
            Self::SnapshotLatency => facts("… p50 at 1,000/s in the last minute, of clean",
                NONE, AtMost(110.0), Percent),
            Self::RecoveryWaiting => facts("kill -9 of one of two: waiting jobs move within",
                ("pg-boss 15 min", Some(900.0)), AtMost(8.0), Seconds),
            Self::RecoveryInFlight => facts("… those in flight are done within",
                ("pg-boss 15 min", Some(900.0)), AtMost(25.0), Seconds),
            Self::MetricsCost => facts("CPU per job that metrics cost, scraped every 5 s", NOBODY, AtMost(2.0), Percent),
            Self::TelemetryCost => facts("… and the spans of every job, metrics and logs sent", NOBODY, AtMost(40.0), Percent),
        }
    }
}

impl Limit {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            AtLeast(limit) => value >= limit,
            AtMost(limit) => value <= limit,
        }
    }

    /// How many times better than `peer`.
    pub(crate) fn ratio(self, value: f64, peer: f64) -> f64 {
        match self {
            AtLeast(_) => value / peer,
            AtMost(_) => peer / value,
        }
    }

    pub(crate) fn text(self, unit: Unit) -> String {
        match self {
            AtLeast(limit) => format!("≥ {}", unit.text(limit)),
            AtMost(0.0) => "0".to_owned(),
            AtMost(limit) => format!("≤ {}", unit.text(limit)),
        }
    }
}

impl Unit {
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            CpuSeconds => format!("{value:.3} s"),
            PerSecond => format!("{}/s", thousands(value)),
            Millis => format!("{value:.1} ms"),
            Seconds => format!("{value:.1} s"),
            Percent => format!("{value:.1} %"),
            Kilobytes => format!("{value:.2} KB"),
            Mebibytes => format!("{value:.0} MiB"),
            Count => thousands(value),
        }
    }
}

/// A whole number as people read it.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let from_end = |at: usize| digits.len() - at;
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && from_end(at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
