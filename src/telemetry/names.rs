//! The names there are: those of OpenTelemetry's conventions, and ours. A test fails on any that is neither.

use opentelemetry_semantic_conventions::{attribute as convention, metric};

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

/// Every attribute that no convention knows.
pub const ATTRIBUTES: &[&str] = &[
    attribute::ATTEMPT,
    attribute::ENVIRONMENT_ID,
    attribute::OUTCOME,
    "error.reason",
    "tokio.worker",
    "unblock.bound",
    "unblock.cause",
    "unblock.direction",
    "unblock.disposition",
    "unblock.policy.version",
    "unblock.priority",
    "unblock.reason",
    "unblock.reload.what",
    "unblock.request",
    "unblock.signal",
    "unblock.state",
    "unblock.transition",
];

/// Every attribute of the conventions that is used.
pub const CONVENTIONS: &[&str] = &[
    convention::DB_CLIENT_CONNECTION_POOL_NAME,
    convention::DB_CLIENT_CONNECTION_STATE,
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
    convention::OTEL_COMPONENT_NAME,
    convention::OTEL_COMPONENT_TYPE,
    convention::RPC_METHOD,
    convention::RPC_RESPONSE_STATUS_CODE,
    convention::RPC_SYSTEM_NAME,
    convention::SERVER_ADDRESS,
    convention::SERVER_PORT,
    convention::URL_TEMPLATE,
];

/// Every instrument: those of conventions, then ours.
pub const INSTRUMENTS: &[&str] = &[
    metric::DB_CLIENT_CONNECTION_COUNT,
    metric::DB_CLIENT_CONNECTION_MAX,
    metric::DB_CLIENT_OPERATION_DURATION,
    metric::HTTP_CLIENT_REQUEST_DURATION,
    metric::OTEL_SDK_LOG_CREATED,
    metric::OTEL_SDK_PROCESSOR_LOG_PROCESSED,
    metric::OTEL_SDK_PROCESSOR_LOG_QUEUE_CAPACITY,
    metric::OTEL_SDK_PROCESSOR_SPAN_PROCESSED,
    metric::PROCESS_CPU_TIME,
    metric::PROCESS_MEMORY_USAGE,
    metric::PROCESS_THREAD_COUNT,
    metric::PROCESS_UNIX_FILE_DESCRIPTOR_COUNT,
    metric::PROCESS_UPTIME,
    metric::RPC_SERVER_CALL_DURATION,
    "tokio.runtime.alive_tasks",
    "tokio.runtime.busy",
    "tokio.runtime.global_queue_depth",
    "tokio.runtime.workers",
    "unblock.attempts",
    "unblock.audit.dropped",
    "unblock.audit.failures",
    "unblock.audit.seal.failures",
    "unblock.audit.sealed",
    "unblock.audit.unsealed.age",
    "unblock.batch.rows",
    "unblock.batches.open",
    "unblock.batches.paused",
    "unblock.commit.size",
    "unblock.connections.open",
    "unblock.connections.refused",
    "unblock.job.duration",
    "unblock.job.time_to_send",
    "unblock.jobs.accepted",
    "unblock.jobs.finished",
    "unblock.keys.fetches",
    "unblock.lanes.moved",
    "unblock.lanes.owned",
    "unblock.leases.lapsed",
    "unblock.policy.info",
    "unblock.postgres.errors",
    "unblock.postgres.round_trip",
    "unblock.postgres.up",
    "unblock.purged.rows",
    "unblock.queue.jobs",
    "unblock.queue.oldest_age",
    "unblock.quota.refused",
    "unblock.reloads",
    "unblock.replicas",
    "unblock.results.unsaved",
    "unblock.results.unsaved.limit",
    "unblock.rpc.in_progress",
    "unblock.rpc.refused",
    "unblock.telemetry.dropped",
    "unblock.token.expires_in",
    "unblock.token.refreshes",
    "unblock.tokens.verified",
    "unblock.upstream.blocked",
    "unblock.upstream.in_flight",
    "unblock.upstream.in_flight.limit",
    "unblock.upstream.rate",
    "unblock.upstream.rate.allowed",
    "unblock.upstream.rate.limit",
    "unblock.upstream.retry_after",
    "unblock.upstream.staged",
    "unblock.upstream.transitions",
];
