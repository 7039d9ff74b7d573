//! A real Prometheus as a child: it scrapes replicas each second and evaluates the project's own rules, faster than life.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::{Result, service::eventually};

/// The name the replicas are scraped under. The rules know none.
pub(crate) const JOB: &str = "under-test";
/// All ranges and waiting times in the rules are divided by this.
const FASTER: u64 = 20;
/// What of the rules is a time and does not look like one: an age in seconds. Each stands there once.
const AGES: [(&str, &str); 1] =
    [("unblock_priority=\"interactive\"}) > 120", "unblock_priority=\"interactive\"}) > 6")];

/// A running Prometheus. Killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
    _folder: TempDir,
}

/// One series of an answer, with its newest value.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Series {
    pub(crate) metric: std::collections::BTreeMap<String, String>,
    #[expect(dead_code, reason = "told where an assertion fails")]
    pub(crate) value: (f64, String),
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where the programs are. None, with a word, where they cannot be had; in CI that is an error.
#[expect(clippy::print_stderr, reason = "that a test was skipped is said to whoever runs it")]
fn programs() -> Result<Option<PathBuf>> {
    let found = Command::new(root().join("scripts/ensure-prometheus.sh")).output()?;
    let said = String::from_utf8_lossy(&found.stderr);
    if !found.status.success() {
        return Err(said.into());
    }
    eprint!("{said}");
    let folder = String::from_utf8(found.stdout)?;
    Ok((!folder.is_empty()).then(|| PathBuf::from(folder.trim())))
}

/// The project's rule files: name and text.
pub(crate) fn rules() -> Result<Vec<(String, String)>> {
    let mut rules = Vec::new();
    for file in fs::read_dir(root().join("observability/prometheus/rules"))? {
        let path = file?.path();
        let name = path.file_name().ok_or("a file without a name")?.to_string_lossy().into_owned();
        rules.push((name, fs::read_to_string(path)?));
    }
    rules.sort();
    Ok(rules)
}

/// The same rules with every range, `for` and interval a twentieth as long, and ages too.
fn faster(mut rules: Vec<(String, String)>) -> Vec<(String, String)> {
    for (usual, short) in AGES {
        let found: usize = rules.iter().map(|(_, text)| text.matches(usual).count()).sum();
        assert_eq!(found, 1, "{usual} stands in the rules {found} times");
        rules.iter_mut().for_each(|(_, text)| *text = text.replace(usual, short));
    }
    for (_, text) in &mut rules {
        let lines = text.lines().map(|line| match line.split_once(": ") {
            Some((key, time)) if matches!(key.trim(), "for" | "interval") => {
                format!("{key}: {}", shorter(time))
            }
            _ => shorter_ranges(line),
        });
        *text = lines.collect::<Vec<_>>().join("\n");
    }
    rules
}

/// `a[5m]` becomes `a[15s]`.
pub(crate) fn shorter_ranges(expression: &str) -> String {
    let mut parts = expression.split('[');
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        made.push('[');
        match part.split_once(']') {
            Some((time, rest)) if time.starts_with(|first: char| first.is_ascii_digit()) => {
                made.push_str(&format!("{}]{rest}", shorter(time)));
            }
            _ => made.push_str(part),
        }
    }
    made
}

fn shorter(time: &str) -> String {
    let (number, unit) = time.split_at(time.len() - 1);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => panic!("{time} is no time"),
    };
    let number: u64 = number.parse().expect("a number stands before its unit");
    format!("{}s", (number * seconds).div_ceil(FASTER))
}

impl Prometheus {
    /// Scrapes the admin ports of these replicas. None where there is no Prometheus.
    pub(crate) async fn start(targets: &[SocketAddr]) -> Result<Option<Self>> {
        let Some(programs) = tokio::task::spawn_blocking(programs).await?? else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        for (name, text) in faster(rules()?) {
            fs::write(folder.path().join(name), text)?;
        }
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        let configuration = serde_json::json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": ["*.yml"],
            "scrape_configs": [{ "job_name": JOB, "static_configs": [{ "targets": targets }] }],
        });
        // JSON is YAML.
        fs::write(folder.path().join("prometheus.json"), configuration.to_string())?;
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let child = Command::new(programs.join("prometheus"))
            .current_dir(folder.path())
            .args(["--config.file=prometheus.json", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .spawn()?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let prometheus = Self { child, address, client, _folder: folder };
        eventually("Prometheus has scraped every replica", async || {
            let up = prometheus.query("sum(up) == count(up)").await.unwrap_or_default();
            Ok(!up.is_empty())
        })
        .await?;
        Ok(Some(prometheus))
    }

    /// What an expression is worth now.
    pub(crate) async fn query(&self, expression: &str) -> Result<Vec<Series>> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Found {
            Series(Vec<Series>),
            Scalar((f64, String)),
        }
        let asked =
            self.client.post(format!("http://{}/api/v1/query", self.address)).form(&[("query", expression)]);
        let answer: Value = asked.send().await?.json().await?;
        if answer["status"] != "success" {
            return Err(format!("{expression}: {answer}").into());
        }
        Ok(match serde_json::from_value(answer["data"]["result"].clone())? {
            Found::Series(series) => series,
            Found::Scalar(value) => vec![Series { metric: std::collections::BTreeMap::new(), value }],
        })
    }

    /// Every value of an expression until now, every other second: as Prometheus answers.
    pub(crate) async fn range(&self, expression: &str, of: Duration) -> Result<Value> {
        // The same moments for all that is asked.
        let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 2 * 2;
        let (start, end) = ((end - of.as_secs()).to_string(), end.to_string());
        let form = [("query", expression), ("start", &start), ("end", &end), ("step", "2")];
        let asked = self.client.post(format!("http://{}/api/v1/query_range", self.address)).form(&form);
        let mut answer: Value = asked.send().await?.json().await?;
        if answer["status"] != "success" {
            return Err(format!("{expression}: {answer}").into());
        }
        Ok(answer["data"]["result"].take())
    }

    /// Waits until an expression has a value.
    pub(crate) async fn has(&self, expression: &str) -> Result<()> {
        eventually(expression, async || Ok(!self.query(expression).await?.is_empty())).await
    }

    /// The alerts that have fired since then.
    pub(crate) async fn fired(&self, since: Instant) -> Result<Vec<String>> {
        let seconds = since.elapsed().as_secs().max(1);
        let asked =
            format!("count by (alertname) (count_over_time(ALERTS{{alertstate=\"firing\"}}[{seconds}s]))");
        let fired =
            self.query(&asked).await?.into_iter().filter_map(|mut series| series.metric.remove("alertname"));
        let mut fired: Vec<String> = fired.collect();
        fired.sort();
        Ok(fired)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
