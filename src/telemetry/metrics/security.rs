//! Who may do what, and what proves it: certificates and policies read anew, refusals, the audit trail.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter, UpDownCounter},
};

const CAUSE: &str = "unblock.cause";
const WHAT: &str = "unblock.reload.what";
const OUTCOME: &str = "unblock.outcome";
/// What is read anew.
const RELOADED: [&str; 4] = ["tls", "policy", "credentials", "snapshot_keys"];

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
        };
        security.connections.add(0, &[]);
        for cause in Refused::ALL {
            security.refused.add(0, &[KeyValue::new(CAUSE, cause.name())]);
        }
        for what in RELOADED {
            for outcome in [Reload::Taken, Reload::Refused] {
                security.reloads.add(0, &labels(what, outcome));
            }
        }
        security
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
}

fn labels(what: &'static str, outcome: Reload) -> [KeyValue; 2] {
    let outcome = match outcome {
        Reload::Taken => "taken",
        Reload::Refused => "refused",
    };
    [KeyValue::new(WHAT, what), KeyValue::new(OUTCOME, outcome)]
}
