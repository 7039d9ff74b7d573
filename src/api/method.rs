//! The methods there are, and what each asks of its caller: what a caller made up is no name to log or to count by.

use std::{collections::HashMap, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::{
    auth::Scope,
    proto::{self, v1},
};

/// In place of any other.
const OTHER: &str = "_OTHER";
/// Whoever keeps the process running asks for its health, without being anybody.
const FOR_ANYBODY: &str = "grpc.health.v1.";

/// One method.
#[derive(Debug)]
pub(super) struct Method {
    /// `package.Service/Method`
    pub(super) name: String,
    /// Who may call it.
    pub(super) rule: Rule,
    /// Whether it lasts, as a stream of either side does.
    pub(super) streams: bool,
    /// Whether the caller may send more than one message.
    uploads: bool,
}

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Whoever reaches the port.
    Anybody,
    /// Whoever is known.
    Known,
    /// Whoever has the scope, in the environment that it is about.
    Having(Scope),
}

static KNOWN: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
    .into_iter()
    .flat_map(methods)
    .map(|method| (method.name.clone(), method))
    .collect()
});

/// The method at a path, if there is one.
pub(super) fn find(path: &str) -> Option<&'static Method> {
    KNOWN.get(path.trim_start_matches('/'))
}

/// `package.Service/Method` of a path, or `_OTHER` where there is no such method.
pub(super) fn method(path: &str) -> &'static str {
    find(path).map_or(OTHER, |method| &method.name)
}

/// Whether either side may send more than one message in a call to `path`.
pub(super) fn streams(path: &str) -> bool {
    find(path).is_some_and(|method| method.streams)
}

/// Whether the caller may send more than one message in a call to `path`.
pub(super) fn uploads(path: &str) -> bool {
    find(path).is_some_and(|method| method.uploads)
}

/// Every name that [`method`] gives.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    KNOWN.keys().map(String::as_str).chain([OTHER])
}

fn methods(descriptors: &[u8]) -> Vec<Method> {
    let set = FileDescriptorSet::decode(descriptors).unwrap_or_default();
    let of_file = |file: &prost_types::FileDescriptorProto| {
        let package = file.package().to_owned();
        let of_service = |service: &prost_types::ServiceDescriptorProto| -> Vec<Method> {
            let of_method = |method: &prost_types::MethodDescriptorProto| {
                let name = format!("{package}.{}/{}", service.name(), method.name());
                let uploads = method.client_streaming();
                let streams = uploads || method.server_streaming();
                Method { rule: rule(&name), name, streams, uploads }
            };
            service.method.iter().map(of_method).collect()
        };
        file.service.iter().flat_map(of_service).collect::<Vec<_>>()
    };
    set.file.iter().flat_map(of_file).collect()
}

/// Ours say it in the contract; of the others, only health is for anybody.
fn rule(name: &str) -> Rule {
    let said = proto::SCOPES.iter().find(|(method, _)| *method == name);
    match said.and_then(|(_, number)| v1::Scope::try_from(*number).ok()) {
        Some(v1::Scope::Unblock) => Rule::Having(Scope::Unblock),
        Some(v1::Scope::Bulk) => Rule::Having(Scope::Bulk),
        Some(v1::Scope::Read) => Rule::Having(Scope::Read),
        Some(v1::Scope::Contacts) => Rule::Having(Scope::Contacts),
        Some(v1::Scope::Operate) => Rule::Having(Scope::Operate),
        Some(v1::Scope::Audit) => Rule::Having(Scope::Audit),
        Some(v1::Scope::Unspecified) | None if name.starts_with(FOR_ANYBODY) => Rule::Anybody,
        Some(v1::Scope::Unspecified) | None => Rule::Known,
    }
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

    #[test]
    fn every_method_of_ours_asks_for_a_scope_and_only_health_asks_for_nothing() {
        for Method { name, rule, .. } in KNOWN.values() {
            match name.split('.').next() {
                Some("pingone") => assert!(matches!(rule, Rule::Having(_)), "{name}"),
                _ if name.starts_with("grpc.health.") => assert_eq!(*rule, Rule::Anybody, "{name}"),
                _ => assert_eq!(*rule, Rule::Known, "{name}"),
            }
        }
    }
}
