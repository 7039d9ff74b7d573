//! Uploads and batches survive whatever dies: clients, servers, connections.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    process::{Child, ExitStatus, Stdio},
    time::Duration,
};

use pingone_unblock::{
    proto::v1::{BatchHeader, BatchTarget, batch::State, target_result::Outcome},
    simulator::{self, Simulator},
};
use rustix::process::Signal;
use uuid::Uuid;

use crate::harness::{
    Result,
    bulk::{Bulk, rows},
    database::Database,
    process::{Process, command},
    proxy::Proxy,
    service::{PingOne, eventually},
};

const ROWS: usize = 12_000;
const BREAKS: usize = 10;
/// Of one row as it is uploaded, and a little more.
const ROW_BYTES: usize = 110;
const BATCH: &str = "the batch";
/// What arrived so shortly before a server was killed may have been answered, and the answer lost with the server.
const UNSAVED: Duration = Duration::from_millis(1500);

/// A break of the upload.
#[derive(Debug, Clone, Copy)]
enum Break {
    Client,
    Server,
    Connection,
}

/// A client that uploads, waits and writes the results down: the real command, always the same. Killed when dropped.
struct Client(Child);

impl Client {
    fn start(folder: &Path, proxy: &Proxy) -> Result<Self> {
        let file = folder.join("rows.csv");
        let mut command = command(&["bulk", file.to_str().ok_or("a strange folder")?]);
        command.args(["--yes", "--batch-id", BATCH, "--output", "json"]);
        command.env("UNBLOCK_SERVER", format!("http://{}", proxy.address));
        Ok(Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    fn has_ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn file_of(folder: &Path, environment: &str, rows: &[BatchTarget]) -> Result<()> {
    let mut text = "environment_id,user_id,device_id,reference\n".to_owned();
    for (at, row) in rows.iter().enumerate() {
        text += &format!("{environment},{},{},row {at}\n", row.user_id, row.device_id);
    }
    Ok(std::fs::write(folder.join("rows.csv"), text)?)
}

/// Devices whose POST a server that is killed now may not know the answer of.
fn unsaved(simulator: &Simulator) -> HashSet<Uuid> {
    let posts = simulator.posts();
    let Some(last) = posts.last().map(|post| post.arrived) else { return HashSet::new() };
    let late = posts.iter().filter(|post| post.ended.is_none() || post.arrived + UNSAVED >= last);
    late.filter_map(|post| post.device).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_broken_ten_times_gives_each_row_one_result_and_no_device_a_second_post() -> Result<()> {
    let database = Database::create().await?;
    let pingone = PingOne::start(simulator::Settings::default()).await?;
    let simulator = &pingone.simulator;
    let mut server = Process::serve(database.url(), &pingone).await?;
    let proxy = Proxy::start(server.address()).await?;
    let folder = tempfile::tempdir()?;
    let environment = Uuid::new_v4().to_string();
    let all = rows(ROWS);
    file_of(folder.path(), &environment, &all)?;

    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut twice_at_most = HashSet::new();
    let mut client = Client::start(folder.path(), &proxy)?;
    let mut broken = Vec::new();
    for at in 0..BREAKS {
        proxy.allow(rng.usize(500..ROWS * ROW_BYTES / (BREAKS + 2)));
        eventually("the upload comes to its break", async || Ok(proxy.is_used_up())).await?;
        let kind =
            [Break::Connection, Break::Server, Break::Client][if at < 3 { at } else { rng.usize(0..3) }];
        broken.push(kind);
        match kind {
            Break::Connection => proxy.cut(),
            Break::Client => {
                drop(client);
                client = Client::start(folder.path(), &proxy)?;
            }
            Break::Server => {
                twice_at_most.extend(unsaved(simulator));
                server.signal(Signal::KILL)?;
                proxy.cut();
                drop(server);
                // New connections are the new server's.
                server = Process::serve(database.url(), &pingone).await?;
                proxy.lead_to(server.address());
                proxy.cut();
            }
        }
    }
    proxy.allow(usize::MAX >> 8);
    let mut ended = None;
    eventually("the command ends", async || {
        ended = client.has_ended()?;
        Ok(ended.is_some())
    })
    .await?;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?} with {seed}, {broken:?}");

    let header =
        BatchHeader { batch_id: BATCH.to_owned(), environment_id: environment, ..Default::default() };
    let bulk = Bulk::over(&server.channel()?, header);
    let (batch, results) = bulk.ended(State::Done).await?;
    assert_eq!((batch.target_count, batch.succeeded_count), (12_000, 12_000), "{seed}: {batch:?}");
    for ((at, row), result) in all.iter().enumerate().zip(&results) {
        let target = BatchTarget { client_reference: format!("row {at}"), ..row.clone() };
        assert_eq!((result.target.as_ref(), result.outcome()), (Some(&target), Outcome::Unblocked), "{seed}");
        let device = row.device_id.parse::<Uuid>()?;
        let posts = simulator.counts_for(device.into()).posts;
        let most = if twice_at_most.contains(&device) { 2 } else { 1 };
        assert!((1..=most).contains(&posts), "{posts} POSTs of row {at}: {seed}, {broken:?}");
    }
    assert_eq!(simulator.counts().most_on_a_device, 1, "never two at once");
    let written = std::fs::read_to_string(folder.path().join("rows.csv.results.csv"));
    let written = written.or_else(|_| std::fs::read_to_string(folder.path().join("rows.results.csv")))?;
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for line in written.lines().skip(1) {
        let row = line.split(',').find(|cell| cell.starts_with("row ")).ok_or("a line without its row")?;
        *lines.entry(row).or_default() += 1;
    }
    assert_eq!((lines.len(), lines.values().max()), (ROWS, Some(&1)), "each row is written down once");
    Ok(())
}
