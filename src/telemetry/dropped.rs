//! What could not be sent: counted, and told once a minute. The SDK counts only at its end, and tells of every batch.
//!
//! A [`Tally`] stands between its two ends: what ends enters through [`Tally::admits`], which keeps the queue bounded, and leaves
//! it in the exporter, whose failures are counted too.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry::{Context, InstrumentationScope, KeyValue, logs::Severity, metrics::Meter};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};

/// Not more often is told that something is lost.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How many items were lost since the start, by signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Spans.
    pub traces: u64,
    /// Log records. They are on stderr all the same.
    pub logs: u64,
    /// Pushes of all metrics. The next has what one of them had.
    pub metrics: u64,
}

/// How many items were not sent since the start: there was no room for them, or no collector took them.
#[must_use]
pub fn dropped() -> Dropped {
    let of = |tally: &Tally| tally.dropped.load(Ordering::Relaxed);
    Dropped { traces: of(&SPANS), logs: of(&RECORDS), metrics: of(&PUSHES) }
}

/// Shows how many, whenever somebody asks.
pub(super) fn observe(meter: &Meter) {
    meter
        .u64_observable_counter("unblock.telemetry.dropped")
        .with_unit("{item}")
        .with_description("Spans, log records and pushes of metrics that no collector took")
        .with_callback(|observer| {
            let Dropped { traces, logs, metrics } = dropped();
            for (signal, count) in [("traces", traces), ("logs", logs), ("metrics", metrics)] {
                observer.observe(count, &[KeyValue::new("unblock.signal", signal)]);
            }
        })
        .build();
}

pub(super) static SPANS: Tally = Tally::new("spans");
pub(super) static RECORDS: Tally = Tally::new("log records");
pub(super) static PUSHES: Tally = Tally::new("metrics");

/// What waits to be sent, and what never was.
#[derive(Debug)]
pub(super) struct Tally {
    what: &'static str,
    waiting: AtomicUsize,
    dropped: AtomicU64,
    told: Mutex<Option<(Instant, u64)>>,
}

impl Tally {
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, waiting: AtomicUsize::new(0), dropped: AtomicU64::new(0), told: Mutex::new(None) }
    }

    /// Whether one more may wait. It is lost if not.
    fn admits(&self, at_most: usize) -> bool {
        let more = |waiting| (waiting < at_most).then_some(waiting + 1);
        let admitted = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if !admitted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn leave(&self, count: usize) {
        let fewer = |waiting: usize| Some(waiting.saturating_sub(count));
        // Never fails: it always says how many are left.
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    /// Counts what an export left behind, and tells what was lost.
    fn exported(&self, count: usize, result: &OTelSdkResult) {
        if result.is_err() {
            self.dropped.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        if let Some(lost) = self.to_tell(Instant::now()) {
            let why =
                result.as_ref().err().map_or_else(|| "too many at once".to_owned(), ToString::to_string);
            tracing::warn!(lost, why, "{} were not sent to the collector", self.what);
        }
    }

    /// How many were lost since that was told last; nothing where none was, or it was told just now.
    fn to_tell(&self, now: Instant) -> Option<u64> {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let mut told = self.told.try_lock().ok()?;
        let before = match *told {
            Some((at, _)) if now.saturating_duration_since(at) < TOLD_EVERY => return None,
            Some((_, before)) => before,
            None => 0,
        };
        let lost = dropped.checked_sub(before).filter(|lost| *lost > 0)?;
        *told = Some((now, dropped));
        Some(lost)
    }
}

/// A processor that takes no more than may wait.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    pub(super) inner: P,
    pub(super) tally: &'static Tally,
    /// No more than the queue of `inner` holds: so that loses nothing by itself.
    pub(super) at_most: usize,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.tally.admits(self.at_most) {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Bounded<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.tally.admits(self.at_most) {
            self.inner.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter whose failures are counted.
#[derive(Debug)]
pub(super) struct Counted<E> {
    pub(super) inner: E,
    pub(super) tally: &'static Tally,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.tally.leave(count);
        let result = self.inner.export(batch).await;
        self.tally.exported(count, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        self.tally.leave(count);
        let result = self.inner.export(batch).await;
        self.tally.exported(count, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn event_enabled(&self, level: Severity, target: &str, name: Option<&str>) -> bool {
        self.inner.event_enabled(level, target, name)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.inner.export(metrics).await;
        self.tally.exported(1, &result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

/// How many may wait, as the SDK reads it.
pub(super) fn queue_size(variable: &str) -> usize {
    const DEFAULT: usize = 2048;
    std::env::var(variable).ok().and_then(|value| value.trim().parse().ok()).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_sdk::error::OTelSdkError;

    #[test]
    fn what_finds_no_room_and_what_is_not_taken_is_counted() {
        let tally = Tally::new("spans");
        let admitted = (0..5).filter(|_| tally.admits(3)).count();
        assert_eq!((admitted, tally.dropped.load(Ordering::Relaxed)), (3, 2));
        tally.leave(3);
        tally.exported(3, &Err(OTelSdkError::Timeout(Duration::from_secs(10))));
        assert_eq!(tally.dropped.load(Ordering::Relaxed), 5);
        assert!(tally.admits(3), "there is room again");
        tally.exported(1, &Ok(()));
        assert_eq!(tally.dropped.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn that_something_is_lost_is_told_once_a_minute_with_a_count() {
        let tally = Tally::new("spans");
        let now = Instant::now();
        assert_eq!(tally.to_tell(now), None, "nothing is lost");
        tally.dropped.store(7, Ordering::Relaxed);
        assert_eq!(tally.to_tell(now), Some(7));
        tally.dropped.store(1000, Ordering::Relaxed);
        assert_eq!(tally.to_tell(now + TOLD_EVERY / 2), None);
        assert_eq!(tally.to_tell(now + TOLD_EVERY), Some(993));
        assert_eq!(tally.to_tell(now + TOLD_EVERY * 3), None, "nothing more is lost");
    }
}
