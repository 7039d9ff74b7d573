//! The integration tests: one binary, real processes, real PostgreSQL.

mod cancel;
mod clients;
mod commands;
mod contract;
mod documents;
mod environments;
mod fairness;
mod harness;
mod idempotency;
mod layers;
mod limits;
mod lookups;
mod outage;
mod pauses;
mod plans;
mod postgres;
mod process;
mod replicas;
mod retention;
mod stale;
mod steer;
mod takeover;
mod trouble;
mod unblock;
mod user_devices;
