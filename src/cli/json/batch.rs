//! Batches and their results as JSON.

use serde_json::Value;

use super::{Fields, error, named};
use crate::proto::v1::{self, batch, job, target_result::Outcome};

pub(in crate::cli) fn batch(batch: &v1::Batch) -> Value {
    Fields::default()
        .text("batchId", &batch.batch_id)
        .text("environmentId", &batch.environment_id)
        .value(
            "state",
            named(batch.state, batch::State::try_from(batch.state).map(|state| state.as_str_name())),
        )
        .text("stateReason", &batch.state_reason)
        .number("targetCount", batch.target_count)
        .number("pendingCount", batch.pending_count)
        .number("succeededCount", batch.succeeded_count)
        .number("failedCount", batch.failed_count)
        .number("cancelledCount", batch.cancelled_count)
        .number("expiredCount", batch.expired_count)
        .number("rejectedCount", batch.rejected_count)
        .time("createTime", batch.create_time)
        .time("completeTime", batch.complete_time)
        .time("estimatedCompleteTime", batch.estimated_complete_time)
        .text("caller", &batch.caller)
        .text("reason", &batch.reason)
        .text("ticket", &batch.ticket)
        .number("nextOffset", batch.next_offset)
        .flag("sealed", batch.sealed)
        .number("runningCount", batch.running_count)
        .number("expandedCount", batch.expanded_count)
        .number("duplicateCount", batch.duplicate_count)
        .double("currentRate", batch.current_rate)
        .text("waitingFor", &batch.waiting_for)
        .time("expireTime", batch.expire_time)
        .double("maxFailureRatio", batch.max_failure_ratio)
        .number("canaryCount", batch.canary_count)
        .text("onBehalfOf", &batch.on_behalf_of)
        .flag("startWhenSealed", batch.start_when_sealed)
        .into()
}

pub(in crate::cli) fn target_result(result: &v1::TargetResult) -> Value {
    let outcome = Outcome::try_from(result.outcome).map(|outcome| outcome.as_str_name());
    let state = job::State::try_from(result.state).map(|state| state.as_str_name());
    Fields::default()
        .number("offset", result.offset)
        .value("target", result.target.as_ref().map(target))
        .text("jobId", &result.job_id)
        .value("state", named(result.state, state))
        .value("error", result.error.as_ref().map(error))
        .number("attemptCount", result.attempt_count)
        .time("completeTime", result.complete_time)
        .text("blockStatus", &result.block_status)
        .text("lockStatus", &result.lock_status)
        .time("lockExpireTime", result.lock_expire_time)
        .value("outcome", named(result.outcome, outcome))
        .text("deviceId", &result.device_id)
        .number("subIndex", result.sub_index)
        .into()
}

/// How far an upload has come, as `bulk` tells it.
pub(in crate::cli) fn upload(header: &v1::BatchHeader, next_offset: i64, target_count: i64) -> Value {
    Fields::default()
        .text("environmentId", &header.environment_id)
        .text("batchId", &header.batch_id)
        .number("nextOffset", next_offset)
        .number("targetCount", target_count)
        .into()
}

fn target(target: &v1::BatchTarget) -> Value {
    Fields::default()
        .text("userId", &target.user_id)
        .text("deviceId", &target.device_id)
        .text("clientReference", &target.client_reference)
        .into()
}
