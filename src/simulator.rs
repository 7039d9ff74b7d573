//! PingOne as its documents describe it, over real HTTP/1.1, with faults on request: the peer of `simulate`, `demo`,
//! every test and the benchmark. Not a mock: it keeps devices, tokens, limits and a record of what reached it.
//!
//! It serves, per environment, `POST /{environment}/as/token` and, below `/v1/environments/{environment}`,
//! `users/{user}/devices` (GET) and `users/{user}/devices/{device}` (GET; POST with the media types of unblock, block and
//! unlock). Other actions PingOne documents (activate, the account lock …) are not simulated and answer 415 or 404.
//!
//! # Where the documents are silent
//!
//! | question | here |
//! |---|---|
//! | unblocking a device that is not blocked | 200, unless [`Settings::refuse_unblocked`] |
//! | does unblocking lift a lock, or change `updatedAt` | no, and no |
//! | unknown user or device, or a device of another user | 404 `NOT_FOUND` |
//! | a user without devices | as an unknown one: only devices make users known here |
//! | pages of a user's devices | none: all of them in one answer |
//! | codes of 405, 408 and 409 | `INVALID_REQUEST`, `REQUEST_FAILED`, `REQUEST_FAILED` |
//! | the number of the rate limit | [`Settings::rate_limit`]: allowed in any one second, all environments together, reads too, the token endpoint not; what is refused does not count |
//! | the form of a token | opaque text, not a signed JWT: a client has no business reading it |
//! | query parameters of reads | ignored |
//!
//! # Control
//!
//! On the same port, JSON, without authentication, never recorded:
//!
//! | call | does |
//! |---|---|
//! | `GET /control/counts` | [`Counts`] |
//! | `GET /control/requests?last=50` | the newest [`Record`]s, oldest first |
//! | `PUT /control/watched` | `{"user"}`: [`Simulator::watch`], absent means nobody |
//! | `GET /control/arrivals` | the [`Arrival`]s of that user, oldest first |
//! | `GET /control/deviations` | [`Deviated`] requests |
//! | `PUT /control/devices` | registers a [`Device`] |
//! | `GET /control/devices/{id}` | that [`Device`] with its [`DeviceCounts`]; 404 if it was never touched |
//! | `POST /control/faults` | adds a [`Plan`], e.g. `{"on":"any","faults":[{"fault":"status","status":503}],"rounds":null}` |
//! | `DELETE /control/faults` | [`Simulator::clear_faults`] |
//! | `POST /control/release` | [`Simulator::release`] |
//! | `POST /control/tokens/revoke` | [`Simulator::revoke_tokens`] |
//! | `PUT /control/clients` | `{"id","secret"}`: [`Simulator::set_secret`] |
//! | `PUT /control/limits` | `{"rate_limit","latency_ms","jitter_ms"}`, absent means none |
//!
//! Answers are 200 with JSON, or 204; 400 with `{"error"}` for what is not understood.

mod answer;
mod control;
mod deviation;
mod device;
mod documented;
mod exchange;
mod fault;
mod handle;
mod ledger;
mod plan;
mod seen;
mod server;
mod state;
mod tamper;
mod token;
mod watched;

use std::time::Duration;

pub use deviation::{Deviated, Deviation};
pub use device::Device;
pub use fault::{Fault, Garbage, Page, RetryAfter};
pub use handle::Simulator;
pub use ledger::{Counts, DeviceCounts, Ending, Record};
pub use plan::{On, Plan};
pub use watched::Arrival;

/// The client that exists unless [`Settings`] say otherwise.
pub const CLIENT_ID: &str = "0b7e6d0e-6f1c-4a4e-9a43-5f2b1c8d7e60";
/// Its secret.
pub const CLIENT_SECRET: &str = "simulated-secret";

/// How a simulator behaves from the start; the rest is said to it while it runs.
#[derive(Clone)]
pub struct Settings {
    /// The worker application that may ask for tokens.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// How long a token is good for. PingOne's last an hour ("Access tokens and ID tokens").
    pub token_lifetime: Duration,
    /// Requests in any one second that the licence allows, over all environments; none: any number.
    pub rate_limit: Option<u32>,
    /// How long every answer takes, after the request had its effect.
    pub latency: Duration,
    /// Up to so much longer, evenly spread.
    pub jitter: Duration,
    /// Only registered devices exist. Otherwise every device exists, as a blocked SMS device, once it is asked for, and a
    /// user nobody asked for before has one.
    pub strict: bool,
    /// Unblocking what is not blocked is refused (400 `REQUEST_FAILED`); PingOne's documents leave it open.
    pub refuse_unblocked: bool,
    /// The base that links in answers begin with, such as `https://api.pingone.eu/v1`; none: built from the `Host` header.
    pub api_base: Option<String>,
    /// How many requests are remembered (about 1 KiB each); the counters go on without. With 0 nothing grows with the number
    /// of devices: one that is not registered is, each time it is asked for, as if it were the first, and what was counted
    /// of it is forgotten while it has no request under way.
    pub records: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned(),
            token_lifetime: Duration::from_secs(3600),
            rate_limit: None,
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            strict: false,
            refuse_unblocked: false,
            api_base: None,
            records: 200_000,
        }
    }
}
