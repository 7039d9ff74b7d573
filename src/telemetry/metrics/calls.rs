//! Calls to this service, by the conventions for RPC.

use std::{borrow::Cow, sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue, Value,
    metrics::{BoundHistogram, BoundUpDownCounter, Counter, Histogram, Meter, UpDownCounter},
};
use opentelemetry_semantic_conventions::{
    attribute::{ERROR_TYPE, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME},
    metric::RPC_SERVER_CALL_DURATION,
};

use super::family::Family;

const ERROR_REASON: &str = "error.reason";
/// What an alert counts is shown before it first happens.
const DENIALS: [&str; 4] =
    ["CREDENTIALS_MISSING", "CREDENTIALS_INVALID", "CREDENTIALS_EXPIRED", "PERMISSION_MISSING"];
const OWN_METHODS: &str = "pingone.";

/// As the convention advises.
pub(super) const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Calls to this service.
#[derive(Debug)]
pub struct Calls {
    duration: Histogram<f64>,
    in_progress: UpDownCounter<i64>,
    refused: Counter<u64>,
}

/// A method that is served.
#[derive(Debug)]
pub struct Method {
    name: KeyValue,
    in_progress: BoundUpDownCounter<i64>,
    durations: Family<&'static str, BoundHistogram<f64>>,
}

/// A call that is answered, until it is dropped.
#[derive(Debug)]
pub struct Call(Arc<Method>);

impl Method {
    /// `package.Service/Method`, or `_OTHER`.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        self.name.value.as_str()
    }
}

impl Calls {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            duration: meter
                .f64_histogram(RPC_SERVER_CALL_DURATION)
                .with_unit("s")
                .with_description("How long calls took, streams to their end")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            in_progress: meter
                .i64_up_down_counter("unblock.rpc.in_progress")
                .with_unit("{call}")
                .with_description("Calls being answered")
                .build(),
            refused: meter
                .u64_counter("unblock.rpc.refused")
                .with_unit("{call}")
                .with_description("Calls that ended with an error, by its reason")
                .build(),
        }
    }

    /// A method that is served: `package.Service/Method` of the contract, or `_OTHER`. Never what a caller made up.
    #[must_use]
    pub fn method(&self, name: &str) -> Arc<Method> {
        let own = name.starts_with(OWN_METHODS);
        let name = KeyValue::new(RPC_METHOD, Value::from(Arc::<str>::from(name)));
        for reason in DENIALS.into_iter().filter(|_| own) {
            self.refused.add(0, &[name.clone(), KeyValue::new(ERROR_REASON, reason)]);
        }
        let in_progress = self.in_progress.bind(std::slice::from_ref(&name));
        // It is there before the first call.
        in_progress.add(0);
        Arc::new(Method { name, in_progress, durations: Family::default() })
    }

    /// A call of `method` began.
    #[must_use]
    pub fn began(&self, method: &Arc<Method>) -> Call {
        method.in_progress.add(1);
        Call(Arc::clone(method))
    }

    /// A call ended with this code of gRPC, which is the server's `fault` or not, and if it is not OK, for a reason of the contract.
    pub fn ended(
        &self,
        call: &Call,
        code: &'static str,
        fault: bool,
        reason: Option<String>,
        after: Duration,
    ) {
        let Method { name, durations, .. } = &*call.0;
        let bind = || {
            let code = |key| KeyValue::new(key, code);
            let system = KeyValue::new(RPC_SYSTEM_NAME, "grpc");
            let about = [system, name.clone(), code(RPC_RESPONSE_STATUS_CODE), code(ERROR_TYPE)];
            self.duration.bind(if fault { &about } else { &about[..3] })
        };
        durations.get(code, bind).record(after.as_secs_f64());
        if let Some(reason) = reason {
            self.refused.add(1, &[name.clone(), KeyValue::new(ERROR_REASON, reason)]);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.in_progress.add(-1);
    }
}
