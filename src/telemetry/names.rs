//! The names there are: those of OpenTelemetry's conventions, and ours. A test fails on any that is neither.

use opentelemetry_semantic_conventions::attribute as convention;

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

/// Every attribute of a span that is one of the conventions.
pub const CONVENTIONS: &[&str] = &[
    convention::DB_OPERATION_BATCH_SIZE,
    convention::DB_OPERATION_NAME,
    convention::DB_SYSTEM_NAME,
    convention::ERROR_TYPE,
    convention::HTTP_REQUEST_METHOD,
    convention::HTTP_REQUEST_RESEND_COUNT,
    convention::HTTP_RESPONSE_STATUS_CODE,
    convention::MESSAGING_DESTINATION_NAME,
    convention::MESSAGING_MESSAGE_ID,
    convention::MESSAGING_OPERATION_NAME,
    convention::MESSAGING_OPERATION_TYPE,
    convention::MESSAGING_SYSTEM,
    convention::RPC_METHOD,
    convention::RPC_RESPONSE_STATUS_CODE,
    convention::RPC_SYSTEM_NAME,
    convention::SERVER_ADDRESS,
    convention::SERVER_PORT,
    convention::URL_TEMPLATE,
];
