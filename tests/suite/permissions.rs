//! Who may do what: every RPC of the contract against every kind of caller, made from the compiled contract. An RPC that is added
//! is tested here without being named, or this fails for want of a request.

use std::{collections::HashMap, error::Error};

use bytes::{Buf as _, BufMut as _, Bytes};
use pingone_unblock::{
    auth::Scope,
    proto::{DESCRIPTORS, SCOPES, v1},
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use uuid::Uuid;

use crate::{
    harness::{
        Result,
        issuer::Issuer,
        service::{ENVIRONMENT, PingOne, Variant, World, example_device, request_without_wait},
    },
    unblock::reason,
};

/// An environment that the callers of these tests have nothing to do with, or nothing else.
const ELSEWHERE: &str = "11111111-2222-4333-8444-555555555555";

/// One RPC of the contract.
#[derive(Debug, Clone)]
struct Rpc {
    name: String,
    scope: Scope,
    sends_a_stream: bool,
}

impl Rpc {
    fn short(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

fn rpcs() -> Result<Vec<Rpc>> {
    let set = FileDescriptorSet::decode(DESCRIPTORS)?;
    let mut found = Vec::new();
    for file in set.file.iter().filter(|file| file.package().starts_with("pingone.")) {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                let said = SCOPES.iter().find(|(rpc, _)| *rpc == name);
                let (_, number) = said.ok_or_else(|| format!("{name} says no scope"))?;
                // The contract's enumeration begins with one for none.
                let scope = Scope::ALL.get(usize::try_from(number - 1)?);
                let scope = *scope.ok_or_else(|| format!("{name} says scope {number}"))?;
                found.push(Rpc { name, scope, sends_a_stream: method.client_streaming() });
            }
        }
    }
    assert!(found.len() >= 21, "the contract has {} RPCs", found.len());
    Ok(found)
}

/// Bytes as they are: whatever a caller may send.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}

/// What is asked about.
struct Things {
    environment: String,
    job: String,
    batch: String,
}

/// A whole request of `rpc` about `things`.
fn request_of(rpc: &Rpc, things: &Things) -> Result<Bytes> {
    let Things { environment, job, batch } = things;
    let (environment_id, job_id, batch_id) = (environment.clone(), job.clone(), batch.clone());
    let user_id = Uuid::new_v4().to_string();
    let device_ref = Some(v1::DeviceRef {
        environment_id: environment_id.clone(),
        user_id: user_id.clone(),
        device_id: Uuid::new_v4().to_string(),
    });
    let header = Some(v1::BatchHeader {
        batch_id: Uuid::new_v4().to_string(),
        environment_id: environment_id.clone(),
        ..v1::BatchHeader::default()
    });
    let (reason, ticket) = (String::new(), String::new());
    Ok(Bytes::from(match rpc.short() {
        "Unblock" => v1::UnblockRequest {
            device_ref,
            wait: Some(prost_types::Duration::default()),
            ..v1::UnblockRequest::default()
        }
        .encode_to_vec(),
        "BulkUnblock" => {
            let kind = header.map(v1::bulk_unblock_request::Kind::Header);
            v1::BulkUnblockRequest { kind }.encode_to_vec()
        }
        "AppendBatchTargets" => {
            v1::AppendBatchTargetsRequest { header, ..v1::AppendBatchTargetsRequest::default() }.encode_to_vec()
        }
        "ListUserDevices" => v1::ListUserDevicesRequest { environment_id, user_id }.encode_to_vec(),
        "GetDevice" => v1::GetDeviceRequest { device_ref }.encode_to_vec(),
        "GetJob" => v1::GetJobRequest { job_id }.encode_to_vec(),
        "ListJobs" => v1::ListJobsRequest { environment_id, ..v1::ListJobsRequest::default() }.encode_to_vec(),
        "WatchJob" => v1::WatchJobRequest { job_id }.encode_to_vec(),
        "CancelJob" => v1::CancelJobRequest { job_id, reason }.encode_to_vec(),
        "RetryJob" => v1::RetryJobRequest { job_id, ..v1::RetryJobRequest::default() }.encode_to_vec(),
        "GetBatch" => v1::GetBatchRequest { environment_id, batch_id }.encode_to_vec(),
        "ListBatches" => {
            v1::ListBatchesRequest { environment_id, ..v1::ListBatchesRequest::default() }.encode_to_vec()
        }
        "WatchBatch" => v1::WatchBatchRequest { environment_id, batch_id }.encode_to_vec(),
        "StreamBatchResults" => v1::StreamBatchResultsRequest {
            environment_id,
            batch_id,
            ..v1::StreamBatchResultsRequest::default()
        }
        .encode_to_vec(),
        "PauseBatch" => v1::PauseBatchRequest { environment_id, batch_id, reason, ticket }.encode_to_vec(),
        "ResumeBatch" => v1::ResumeBatchRequest { environment_id, batch_id, reason, ticket }.encode_to_vec(),
        "CancelBatch" => v1::CancelBatchRequest { environment_id, batch_id, reason, ticket }.encode_to_vec(),
        "RetryBatch" => v1::RetryBatchRequest { environment_id, batch_id, reason, ticket }.encode_to_vec(),
        "ListEnvironments" => v1::ListEnvironmentsRequest::default().encode_to_vec(),
        "PauseEnvironment" => v1::PauseEnvironmentRequest { environment_id, reason }.encode_to_vec(),
        "ResumeEnvironment" => v1::ResumeEnvironmentRequest { environment_id, reason }.encode_to_vec(),
        "ListAuditEvents" => {
            v1::ListAuditEventsRequest { environment_id, ..v1::ListAuditEventsRequest::default() }.encode_to_vec()
        }
        other => return Err(format!("write a request of {other} for this test").into()),
    }))
}
