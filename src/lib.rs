//! Unblocks PingOne MFA devices: durable, idempotent, inside PingOne's limits, over gRPC.

pub mod cli;
pub mod device;
pub mod engine;
pub mod job;
pub mod pingone;
pub mod postgres;
pub mod proto;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod watch;
