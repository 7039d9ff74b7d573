//! Who may do what: every RPC of the contract against every kind of caller, made from the compiled contract. An RPC that is added
//! is tested here without being named, or this fails for want of a request.

use std::fmt::Write as _;

use bytes::{Buf as _, BufMut as _, Bytes};
use pingone_unblock::{
    api::{Admission, Denials},
    auth::{Authenticator, Policy, Scope, Tokens},
    proto::{DESCRIPTORS, SCOPES, v1},
    reload::Current,
    simulator,
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
        service::{
            ENVIRONMENT, Variant, World, eventually, request, request_without_wait, some_device, wire,
        },
    },
    unblock::reason,
};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(40);
/// An environment that the callers of these tests have nothing to do with, or nothing else.
const ELSEWHERE: &str = "11111111-2222-4333-8444-555555555555";

/// One RPC of the contract.
#[derive(Debug, Clone)]
struct Rpc {
    name: String,
    scope: Scope,
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
                found.push(Rpc { name, scope });
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
            v1::AppendBatchTargetsRequest { header, ..v1::AppendBatchTargetsRequest::default() }
                .encode_to_vec()
        }
        "ListUserDevices" => v1::ListUserDevicesRequest { environment_id, user_id }.encode_to_vec(),
        "GetDevice" => v1::GetDeviceRequest { device_ref }.encode_to_vec(),
        "ListAuditEvents" => {
            v1::ListAuditEventsRequest { environment_id, ..v1::ListAuditEventsRequest::default() }
                .encode_to_vec()
        }
        "GetJob" => v1::GetJobRequest { job_id }.encode_to_vec(),
        "ListJobs" => {
            v1::ListJobsRequest { environment_id, ..v1::ListJobsRequest::default() }.encode_to_vec()
        }
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
        other => return Err(format!("write a request of {other} for this test").into()),
    }))
}

/// The callers of these tests, by what they may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// All in all environments.
    Root,
    /// All but one scope, in all environments.
    AllBut(Scope),
    /// One scope, in the environment of the tests alone.
    Only(Scope),
    /// Every scope, in an environment where nothing of these tests is.
    Elsewhere,
}

impl Who {
    fn name(self) -> String {
        match self {
            Self::Root => "root".to_owned(),
            Self::AllBut(scope) => format!("all-but-{scope}"),
            Self::Only(scope) => format!("only-{scope}"),
            Self::Elsewhere => "elsewhere".to_owned(),
        }
    }
}

fn policy(issuer: &str) -> Result<Policy> {
    let all: Vec<Scope> = Scope::ALL.to_vec();
    let mut callers = vec![
        (Who::Root, all.clone(), "\"all\"".to_owned()),
        (Who::Elsewhere, all.clone(), format!("[{ELSEWHERE:?}]")),
    ];
    for scope in Scope::ALL {
        let others = all.iter().copied().filter(|other| *other != scope).collect();
        callers.push((Who::AllBut(scope), others, "\"all\"".to_owned()));
        callers.push((Who::Only(scope), vec![scope], format!("[{ENVIRONMENT:?}]")));
    }
    let mut text = String::new();
    for (who, scopes, environments) in callers {
        let scopes: Vec<String> = scopes.iter().map(|scope| format!("{:?}", scope.name())).collect();
        write!(
            text,
            "[[caller]]\nname = \"{issuer}|{}\"\nallow = [{{ scopes = [{}], environments = {environments} }}]\n",
            who.name(),
            scopes.join(", "),
        )?;
    }
    Ok(Policy::parse(text.as_bytes()).map_err(|mistakes| mistakes.to_string())?)
}

/// A service that asks who calls, whom it trusts, and something in it to ask about.
struct Guarded {
    world: World,
    issuer: Issuer,
    channel: Channel,
    things: Things,
}

impl Guarded {
    async fn start() -> Result<Self> {
        let mut guarded = Self::start_empty().await?;
        guarded.fill().await?;
        Ok(guarded)
    }

    async fn start_empty() -> Result<Self> {
        let issuer = Issuer::start().await?;
        let tokens = Tokens::new(vec![issuer.trusted()])?;
        let admission = Admission {
            authenticator: Authenticator::new(Some(tokens), false),
            policy: Current::fixed(policy(&issuer.url)?),
            denials: Denials::default(),
        };
        let variant = Variant { admission, ..Variant::default() };
        let world = World::with(variant, simulator::Settings::default()).await?;
        let channel = Channel::from_shared(format!("http://{}", world.service.address))?.connect().await?;
        Ok(Self {
            world,
            issuer,
            channel,
            things: Things {
                environment: ENVIRONMENT.to_owned(),
                job: String::new(),
                batch: "the batch".to_owned(),
            },
        })
    }

    /// A job and a batch.
    async fn fill(&mut self) -> Result<()> {
        let token = format!("Bearer {}", self.issuer.token(Who::Root.name().as_str()));
        let mut unblock = Request::new(request_without_wait(wire(&some_device()?)));
        unblock.metadata_mut().insert("authorization", token.parse()?);
        let recorded = self.world.service.devices.clone().unblock(unblock).await?.into_inner();
        self.things.job = recorded.job.ok_or("no job")?.job_id;
        let header = Some(v1::BatchHeader {
            batch_id: self.things.batch.clone(),
            environment_id: ENVIRONMENT.to_owned(),
            ..v1::BatchHeader::default()
        });
        let mut append = Request::new(v1::AppendBatchTargetsRequest {
            header,
            ..v1::AppendBatchTargetsRequest::default()
        });
        append.metadata_mut().insert("authorization", token.parse()?);
        self.world.service.devices.clone().append_batch_targets(append).await?;
        Ok(())
    }

    fn token(&self, who: Who) -> String {
        self.issuer.token(who.name().as_str())
    }

    /// What a call is refused with; nothing where it is answered.
    async fn call(&self, rpc: &Rpc, token: Option<&str>, body: Bytes) -> Result<Option<Status>> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let path = format!("/{}", rpc.name).parse()?;
        let mut request = Request::new(tokio_stream::once(body));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        // A stream says what it thinks of its first message in its body.
        let answer = match grpc.streaming(request, path, Raw).await {
            Ok(answer) => answer,
            Err(status) => return Ok(Some(status)),
        };
        let mut answer = answer.into_inner();
        let first = answer.message().await.map(drop);
        // What follows would be states to come.
        Ok(first.err())
    }

    async fn refusal(&self, rpc: &Rpc, token: Option<&str>, body: Bytes) -> Result<(Code, String)> {
        let refused = self.call(rpc, token, body).await?;
        let refused = refused.ok_or_else(|| format!("{} answered", rpc.name))?;
        Ok((refused.code(), reason(&refused)))
    }
}

/// What a caller might send instead of a request: nothing, no protobuf, and fields of the wrong kind.
fn malformed() -> [Bytes; 3] {
    [Bytes::new(), Bytes::from_static(&[0xff; 40]), Bytes::from_static(b"\x0a\x03abc\x12\x7fshort")]
}

#[tokio::test]
async fn nobody_gets_in_without_good_credentials_whatever_they_send() -> Result<()> {
    let guarded = Guarded::start().await?;
    let other = Issuer::start().await?;
    let root = Who::Root.name();
    let tokens = [
        ("none", None, (Code::Unauthenticated, "CREDENTIALS_MISSING")),
        ("nonsense", Some("x.y.z".to_owned()), (Code::Unauthenticated, "CREDENTIALS_INVALID")),
        (
            "of another issuer",
            Some(other.token(root.as_str())),
            (Code::Unauthenticated, "CREDENTIALS_INVALID"),
        ),
        (
            "for another audience",
            Some(guarded.issuer.token_with(root.as_str(), |claims, _| claims["aud"] = "other".into())),
            (Code::Unauthenticated, "CREDENTIALS_INVALID"),
        ),
        (
            "expired",
            Some(guarded.issuer.token_with(root.as_str(), |claims, _| claims["exp"] = 1_000_000.into())),
            (Code::Unauthenticated, "CREDENTIALS_EXPIRED"),
        ),
    ];
    for rpc in rpcs()? {
        let whole = request_of(&rpc, &guarded.things)?;
        for body in malformed().into_iter().chain([whole]) {
            for (kind, token, (code, why)) in &tokens {
                let refused = guarded.refusal(&rpc, token.as_deref(), body.clone()).await?;
                assert_eq!(refused, (*code, (*why).to_owned()), "{} with a token: {kind}", rpc.name);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_does_what_the_policy_does_not_say_whatever_they_send() -> Result<()> {
    let guarded = Guarded::start().await?;
    let refused = (Code::PermissionDenied, "PERMISSION_MISSING".to_owned());
    for rpc in rpcs()? {
        let whole = request_of(&rpc, &guarded.things)?;
        let all_but = guarded.token(Who::AllBut(rpc.scope));
        let stranger = guarded.issuer.token("stranger");
        for body in malformed().into_iter().chain([whole.clone()]) {
            for token in [&all_but, &stranger] {
                let answer = guarded.refusal(&rpc, Some(token), body.clone()).await?;
                assert_eq!(answer, refused, "{} without the scope {}", rpc.name, rpc.scope);
            }
        }
        // Every single other scope, in the very environment.
        for scope in Scope::ALL.into_iter().filter(|scope| *scope != rpc.scope) {
            let answer = guarded.refusal(&rpc, Some(&guarded.token(Who::Only(scope))), whole.clone()).await?;
            assert_eq!(answer, refused, "{} with the scope {scope} alone", rpc.name);
        }
        if rpc.short() != "ListEnvironments" {
            let elsewhere = guarded.token(Who::Elsewhere);
            let answer = guarded.refusal(&rpc, Some(&elsewhere), whole.clone()).await?;
            assert_eq!(answer, refused, "{} in another environment", rpc.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_scope_in_the_environment_is_enough_and_nothing_else_is_asked() -> Result<()> {
    let guarded = Guarded::start().await?;
    for rpc in rpcs()? {
        for who in [Who::Only(rpc.scope), Who::Root] {
            let body = request_of(&rpc, &guarded.things)?;
            let refused = guarded.call(&rpc, Some(&guarded.token(who)), body).await?;
            let why = refused.as_ref().map(reason).unwrap_or_default();
            // Of a device never seen only who may know all environments hears that it was never seen.
            let never_seen = rpc.short() == "GetDevice" && who != Who::Root;
            assert!(
                never_seen || !["PERMISSION_MISSING", "FIELD_INVALID", "INTERNAL"].contains(&why.as_str()),
                "{} as {who:?}: {refused:?}",
                rpc.name
            );
            assert!(!why.starts_with("CREDENTIALS"), "{} as {who:?}: {refused:?}", rpc.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_anothers_looks_like_what_is_not_there() -> Result<()> {
    let guarded = Guarded::start().await?;
    let elsewhere = guarded.token(Who::Elsewhere);
    let nowhere = Things {
        environment: ENVIRONMENT.to_owned(),
        job: Uuid::now_v7().to_string(),
        batch: "no such batch".to_owned(),
    };
    let told = |status: &Status| {
        (status.code(), status.message().to_owned(), Bytes::copy_from_slice(status.details()))
    };
    for rpc in rpcs()?.into_iter().filter(|rpc| rpc.short() != "ListEnvironments") {
        let there = guarded.call(&rpc, Some(&elsewhere), request_of(&rpc, &guarded.things)?).await?;
        let not_there = guarded.call(&rpc, Some(&elsewhere), request_of(&rpc, &nowhere)?).await?;
        let (there, not_there) = (there.ok_or("answered")?, not_there.ok_or("answered")?);
        assert_eq!(told(&there), told(&not_there), "{}", rpc.name);
    }
    Ok(())
}

#[tokio::test]
async fn environments_of_others_are_not_listed() -> Result<()> {
    let guarded = Guarded::start().await?;
    let listed = async |who: Who| -> Result<Vec<String>> {
        let mut request = Request::new(v1::ListEnvironmentsRequest::default());
        let token = format!("Bearer {}", guarded.token(who));
        request.metadata_mut().insert("authorization", token.parse()?);
        let page = guarded.world.service.environments.clone().list_environments(request).await?.into_inner();
        Ok(page.environments.into_iter().map(|environment| environment.environment_id).collect())
    };
    assert_eq!(listed(Who::Root).await?, [ENVIRONMENT]);
    assert_eq!(listed(Who::Only(Scope::Read)).await?, [ENVIRONMENT]);
    assert_eq!(listed(Who::Elsewhere).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn pausing_everything_takes_the_right_to_everything() -> Result<()> {
    let guarded = Guarded::start().await?;
    let all = Bytes::from(v1::PauseEnvironmentRequest::default().encode_to_vec());
    let rpc = rpcs()?.into_iter().find(|rpc| rpc.short() == "PauseEnvironment").ok_or("no such RPC")?;
    let one = guarded.refusal(&rpc, Some(&guarded.token(Who::Only(Scope::Operate))), all.clone()).await?;
    assert_eq!(one, (Code::PermissionDenied, "PERMISSION_MISSING".to_owned()));
    assert!(guarded.call(&rpc, Some(&guarded.token(Who::Root)), all).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn jobs_are_their_callers_and_a_request_id_is_each_callers_own() -> Result<()> {
    let guarded = Guarded::start().await?;
    let device = wire(&some_device()?);
    let ask = async |who: Who| -> Result<v1::UnblockResponse> {
        let mut request = Request::new(v1::UnblockRequest {
            request_id: "the same".to_owned(),
            ..request_without_wait(device.clone())
        });
        let token = format!("Bearer {}", guarded.token(who));
        request.metadata_mut().insert("authorization", token.parse()?);
        Ok(guarded.world.service.devices.clone().unblock(request).await?.into_inner())
    };
    let (first, other) = (ask(Who::Root).await?, ask(Who::Only(Scope::Unblock)).await?);
    let again = ask(Who::Root).await?;
    let (first, other, again_job) =
        (first.job.ok_or("no job")?, other.job.ok_or("no job")?, again.job.ok_or("no job")?);
    assert_eq!(first.caller, format!("{}|root", guarded.issuer.url));
    assert_eq!(other.caller, format!("{}|only-unblock", guarded.issuer.url));
    assert_ne!(first.job_id, other.job_id, "another caller's request id is another's");
    assert_eq!((again_job.job_id, again.replayed), (first.job_id, true));
    Ok(())
}

#[tokio::test]
async fn health_is_for_anybody_and_reflection_is_not() -> Result<()> {
    let guarded = Guarded::start().await?;
    let mut health = tonic_health::pb::health_client::HealthClient::new(guarded.channel.clone());
    let request = tonic_health::pb::HealthCheckRequest::default();
    assert!(health.check(request).await.is_ok());
    let rpc = Rpc {
        name: "grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned(),
        scope: Scope::Read,
    };
    let refused = guarded.refusal(&rpc, None, Bytes::new()).await?;
    assert_eq!(refused, (Code::Unauthenticated, "CREDENTIALS_MISSING".to_owned()));
    let known = guarded.call(&rpc, Some(&guarded.token(Who::Only(Scope::Read))), Bytes::new()).await?;
    assert!(known.as_ref().is_none_or(|status| reason(status) != "PERMISSION_MISSING"), "{known:?}");
    Ok(())
}

#[tokio::test]
async fn contacts_are_masked_for_whoever_may_not_see_them() -> Result<()> {
    let guarded = Guarded::start().await?;
    let device = wire(&some_device()?);
    let seen = async |who: Who| -> Result<v1::Device> {
        let mut request = Request::new(v1::GetDeviceRequest { device_ref: Some(device.clone()) });
        let token = format!("Bearer {}", guarded.token(who));
        request.metadata_mut().insert("authorization", token.parse()?);
        let answer = guarded.world.service.devices.clone().get_device(request).await?.into_inner();
        Ok(answer.device.ok_or("no device")?)
    };
    let mut unblock = Request::new(request(device.clone()));
    unblock.metadata_mut().insert("authorization", format!("Bearer {}", guarded.token(Who::Root)).parse()?);
    guarded.world.service.devices.clone().unblock(unblock).await?;

    let (shown, masked) = (seen(Who::Root).await?, seen(Who::AllBut(Scope::Contacts)).await?);
    assert!(shown.phone.len() >= 8 && !shown.phone.contains('*'), "{}", shown.phone);
    assert!(masked.phone.contains('*') && masked.phone != shown.phone, "{}", masked.phone);
    assert!(!format!("{masked:?}").contains(&shown.phone), "it stands somewhere in the raw answer");
    assert_eq!(masked.block_status, shown.block_status);
    Ok(())
}

#[tokio::test]
async fn keys_are_fetched_before_anybody_calls() -> Result<()> {
    let guarded = Guarded::start_empty().await?;
    // A fetch that nobody asked for: this waits until there is one.
    tokio::time::timeout(PATIENCE, guarded.issuer.asked(1)).await?;
    Ok(())
}

#[tokio::test]
async fn refused_calls_are_in_the_trail_and_nobody_floods_it() -> Result<()> {
    let guarded = Guarded::start().await?;
    let rpcs = rpcs()?;
    let rpc = rpcs.iter().find(|rpc| rpc.short() == "GetJob").ok_or("no GetJob")?;
    let stranger = guarded.issuer.token("stranger");
    for _ in 0..50 {
        for token in [None, Some(stranger.as_str())] {
            guarded.refusal(rpc, token, request_of(rpc, &guarded.things)?).await?;
        }
    }
    let pool = guarded.world.database.pool().await?;
    let denied = "select caller, reason, detail, policy, sum(count)::bigint, count(*) from audit where action = 16 group by 1, 2, 3, 4 order by 2";
    type Row = (String, String, String, Option<String>, i64, i64);
    let recorded = async || -> Result<Vec<Row>> { Ok(sqlx::query_as(denied).fetch_all(&pool).await?) };
    eventually("all are recorded", async || {
        Ok(recorded().await?.iter().map(|(.., calls, _)| calls).sum::<i64>() == 100)
    })
    .await?;
    let recorded = recorded().await?;
    let [nobody, stranger] = recorded.as_slice() else { return Err(format!("{recorded:?}").into()) };
    assert_eq!((nobody.0.as_str(), nobody.1.as_str()), ("unauthenticated 127.0.0.1", "CREDENTIALS_MISSING"));
    assert_eq!(stranger.0, format!("{}|stranger", guarded.issuer.url));
    assert_eq!((stranger.1.as_str(), stranger.3.is_some()), ("PERMISSION_MISSING", true));
    for one in [nobody, stranger] {
        assert_eq!((one.2.as_str(), one.4), (rpc.name.trim_start_matches('/'), 50));
        assert!(one.5 < 50, "each call made an entry of its own");
    }
    Ok(())
}
