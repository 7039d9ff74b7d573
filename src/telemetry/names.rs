//! The names that are ours. All others are those of OpenTelemetry's conventions; a test fails on any that is neither.

/// Attributes of spans. Those of conventions come first wherever one fits.
pub mod attribute {
    /// Which attempt of a job, from 1.
    pub const ATTEMPT: &str = "unblock.attempt";
    /// The PingOne environment.
    pub const ENVIRONMENT_ID: &str = "unblock.environment.id";
    /// What came of an attempt: `ok`, `unsent`, or the reason of its failure.
    pub const OUTCOME: &str = "unblock.outcome";
}

/// What jobs are to OpenTelemetry: messages from whoever asks to whoever sends.
pub mod messaging {
    /// `messaging.system`
    pub const SYSTEM: &str = "pingone_unblock";
    /// `messaging.destination.name`
    pub const DESTINATION: &str = "unblock_jobs";
}

/// Every attribute of a span that no convention knows.
pub const ATTRIBUTES: &[&str] = &[attribute::ATTEMPT, attribute::ENVIRONMENT_ID, attribute::OUTCOME];
