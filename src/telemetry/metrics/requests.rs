//! Requests to PingOne, by the conventions for HTTP clients, and the tokens that they need.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry::{
    KeyValue, Value,
    metrics::{BoundHistogram, Counter, Histogram, Meter},
};
use opentelemetry_semantic_conventions::{
    attribute::{
        ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, SERVER_ADDRESS, SERVER_PORT, URL_TEMPLATE,
    },
    metric::HTTP_CLIENT_REQUEST_DURATION,
};

use super::{calls::SECONDS, family::Family, label};
use crate::job::Reason;

/// Requests to PingOne.
#[derive(Debug)]
pub struct Requests {
    duration: Histogram<f64>,
    refreshes: Counter<u64>,
    /// When the access token that was granted last ends.
    ends_at: Arc<Mutex<Option<Instant>>>,
}

/// What kind of request it is: made once for each address and reused.
#[derive(Debug)]
pub struct Request {
    about: [KeyValue; 4],
    durations: Family<End, BoundHistogram<f64>>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// With this status.
    Answered(u16),
    /// Without an answer: `connect`, `broken` or `timeout`.
    Lost(&'static str),
}

impl Request {
    /// A request of that method and path to that server. The path is a template without ids.
    #[must_use]
    pub fn new(method: &'static str, server: &str, port: u16, template: &'static str) -> Self {
        let server: Arc<str> = server.into();
        Self {
            about: [
                KeyValue::new(HTTP_REQUEST_METHOD, method),
                KeyValue::new(SERVER_ADDRESS, Value::from(server)),
                KeyValue::new(SERVER_PORT, i64::from(port)),
                KeyValue::new(URL_TEMPLATE, template),
            ],
            durations: Family::default(),
        }
    }
}

impl Requests {
    pub(super) fn new(meter: &Meter) -> Self {
        let ends_at = Arc::<Mutex<Option<Instant>>>::default();
        observe(meter, Arc::clone(&ends_at));
        let refreshes = meter
            .u64_counter("unblock.token.refreshes")
            .with_unit("{refresh}")
            .with_description("Access tokens asked for, by what came of it")
            .build();
        refreshes.add(0, &[label::outcome(None)]);
        Self {
            duration: meter
                .f64_histogram(HTTP_CLIENT_REQUEST_DURATION)
                .with_unit("s")
                .with_description("How long requests to PingOne took, with their answers")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            refreshes,
            ends_at,
        }
    }

    /// A request ended.
    pub fn ended(&self, request: &Request, end: End, after: Duration) {
        let bind = || {
            let status = |code: u16| KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(code));
            let mut about = request.about.to_vec();
            match end {
                End::Answered(code) if code < 400 => about.push(status(code)),
                End::Answered(code) => {
                    about.extend([status(code), KeyValue::new(ERROR_TYPE, code.to_string())])
                }
                End::Lost(why) => about.push(KeyValue::new(ERROR_TYPE, why)),
            }
            self.duration.bind(&about)
        };
        request.durations.get(end, bind).record(after.as_secs_f64());
    }

    /// A token was granted that lives so long.
    pub fn granted(&self, life: Duration) {
        self.refreshes.add(1, &[label::outcome(None)]);
        *self.ends_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + life);
    }

    /// No token was granted.
    pub fn not_granted(&self, reason: Reason) {
        self.refreshes.add(1, &[label::outcome(Some(reason))]);
    }
}

fn observe(meter: &Meter, ends_at: Arc<Mutex<Option<Instant>>>) {
    meter
        .f64_observable_gauge("unblock.token.expires_in")
        .with_unit("s")
        .with_description("How long the access token still serves that was granted last")
        .with_callback(move |observer| {
            if let Some(ends_at) = *ends_at.lock().unwrap_or_else(PoisonError::into_inner) {
                observer.observe(ends_at.saturating_duration_since(Instant::now()).as_secs_f64(), &[]);
            }
        })
        .build();
}
