//! Somebody who calls while others mean harm, and what that costs the service in memory.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pingone_unblock::proto::v1::{device_service_client::DeviceServiceClient, job::State};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use super::{
    Result, note,
    process::Process,
    service::{request, some_device, wire},
};

/// What a flood may cost, in KiB: what one connection may have under way, and as much again.
const GROWTH: u64 = 32 * 1024;
/// Twice the longest that a peer is given (30 s), on a busy machine. A flood that never ends fails, however long it is waited for.
const AT_MOST: Duration = Duration::from_secs(120);
/// Between the calls of another.
const EVERY: Duration = Duration::from_millis(20);
/// Calls of another before the memory is looked at.
const WARM: usize = 50;

/// Somebody who calls.
pub(crate) struct Neighbour {
    stop: Arc<AtomicBool>,
    calling: JoinHandle<Result<Vec<Duration>>>,
}

impl Neighbour {
    /// One whose calls have been answered before, and who goes on calling.
    pub(crate) async fn warm<C>(connect: C) -> Result<Self>
    where
        C: AsyncFn() -> Result<DeviceServiceClient<Channel>>,
    {
        let kept = connect().await?;
        for _ in 0..WARM {
            call(kept.clone()).await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let calling = tokio::spawn(async move {
            let mut took = Vec::new();
            let mut next = tokio::time::interval(EVERY);
            while !stopped.load(Ordering::Relaxed) || took.is_empty() {
                next.tick().await;
                took.push(call(kept.clone()).await?);
            }
            Ok(took)
        });
        Ok(Self { stop, calling })
    }

    /// How long its calls took, the shortest first; all were answered.
    async fn end(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.calling.await??;
        took.sort();
        Ok(took)
    }
}

/// Unblocks a new device, and waits until that is done.
pub(crate) async fn call(mut devices: DeviceServiceClient<Channel>) -> Result<Duration> {
    let asked = request(wire(&some_device()?));
    let since = Instant::now();
    let job = devices.unblock(asked).await?.into_inner().job.ok_or("no job")?;
    assert_eq!(job.state(), State::Succeeded, "{job:?}");
    Ok(since.elapsed())
}

/// What `flood` comes to. It ends, `process` hardly grows, and every call of `neighbour` is answered meanwhile.
pub(crate) async fn weighed<T>(
    what: &str,
    process: &Process,
    neighbour: Neighbour,
    flood: impl Future<Output = Result<T>>,
) -> Result<T> {
    // From here on the peak is that of the flood.
    fs::write(format!("/proc/{}/clear_refs", process.id()), "5")?;
    let before = kib(process, "VmRSS")?;
    let came = tokio::time::timeout(AT_MOST, flood).await.map_err(|_| "it never ended")?;
    let peak = kib(process, "VmHWM")?;
    let took = neighbour.end().await?;
    let grew = peak.saturating_sub(before);
    let p99 = took[(took.len() - 1) * 99 / 100];
    note(&format!("{what}: {before} KiB and {grew} more; {} calls of another, p99 {p99:?}", took.len()));
    assert!(grew < GROWTH, "it grew by {grew} KiB from {before}");
    came
}

fn kib(process: &Process, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("no such field")?.parse()?)
}
