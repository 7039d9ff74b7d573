//! Calls to this service, by the conventions for RPC.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue, Value,
    metrics::{Counter, Histogram, Meter, UpDownCounter},
};
use opentelemetry_semantic_conventions::{
    attribute::{ERROR_TYPE, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME},
    metric::RPC_SERVER_CALL_DURATION,
};

const ERROR_REASON: &str = "error.reason";

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

/// A call that is answered; it ends with [`Call::ended`] or, for a caller that went away, when it is dropped.
#[derive(Debug)]
pub struct Call {
    calls: &'static Calls,
    method: Arc<str>,
    over: bool,
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

    /// These are the methods that are served.
    pub fn serves<'a>(&self, methods: impl IntoIterator<Item = &'a Arc<str>>) {
        for method in methods {
            self.in_progress.add(0, &[KeyValue::new(RPC_METHOD, Value::from(Arc::clone(method)))]);
        }
    }

    /// A call began. `method` is `package.Service/Method` of the contract, or `_OTHER`: never what a caller made up.
    pub fn began(&'static self, method: Arc<str>) -> Call {
        let call = Call { calls: self, method, over: false };
        call.in_progress(1);
        call
    }
}

impl Call {
    /// It ended with this code of gRPC, and if that is not OK, for this reason of the contract.
    pub fn ended(mut self, code: &'static str, fault: bool, reason: Option<String>, after: Duration) {
        self.over = true;
        self.in_progress(-1);
        let method = KeyValue::new(RPC_METHOD, Value::from(Arc::clone(&self.method)));
        let mut about = Vec::with_capacity(4);
        about.extend([
            KeyValue::new(RPC_SYSTEM_NAME, "grpc"),
            method.clone(),
            KeyValue::new(RPC_RESPONSE_STATUS_CODE, code),
        ]);
        if fault {
            about.push(KeyValue::new(ERROR_TYPE, code));
        }
        self.calls.duration.record(after.as_secs_f64(), &about);
        if let Some(reason) = reason {
            self.calls.refused.add(1, &[method, KeyValue::new(ERROR_REASON, reason)]);
        }
    }

    fn in_progress(&self, change: i64) {
        self.calls
            .in_progress
            .add(change, &[KeyValue::new(RPC_METHOD, Value::from(Arc::clone(&self.method)))]);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.over {
            self.in_progress(-1);
        }
    }
}
