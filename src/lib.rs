//! Unblocks PingOne MFA devices: durable, idempotent, inside PingOne's limits, over gRPC.
//!
//! ```text
//!  callers ──gRPC──▶ api ──submit──▶ engine ──one statement──▶ store (Postgres: the ledger and the queue)
//!     ▲               │                 │ claim, send, complete        │
//!     │               ▼                 ▼                              │
//!     └──states──── watch ◀──────── pingone ──POST──▶ PingOne          │
//!                     ▲                                                │
//!                     └──────────── changes, hints, polls ◀────────────┘
//! ```
//!
//! In reading order: [`device`], [`job`] and [`environment`] are the domain, pure; [`store`] has all SQL, [`pingone`] the client;
//! [`engine`] turns jobs into requests and answers into outcomes, [`watch`] tells who waits; [`api`] is the contract, [`config`]
//! and [`app`] put it together, [`cli`] is what people type. [`postgres`] and [`simulator`] are the two peers, on this machine,
//! for `demo` and the tests.

pub mod api;
pub mod app;
pub mod audit;
pub mod auth;
pub mod batch;
pub mod cli;
pub mod config;
pub mod device;
pub mod duration;
pub mod engine;
pub mod environment;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod job;
pub mod pingone;
pub mod postgres;
pub mod proto;
pub mod redact;
pub mod reload;
pub mod simulator;
pub mod spelling;
pub mod store;
pub mod telemetry;
pub mod watch;
