//! Who may do what, and what proves it: certificates and policies read anew, refusals, the audit trail.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Meter, UpDownCounter},
};

use crate::job::Bound;

const CAUSE: &str = "unblock.cause";
const WHAT: &str = "unblock.reload.what";
const OUTCOME: &str = "unblock.outcome";
const VERSION: &str = "unblock.policy.version";
const BOUND: &str = "unblock.bound";
/// What is read anew.
const RELOADED: [&str; 4] = ["tls", "policy", "credentials", "snapshot_keys"];

/// What becomes of a token: accepted, or why not.
pub(crate) const TOKENS: [&str; 16] = [
    "ok",
    "missing",
    "too_large",
    "malformed",
    "algorithm",
    "extension",
    "type",
    "issuer",
    "key_unknown",
    "keys_unavailable",
    "signature",
    "claim_missing",
    "claim_wrong",
    "audience",
    "expired",
    "not_yet_valid",
];
/// What becomes of asking for keys: had, or why not.
pub(crate) const FETCHES: [&str; 9] =
    ["ok", "unreachable", "timeout", "redirect", "status", "too_large", "discovery", "not_keys", "no_key"];

/// What became of a changed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// It is used from now on.
    Taken,
    /// It cannot be used; the last good one stays.
    Refused,
}

/// Why a connection was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    TooMany,
    /// Of this address there are as many as there may be.
    TooManyOfPeer,
    /// Its handshake took too long.
    HandshakeTimeout,
    /// It broke during the handshake, or what came is no TLS.
    HandshakeBroken,
    /// No version or cipher in common.
    Unsupported,
    /// It does not trust the certificate of this server.
    ByPeer,
    /// It showed no certificate where one is required.
    CertificateMissing,
    /// An authority that is not known here.
    CertificateAuthority,
    /// A certificate whose time is over.
    CertificateExpired,
    /// A certificate whose time has not begun.
    CertificateNotYetValid,
    /// A certificate that is not for clients.
    CertificatePurpose,
    /// A certificate whose names say nothing, or are not fit to be an identity.
    CertificateName,
    /// A signature that is not by its key.
    CertificateSignature,
    /// Any other certificate that cannot be used.
    CertificateInvalid,
}

impl Refused {
    const ALL: [Self; 14] = [
        Self::TooMany,
        Self::TooManyOfPeer,
        Self::HandshakeTimeout,
        Self::HandshakeBroken,
        Self::Unsupported,
        Self::ByPeer,
        Self::CertificateMissing,
        Self::CertificateAuthority,
        Self::CertificateExpired,
        Self::CertificateNotYetValid,
        Self::CertificatePurpose,
        Self::CertificateName,
        Self::CertificateSignature,
        Self::CertificateInvalid,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::TooManyOfPeer => "too_many_of_peer",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HandshakeBroken => "handshake_broken",
            Self::Unsupported => "tls_unsupported",
            Self::ByPeer => "refused_by_peer",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateAuthority => "certificate_authority",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateNotYetValid => "certificate_not_yet_valid",
            Self::CertificatePurpose => "certificate_purpose",
            Self::CertificateName => "certificate_name",
            Self::CertificateSignature => "certificate_signature",
            Self::CertificateInvalid => "certificate_invalid",
        }
    }
}

/// Who may do what.
#[derive(Debug)]
pub struct Security {
    reloads: Counter<u64>,
    refused: Counter<u64>,
    connections: UpDownCounter<i64>,
    over_quota: Counter<u64>,
    tokens: Counter<u64>,
    fetches: Counter<u64>,
    policy: PolicyInfo,
    trail_failures: Counter<u64>,
    denials_dropped: Counter<u64>,
    sealed: Counter<u64>,
    unsealed: Gauge<f64>,
    seal_failures: Counter<u64>,
}

type Look = Box<dyn Fn() -> String + Send + Sync>;

/// Which policy holds, said when somebody asks: of one that held before nothing is left.
#[derive(Clone, Default)]
struct PolicyInfo(Arc<Mutex<Option<Look>>>);

impl std::fmt::Debug for PolicyInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyInfo").finish_non_exhaustive()
    }
}

impl Security {
    pub(super) fn new(meter: &Meter) -> Self {
        let security = Self {
            reloads: meter
                .u64_counter("unblock.reloads")
                .with_unit("{reload}")
                .with_description("Changed files, by what is made of them and whether it could be used")
                .build(),
            refused: meter
                .u64_counter("unblock.connections.refused")
                .with_unit("{connection}")
                .with_description("Connections to the gRPC port that were not taken, by cause")
                .build(),
            connections: meter
                .i64_up_down_counter("unblock.connections.open")
                .with_unit("{connection}")
                .with_description("Connections to the gRPC port, handshakes under way among them")
                .build(),
            over_quota: meter
                .u64_counter("unblock.quota.refused")
                .with_unit("{refusal}")
                .with_description("Unblocks, batches, calls and streams refused, by the bound that they would have exceeded")
                .build(),
            tokens: meter
                .u64_counter("unblock.tokens.verified")
                .with_unit("{token}")
                .with_description("Callers' tokens, by what became of them")
                .build(),
            fetches: meter
                .u64_counter("unblock.keys.fetches")
                .with_unit("{fetch}")
                .with_description("How often an issuer was asked for its keys, by what came of it")
                .build(),
            policy: PolicyInfo::default(),
            trail_failures: meter
                .u64_counter("unblock.audit.failures")
                .with_unit("{failure}")
                .with_description("Statements that did nothing because the audit trail could not be written")
                .build(),
            denials_dropped: meter
                .u64_counter("unblock.audit.dropped")
                .with_unit("{call}")
                .with_description("Refused calls that found no room in the audit trail")
                .build(),
            sealed: meter
                .u64_counter("unblock.audit.sealed")
                .with_unit("{event}")
                .with_description("Audit entries that this replica has sealed")
                .build(),
            unsealed: meter
                .f64_gauge("unblock.audit.unsealed.age")
                .with_unit("s")
                .with_description(
                    "How long the oldest audit entry of this replica's lanes has waited to be sealed",
                )
                .build(),
            seal_failures: meter
                .u64_counter("unblock.audit.seal.failures")
                .with_unit("{failure}")
                .with_description("Rounds of sealing that Postgres did not take")
                .build(),
        };
        security.connections.add(0, &[]);
        for cause in Refused::ALL {
            security.refused.add(0, &[KeyValue::new(CAUSE, cause.name())]);
        }
        security.policy.observe(meter);
        for outcome in TOKENS {
            security.tokens.add(0, &[KeyValue::new(OUTCOME, outcome)]);
        }
        for outcome in FETCHES {
            security.fetches.add(0, &[KeyValue::new(OUTCOME, outcome)]);
        }
        security.trail_failures.add(0, &[]);
        security.denials_dropped.add(0, &[]);
        security.sealed.add(0, &[]);
        security.seal_failures.add(0, &[]);
        for bound in Bound::ALL {
            security.over_quota(bound, 0);
        }
        for what in RELOADED {
            for outcome in [Reload::Taken, Reload::Refused] {
                security.reloads.add(0, &labels(what, outcome));
            }
        }
        security
    }

    /// So much would have exceeded that bound and was refused.
    pub fn over_quota(&self, bound: Bound, refused: usize) {
        let refused = u64::try_from(refused).unwrap_or(u64::MAX);
        self.over_quota.add(refused, &[KeyValue::new(BOUND, bound.name())]);
    }

    /// A statement did nothing because the trail could not be written.
    pub fn trail_failed(&self) {
        self.trail_failures.add(1, &[]);
    }

    /// So many refused calls are in no trail.
    pub fn denials_dropped(&self, calls: u64) {
        self.denials_dropped.add(calls, &[]);
    }

    /// A changed file of `what` was taken or refused.
    pub fn reloaded(&self, what: &'static str, outcome: Reload) {
        self.reloads.add(1, &labels(what, outcome));
    }

    /// A connection was not taken.
    pub fn refused(&self, cause: Refused) {
        self.refused.add(1, &[KeyValue::new(CAUSE, cause.name())]);
    }

    /// So many connections more, or fewer.
    pub fn connections(&self, more: i64) {
        self.connections.add(more, &[]);
    }

    /// A caller's token was good (`ok`), or not.
    pub fn token_verified(&self, outcome: &'static str) {
        self.tokens.add(1, &[KeyValue::new(OUTCOME, outcome)]);
    }

    /// An issuer gave its keys (`ok`), or did not.
    pub fn keys_fetched(&self, outcome: &'static str) {
        self.fetches.add(1, &[KeyValue::new(OUTCOME, outcome)]);
    }

    /// So many audit entries were sealed; the oldest that may be left has waited so long.
    pub fn sealed(&self, events: u64, waits: Duration) {
        self.sealed.add(events, &[]);
        self.unsealed.record(waits.as_secs_f64(), &[]);
    }

    /// Sealing failed: for so long now it has not been known to be complete.
    pub fn not_sealed(&self, waits: Duration) {
        self.seal_failures.add(1, &[]);
        self.unsealed.record(waits.as_secs_f64(), &[]);
    }

    /// From now on the version of the policy is what `look` says.
    pub fn watch_policy(&self, look: impl Fn() -> String + Send + Sync + 'static) {
        *self.policy.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(look));
    }
}

impl PolicyInfo {
    fn observe(&self, meter: &Meter) {
        let policy = self.clone();
        meter
            .u64_observable_gauge("unblock.policy.info")
            .with_description("1, with the version of the policy that holds")
            .with_callback(move |observer| {
                let look = policy.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(version) = look.as_ref().map(|look| look()) {
                    observer.observe(1, &[KeyValue::new(VERSION, version)]);
                }
            })
            .build();
    }
}

fn labels(what: &'static str, outcome: Reload) -> [KeyValue; 2] {
    let outcome = match outcome {
        Reload::Taken => "taken",
        Reload::Refused => "refused",
    };
    [KeyValue::new(WHAT, what), KeyValue::new(OUTCOME, outcome)]
}
