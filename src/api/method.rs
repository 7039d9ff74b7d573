//! The names of the methods there are: what a caller made up is no name to log or to count by.

use std::{collections::HashSet, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::proto;

/// In place of any other.
const OTHER: &str = "_OTHER";

static KNOWN: LazyLock<HashSet<String>> = LazyLock::new(|| {
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
    KNOWN.get(path.trim_start_matches('/')).map_or(OTHER, String::as_str)
}

/// Every name that [`method`] gives.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(String::as_str).chain([OTHER])
}

fn methods(descriptors: &[u8]) -> Vec<String> {
    let set = FileDescriptorSet::decode(descriptors).unwrap_or_default();
    let of_file = |file: &prost_types::FileDescriptorProto| {
        let package = file.package().to_owned();
        let names = |service: &prost_types::ServiceDescriptorProto| -> Vec<String> {
            let name = |method: &prost_types::MethodDescriptorProto| {
                format!("{package}.{}/{}", service.name(), method.name())
            };
            service.method.iter().map(name).collect()
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
        }
    }
}
