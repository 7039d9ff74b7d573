//! A role of this program: the callers. They cost as little as they can, and say what they cost.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;
use pingone_unblock::proto::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};
use uuid::Uuid;

use crate::{
    caller::{self, Connection, Reply},
    latency::{Latencies, Latency},
    names, usage,
};

/// Which calls to make, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) connections: usize,
    pub(crate) call: Call,
    pub(crate) pace: Pace,
    /// At most so many.
    pub(crate) calls: u64,
    /// None is begun after so long.
    pub(crate) seconds: f64,
}

/// What is called.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Each a device of its own and a request id of its own.
    Unblock { environment: Uuid, user: Uuid, bulk: bool, wait: bool },
    /// A method, with an empty message.
    Empty(String),
}

/// When the next call is made.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// So many callers, each as soon as its last call was answered.
    Callers(u64),
    /// So many a second, whether or not earlier ones were answered; time counts from when a call was due.
    Rate(f64),
}

/// What became of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Calls answered OK.
    pub(crate) answered: u64,
    /// Others, by gRPC code.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Calls that should have waited for the end of the job and did not.
    pub(crate) unfinished: u64,
    /// From the first call to the last answer.
    pub(crate) seconds: f64,
    pub(crate) latency: Latency,
    /// What making the calls cost.
    pub(crate) cpu_seconds: f64,
    /// Where the pace is a rate: device, and when its call was due, in microseconds since 1970.
    pub(crate) due: Vec<(Uuid, u64)>,
}

impl Report {
    pub(crate) fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds
    }
}

/// As much of a reply as is looked at.
#[derive(prost::Message)]
struct Brief {
    #[prost(message, optional, tag = "1")]
    job: Option<BriefJob>,
}

#[derive(prost::Message)]
struct BriefJob {
    #[prost(int32, tag = "3")]
    state: i32,
}

struct Callers {
    spec: Spec,
    connections: Vec<(Connection, Request<()>)>,
    begun: Cell<u64>,
    latencies: RefCell<Latencies>,
    report: RefCell<Report>,
}

/// Makes the calls. Runs on one thread.
pub(crate) async fn run(spec: Spec) -> Result<Report> {
    let path = match &spec.call {
        Call::Unblock { .. } => "/pingone.device.v1.DeviceService/Unblock",
        Call::Empty(path) => path,
    };
    let mut connections = Vec::new();
    for number in 0..spec.connections {
        let server = spec.servers[number % spec.servers.len()];
        connections.push((Connection::open(server).await?, caller::head(server, path)?));
    }
    ensure!(!connections.is_empty(), "no connections");
    let callers = Rc::new(Callers {
        spec,
        connections,
        begun: Cell::new(0),
        latencies: RefCell::new(Latencies::new()?),
        report: RefCell::default(),
    });
    let (begun, cpu) = (Instant::now(), usage::own_cpu_seconds()?);
    match callers.spec.pace {
        Pace::Callers(count) => closed(&callers, count).await?,
        Pace::Rate(rate) => open(&callers, rate).await?,
    }
    let mut report = callers.report.take();
    report.seconds = begun.elapsed().as_secs_f64();
    report.cpu_seconds = usage::own_cpu_seconds()? - cpu;
    report.latency = callers.latencies.borrow().summary();
    Ok(report)
}

async fn closed(callers: &Rc<Callers>, count: u64) -> Result<()> {
    let until = Instant::now() + Duration::from_secs_f64(callers.spec.seconds);
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let callers = Rc::clone(callers);
        tasks.spawn_local(async move {
            let mut request = callers.request();
            while callers.begun.get() < callers.spec.calls && Instant::now() < until {
                callers.call(&mut request, Instant::now()).await?;
            }
            anyhow::Ok(())
        });
    }
    ended(tasks).await
}

async fn open(callers: &Rc<Callers>, rate: f64) -> Result<()> {
    let spec = &callers.spec;
    let calls = spec.calls.min((rate * spec.seconds) as u64);
    let (due, mut ticks) = mpsc::unbounded_channel();
    // The runtime's timer is too coarse for what is measured in tenths of a millisecond.
    let first = Instant::now() + Duration::from_millis(20);
    std::thread::spawn(move || {
        for number in 0..calls {
            let at = first + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if due.send(at).is_err() {
                return;
            }
        }
    });
    let mut tasks = JoinSet::new();
    while let Some(at) = ticks.recv().await {
        let callers = Rc::clone(callers);
        tasks.spawn_local(async move {
            let mut request = callers.request();
            callers.call(&mut request, at).await
        });
        while let Some(ended) = tasks.try_join_next() {
            ended??;
        }
    }
    ended(tasks).await
}

async fn ended(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

impl Callers {
    fn request(&self) -> v1::UnblockRequest {
        let Call::Unblock { environment, user, bulk, wait } = &self.spec.call else {
            return v1::UnblockRequest::default();
        };
        let priority = if *bulk { v1::Priority::Bulk } else { v1::Priority::Interactive };
        v1::UnblockRequest {
            device_ref: Some(v1::DeviceRef {
                environment_id: environment.to_string(),
                user_id: user.to_string(),
                device_id: String::new(),
            }),
            reason: "benchmark".to_owned(),
            priority: priority.into(),
            wait: (!wait).then(prost_types::Duration::default),
            ..v1::UnblockRequest::default()
        }
    }

    async fn call(&self, request: &mut v1::UnblockRequest, due: Instant) -> Result<()> {
        let number = self.begun.replace(self.begun.get() + 1) as usize;
        let frame = self.frame(request, due)?;
        let (connection, head) = &self.connections[number % self.connections.len()];
        let reply = connection.call(head, frame).await?;
        self.latencies.borrow_mut().add(due.elapsed());
        self.note(reply)
    }

    /// A device and a request id like no other, in the same message.
    fn frame(&self, request: &mut v1::UnblockRequest, due: Instant) -> Result<Bytes> {
        let Some(device) = &mut request.device_ref else { return caller::framed(&()) };
        let id = names::device();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        let text = id.hyphenated().encode_lower(&mut text);
        for field in [&mut device.device_id, &mut request.request_id] {
            field.clear();
            field.push_str(text);
        }
        if matches!(self.spec.pace, Pace::Rate(_)) {
            let at = SystemTime::now() - due.elapsed();
            let since = at.duration_since(SystemTime::UNIX_EPOCH)?;
            self.report.borrow_mut().due.push((id, u64::try_from(since.as_micros())?));
        }
        caller::framed(request)
    }

    fn note(&self, reply: Reply) -> Result<()> {
        let mut report = self.report.borrow_mut();
        if reply.code != 0 {
            *report.refused.entry(reply.code).or_default() += 1;
            return Ok(());
        }
        report.answered += 1;
        if matches!(self.spec.call, Call::Unblock { wait: true, .. }) {
            let state = Brief::decode(reply.message)?.job.map_or(0, |job| job.state);
            report.unfinished += u64::from(state != i32::from(v1::job::State::Succeeded));
        }
        Ok(())
    }
}
