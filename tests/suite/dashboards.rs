//! What the dashboards and rules ask for is there: each expression is asked of a real Prometheus that scrapes two real replicas, under
//! load, with a few things going wrong.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::PathBuf,
    time::Duration,
};

use pingone_unblock::{
    proto::v1::{self, batch_service_client::BatchServiceClient, job_service_client::JobServiceClient},
    simulator::{self, CLIENT_ID, CLIENT_SECRET, Fault, RetryAfter},
};
use tonic::Request;

use crate::harness::{
    Result,
    bulk::{Bulk, header, rows},
    callers::Callers,
    database::Database,
    expressions::{dashboards, of_panel, rules, selectors},
    process::Process,
    prometheus::{self, Prometheus},
    service::{PingOne, eventually, request, request_without_wait, some_device, wire},
};

/// Two replicas, callers at both of them, and a Prometheus.
pub(crate) struct Scene {
    pub(crate) prometheus: Prometheus,
    pub(crate) pingone: PingOne,
    pub(crate) replicas: [Process; 2],
    _callers: [Callers; 2],
    _database: Database,
}

impl Scene {
    pub(crate) async fn start() -> Result<Option<Self>> {
        let (latency, jitter) = (Duration::from_millis(30), Duration::from_millis(20));
        let pingone = PingOne::start(simulator::Settings { latency, jitter, ..Default::default() }).await?;
        let database = Database::create().await?;
        let replicas = [
            Process::serve(database.url(), &pingone).await?,
            Process::serve(database.url(), &pingone).await?,
        ];
        let Some(prometheus) =
            Prometheus::start(&[replicas[0].admin_address(), replicas[1].admin_address()]).await?
        else {
            return Ok(None);
        };
        let callers = [Callers::start(&replicas[0], 10)?, Callers::start(&replicas[1], 5)?];
        Ok(Some(Self { prometheus, pingone, replicas, _callers: callers, _database: database }))
    }

    /// Everything that is shown only once it has happened.
    pub(crate) async fn let_things_happen(&self) -> Result<()> {
        let [first, second] = &self.replicas;
        let simulator = &self.pingone.simulator;

        // PingOne breaks off, refuses, and asks to wait.
        let devices = [some_device()?, some_device()?, some_device()?];
        let wait = Fault::retry_after(429, RetryAfter::Seconds(1));
        for (device, fault) in devices.iter().zip([Fault::ResetBefore, Fault::status(404), wait]) {
            simulator.fault(device.device, [fault]);
            first.devices()?.unblock(request(wire(device))).await?;
        }
        simulator.set_secret(CLIENT_ID, "another secret");
        simulator.revoke_tokens();
        first.devices()?.unblock(request_without_wait(wire(&some_device()?))).await?;
        self.prometheus.has("sum(unblock_token_refreshes_total{unblock_outcome!=\"ok\"}) > 0").await?;
        simulator.set_secret(CLIENT_ID, CLIENT_SECRET);

        // Calls that fail, one of them for the service's own fault.
        let unknown = v1::GetJobRequest { job_id: "0199f1a2-7b3c-7d4e-8f50-61728394a58d".to_owned() };
        let refused = JobServiceClient::new(first.channel()?).get_job(unknown).await;
        assert!(refused.is_err());
        let mut hurried = Request::new(request(wire(&some_device()?)));
        hurried.set_timeout(Duration::from_micros(1));
        assert!(first.devices()?.unblock(hurried).await.is_err());

        // A batch is uploaded, paused, and watched for a moment; another one runs.
        for paused in [true, false] {
            let bulk = Bulk::over(&second.channel()?, header());
            bulk.upload(&rows(200)).await?;
            let v1::BatchHeader { environment_id, batch_id, .. } = bulk.header.clone();
            let mut batches = BatchServiceClient::new(second.channel()?);
            if paused {
                let reason = "a look at the dashboards".to_owned();
                batches
                    .pause_batch(v1::PauseBatchRequest {
                        environment_id,
                        batch_id,
                        reason,
                        ..Default::default()
                    })
                    .await?;
            } else {
                let asked = v1::WatchBatchRequest { environment_id, batch_id };
                batches.watch_batch(asked).await?.into_inner().message().await?;
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_finds_something() -> Result<()> {
    let Some(scene) = Scene::start().await? else { return Ok(()) };
    scene.let_things_happen().await?;
    scene.prometheus.has("unblock:interactive_late:increase1m").await?;

    let mut wanted = Vec::new();
    for dashboard in dashboards()? {
        for panel in dashboard.panels() {
            let shows = format!("{} / {}", dashboard.name, panel["title"]);
            let expressions = of_panel(panel, "10s", "1m").into_iter();
            wanted.extend(expressions.map(|expression| (shows.clone(), expression)));
        }
    }
    for rule in rules()? {
        // What Prometheus writes itself is there while an alert fires or there is trouble.
        let own =
            |selector: &String| selector.starts_with("ALERTS") || selector == "unblock:postgres_trouble";
        let named = selectors(&rule.expression).into_iter().filter(|selector| !own(selector));
        wanted.extend(named.map(|selector| (rule.name.clone(), loosened(&selector))));
    }
    assert!(wanted.len() > 150, "only {} are asked", wanted.len());
    // A rate takes a second look.
    let found = eventually("every expression finds something", async || {
        let mut missing = Vec::new();
        for (whose, expression) in std::mem::take(&mut wanted) {
            if scene.prometheus.query(&expression).await?.is_empty() {
                missing.push((whose, expression));
            }
        }
        wanted = missing;
        Ok(wanted.is_empty())
    })
    .await;
    let shown = scene.instruments().await?;
    assert_eq!(told_instruments()?, shown, "the table in docs/observability.md, and what /metrics shows");
    found.map_err(|error| format!("{error}: {} find nothing: {wanted:#?}", wanted.len()))?;
    Ok(())
}

/// The same with only the matchers that say what is wanted: what is excluded may be all there is.
fn loosened(selector: &str) -> String {
    let Some((name, matchers)) = selector.split_once('{') else { return selector.to_owned() };
    let matchers = matchers.trim_end_matches('}').split(',').map(|matcher| match matcher.split_once('!') {
        Some((label, _)) => format!("{label}=~\".*\""),
        None => matcher.to_owned(),
    });
    format!("{name}{{{}}}", matchers.collect::<Vec<_>>().join(","))
}

impl Scene {
    /// The names of what both replicas together show.
    async fn instruments(&self) -> Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for replica in &self.replicas {
            let text = reqwest::get(replica.admin_url("metrics")).await?.text().await?;
            let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            names.extend(types.filter_map(|line| line.split(' ').next()).map(ToOwned::to_owned));
        }
        Ok(names)
    }
}

/// The names in the table of instruments.
fn told_instruments() -> Result<BTreeSet<String>> {
    let document =
        fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/observability.md"))?;
    let table = document.split_once("<!-- instruments:begin -->").ok_or("no table")?.1;
    let table = table.split_once("<!-- instruments:end -->").ok_or("the table has no end")?.0;
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    Ok(rows.filter_map(|row| row.split('`').next()).map(ToOwned::to_owned).collect())
}

#[test]
fn every_dashboard_and_panel_says_what_it_shows() -> Result<()> {
    let mut uids = BTreeSet::new();
    for dashboard in dashboards()? {
        let name = &dashboard.name;
        let uid = dashboard.json["uid"].as_str().unwrap_or_default().to_owned();
        assert_eq!(uid, format!("unblock-{name}"));
        assert!(uids.insert(uid), "{name}: two with the same uid");
        let mut ids = BTreeSet::new();
        for panel in dashboard.panels() {
            let title = &panel["title"];
            assert!(ids.insert(panel["id"].as_u64()), "{name}: {title} has another one's id");
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            for text in [title, &panel["description"], unit] {
                assert!(
                    text.as_str().is_some_and(|text| !text.is_empty()),
                    "{name}: {title} lacks something"
                );
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            assert!(!of_panel(panel, "1m", "1h").is_empty(), "{name}: {title} asks for nothing");
        }
    }
    assert_eq!(uids.len(), 6);
    Ok(())
}

#[test]
fn every_alert_has_a_page_and_tests_that_it_fires_and_that_it_does_not() -> Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut tested: HashMap<String, BTreeSet<bool>> = HashMap::new();
    for file in fs::read_dir(root.join("observability/prometheus/tests"))? {
        let text = fs::read_to_string(file?.path())?;
        for after in text.split("alertname: ").skip(1) {
            let name = after.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
            let fires = after.trim_start_matches(name).trim_start().starts_with("exp_alerts");
            tested.entry(name.to_owned()).or_default().insert(fires);
        }
    }
    let text: String = prometheus::rules()?.into_iter().map(|(_, text)| text).collect();
    let alerts: BTreeSet<String> =
        rules()?.into_iter().filter(|rule| rule.is_alert).map(|rule| rule.name).collect();
    for alert in &alerts {
        assert_eq!(
            tested.get(alert),
            Some(&BTreeSet::from([false, true])),
            "{alert}: fires and does not fire"
        );
        let page = format!("docs/runbooks/{alert}.md");
        assert!(text.contains(&format!("runbook_url: {page}")), "{alert} names {page}");
        let page = fs::read_to_string(root.join(page))?;
        for part in ["\n## Meaning\n", "\n## Check\n", "\n## Act\n", "\n## Escalate\n"] {
            assert!(page.contains(part), "{alert}: its page has no{part}");
        }
    }
    for part in text.split("- alert: ").skip(1) {
        for key in ["severity: ", "summary: ", "description: ", "runbook_url: "] {
            assert!(part.contains(key), "no {key} in {part}");
        }
    }
    let pages = fs::read_dir(root.join("docs/runbooks"))?.count();
    assert_eq!(pages, alerts.len(), "no page without an alert");
    Ok(())
}
