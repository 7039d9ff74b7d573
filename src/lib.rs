//! Unblocks PingOne MFA devices: durable, idempotent, inside PingOne's limits, over gRPC.

pub mod config;
pub mod device;
pub mod job;
pub mod pingone;
pub mod postgres;
pub mod proto;
pub mod simulator;
pub mod telemetry;
