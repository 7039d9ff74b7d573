//! The contract, generated from `proto/`. Its documentation stands there.

#![expect(missing_docs, reason = "generated code carries what documentation the .proto files have")]
#![expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated code")]

/// `pingone.device.v1`: devices, jobs and environments.
pub mod v1 {
    tonic::include_proto!("pingone.device.v1");
}

/// The compiled contract, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// What each RPC asks of its caller: its name, `package.Service/Method`, and the scope's number in the contract.
pub const SCOPES: &[(&str, i32)] = &include!(concat!(env!("OUT_DIR"), "/scopes.rs"));
