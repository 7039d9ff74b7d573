//! The integration tests: one binary, real processes, real PostgreSQL.

mod contract;
mod harness;
mod idempotency;
mod layers;
mod outage;
mod postgres;
mod process;
mod replicas;
mod steer;
mod unblock;
