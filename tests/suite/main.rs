//! The integration tests: one binary, real processes, real PostgreSQL.

mod clients;
mod commands;
mod contract;
mod documents;
mod environments;
mod harness;
mod idempotency;
mod layers;
mod outage;
mod pauses;
mod postgres;
mod process;
mod replicas;
mod retention;
mod steer;
mod unblock;
