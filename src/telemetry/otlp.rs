//! Where telemetry is sent, as the `OTEL_*` variables say, and whose it is.

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_semantic_conventions::{
    SCHEMA_URL,
    attribute::{SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION},
};

const SERVICE: &str = "pingone-unblock";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What [`Signal`]s are sent with, as the variables name it.
const PROTOCOL: &str = "grpc";

/// What a variable is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }
}

/// Where a signal goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// There is to be no telemetry at all.
    Disabled,
    /// Nowhere.
    Nowhere,
    /// Nowhere, though it is asked for: this is why.
    Unusable(String),
    /// To the collector at this address, over gRPC.
    Collector(String),
}

impl Destination {
    /// What the variables ask for. An exporter's headers, timeout and the like it reads itself.
    pub(super) fn of(signal: Signal, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let own = |what: &str| format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name());
        let first = |what: &str| {
            [own(what), format!("OTEL_EXPORTER_OTLP_{what}")]
                .into_iter()
                .find_map(|name| set(&name).map(|value| (name, value)))
        };
        if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::Disabled;
        }
        let exporter = format!("OTEL_{}_EXPORTER", signal.name());
        match set(&exporter).as_deref() {
            Some("none") => return Self::Nowhere,
            None | Some("otlp") => {}
            Some(other) => {
                return Self::Unusable(format!("{exporter} is {other}: otlp and none are understood"));
            }
        }
        let Some((_, endpoint)) = first("ENDPOINT") else { return Self::Nowhere };
        match first("PROTOCOL") {
            Some((name, value)) if value != PROTOCOL => Self::Unusable(format!(
                "{name} is {value}: only {PROTOCOL} is spoken; set it so and name the collector's gRPC port"
            )),
            _ => Self::Collector(endpoint),
        }
    }
}

/// What the `OTEL_*` variables say of this process; what they do not, it says itself. Made once: all signals are of one instance.
pub(super) fn resource() -> Resource {
    let said = Resource::builder().build();
    let unnamed =
        said.get_ref(&SERVICE_NAME.into()).is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let mut own = vec![
        KeyValue::new(SERVICE_VERSION, VERSION),
        KeyValue::new(SERVICE_INSTANCE_ID, uuid::Uuid::new_v4().to_string()),
    ];
    own.retain(|attribute| said.get_ref(&attribute.key).is_none());
    if unnamed {
        own.push(KeyValue::new(SERVICE_NAME, SERVICE));
    }
    Resource::builder().with_schema_url([], SCHEMA_URL).with_attributes(own).build()
}

/// Who speaks, and by which conventions.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(SERVICE).with_version(VERSION).with_schema_url(SCHEMA_URL).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(signal: Signal, given: &[(&str, &str)]) -> Destination {
        let find =
            |name: &str| given.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Destination::of(signal, find)
    }

    #[test]
    fn the_variables_say_where_a_signal_goes() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:4317");
        let there = |address: &str| Destination::Collector(address.to_owned());
        for (given, traces, logs) in [
            (&[][..], Destination::Nowhere, Destination::Nowhere),
            (&[all], there("http://all:4317"), there("http://all:4317")),
            (&[all, own], there("http://own:4317"), there("http://all:4317")),
            (&[own], there("http://own:4317"), Destination::Nowhere),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], Destination::Nowhere, Destination::Nowhere),
            (&[all, ("OTEL_SDK_DISABLED", "TRUE")], Destination::Disabled, Destination::Disabled),
            (&[all, ("OTEL_TRACES_EXPORTER", "none")], Destination::Nowhere, there("http://all:4317")),
            (&[all, ("OTEL_LOGS_EXPORTER", "none")], there("http://all:4317"), Destination::Nowhere),
            (
                &[all, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
                there("http://all:4317"),
                there("http://all:4317"),
            ),
        ] {
            assert_eq!(asked(Signal::Traces, given), traces, "{given:?}");
            assert_eq!(asked(Signal::Logs, given), logs, "{given:?}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said_with_its_variable() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4318");
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
            ("OTEL_LOGS_EXPORTER", "console"),
        ] {
            let Destination::Unusable(why) = asked(Signal::Logs, &[all, (name, value)]) else {
                panic!("{name}={value} is taken");
            };
            assert!(why.contains(name) && why.contains(value), "{why}");
        }
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        assert_eq!(asked(Signal::Logs, &[protocol]), Destination::Nowhere, "nothing is asked for");
    }

    #[test]
    fn a_process_says_which_it_is_and_by_which_conventions() {
        let resource = resource();
        let of = |key: &'static str| resource.get(&key.into()).map(|value| value.to_string());
        assert_eq!(of(SERVICE_NAME).as_deref(), Some(SERVICE));
        assert_eq!(of(SERVICE_VERSION).as_deref(), Some(VERSION));
        assert!(of(SERVICE_INSTANCE_ID).is_some_and(|id| id.len() == 36));
        assert_eq!(resource.schema_url(), Some(SCHEMA_URL));
        assert_eq!(scope().schema_url(), Some(SCHEMA_URL));
    }
}
