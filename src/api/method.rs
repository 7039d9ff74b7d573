//! The names of the methods there are: what a caller made up is no name to log or to count by.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::proto;

/// In place of any other.
const OTHER: &str = "_OTHER";

/// What a caller and the service send in one call.
#[derive(Debug, Clone, Copy)]
struct Streams {
    /// Whether the caller may send more than one message.
    of_caller: bool,
    /// Whether it may be answered with more than one.
    of_service: bool,
}

static KNOWN: LazyLock<HashMap<String, Streams>> = LazyLock::new(|| {
    [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
    .into_iter()
    .flat_map(methods)
    .collect()
});

/// `package.Service/Method` of a path, or `_OTHER` where there is no such method.
pub(super) fn method(path: &str) -> &'static str {
    KNOWN.get_key_value(path.trim_start_matches('/')).map_or(OTHER, |(name, _)| name)
}

/// Whether either side may send more than one message in a call to `path`.
pub(super) fn streams(path: &str) -> bool {
    find(path).is_some_and(|streams| streams.of_caller || streams.of_service)
}

/// Whether the caller may send more than one message in a call to `path`.
pub(super) fn uploads(path: &str) -> bool {
    find(path).is_some_and(|streams| streams.of_caller)
}

fn find(path: &str) -> Option<Streams> {
    KNOWN.get(path.trim_start_matches('/')).copied()
}

/// Every name that [`method`] gives.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.keys().map(String::as_str).chain([OTHER])
}

fn methods(descriptors: &[u8]) -> Vec<(String, Streams)> {
    let set = FileDescriptorSet::decode(descriptors).unwrap_or_default();
    let of_file = |file: &prost_types::FileDescriptorProto| {
        let package = file.package().to_owned();
        let names = |service: &prost_types::ServiceDescriptorProto| -> Vec<_> {
            let named = |method: &prost_types::MethodDescriptorProto| {
                let streams =
                    Streams { of_caller: method.client_streaming(), of_service: method.server_streaming() };
                (format!("{package}.{}/{}", service.name(), method.name()), streams)
            };
            service.method.iter().map(named).collect()
        };
        file.service.iter().flat_map(names).collect::<Vec<_>>()
    };
    set.file.iter().flat_map(of_file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_there_are_have_a_name() {
        for known in [
            "pingone.device.v1.DeviceService/Unblock",
            "grpc.health.v1.Health/Check",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert_eq!(method(&format!("/{known}")), known);
        }
        for made_up in ["/", "/pingone.device.v1.DeviceService/jane", "/jane@example.com/x"] {
            assert_eq!(method(made_up), "_OTHER");
            assert!(!streams(made_up));
        }
    }

    #[test]
    fn streams_are_known_from_the_contract() {
        for (path, both) in [
            ("/pingone.device.v1.DeviceService/Unblock", (false, false)),
            ("/pingone.device.v1.JobService/WatchJob", (true, false)),
            ("/pingone.device.v1.DeviceService/BulkUnblock", (true, true)),
            ("/grpc.health.v1.Health/Watch", (true, false)),
        ] {
            assert_eq!((streams(path), uploads(path)), both, "{path}");
        }
    }
}
