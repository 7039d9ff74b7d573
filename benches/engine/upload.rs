//! A role of this program: callers that upload batches, each over one stream.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use pingone_unblock::proto::v1::{
    self, bulk_unblock_request::Kind, device_service_client::DeviceServiceClient,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use uuid::Uuid;

use crate::{load::Report, usage};

/// Rows in a message: as many as the contract allows.
const AT_ONCE: u64 = 1000;
/// Messages under way without an acknowledgement.
const AHEAD: usize = 8;

/// What to upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) server: SocketAddr,
    pub(crate) environment: Uuid,
    pub(crate) user: Uuid,
    /// Batches at once.
    pub(crate) batches: u32,
    /// Rows of each, each of another device.
    pub(crate) rows: u64,
    /// Tells these batches and devices from those of another upload.
    pub(crate) salt: u32,
}

/// Uploads them. `answered` in the report are rows.
pub(crate) async fn run(spec: Spec) -> Result<Report> {
    let began = Instant::now();
    let mut uploads = JoinSet::new();
    for number in 0..spec.batches {
        uploads.spawn_local(upload(spec.clone(), number));
    }
    let mut report = Report::default();
    while let Some(rows) = uploads.join_next().await {
        report.answered += rows??;
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.cpu_seconds = usage::own_cpu_seconds()?;
    Ok(report)
}

async fn upload(spec: Spec, number: u32) -> Result<u64> {
    let mut client = DeviceServiceClient::connect(format!("http://{}", spec.server)).await?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let header = v1::BatchHeader {
        batch_id: format!("benchmark-{}-{number}", spec.salt),
        environment_id: spec.environment.to_string(),
        ..v1::BatchHeader::default()
    };
    let send = async |kind| sender.send(v1::BulkUnblockRequest { kind: Some(kind) }).await.context("cut off");
    send(Kind::Header(header)).await?;
    let mut answers = client.bulk_unblock(ReceiverStream::new(receiver)).await?.into_inner();
    ensure!(answers.message().await?.is_some(), "no answer to the header");
    let sending = async {
        for offset in (0..spec.rows).step_by(usize::try_from(AT_ONCE)?) {
            let rows = offset..(offset + AT_ONCE).min(spec.rows);
            let targets = rows.map(|row| target(&spec, number, row)).collect();
            send(Kind::Targets(v1::BatchTargets { offset: i64::try_from(offset)?, targets })).await?;
        }
        anyhow::Ok(())
    };
    let rows = i64::try_from(spec.rows)?;
    let acknowledged = async {
        while let Some(answer) = answers.message().await? {
            ensure!(answer.rejections.is_empty(), "rows were refused");
            if answer.next_offset == rows {
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended before all was acknowledged")
    };
    tokio::try_join!(sending, acknowledged)?;
    Ok(spec.rows)
}

fn target(spec: &Spec, number: u32, row: u64) -> v1::BatchTarget {
    let device = Uuid::from_u64_pair(u64::from(spec.salt) << 32 | u64::from(number) | 1 << 63, row + 1);
    v1::BatchTarget {
        user_id: spec.user.to_string(),
        device_id: device.to_string(),
        client_reference: row.to_string(),
    }
}
