//! The integration tests: one binary, real processes, real PostgreSQL.

mod harness;
mod postgres;
