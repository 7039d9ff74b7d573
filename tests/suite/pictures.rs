//! Not a test: `make pictures` has it record what the dashboards show, for `scripts/dashboard-pictures.py` to draw.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::json;

use crate::{
    dashboards::Scene,
    harness::{
        Result,
        expressions::{dashboards, of_panel},
    },
};

/// How long is recorded, and how often something happens meanwhile.
const RECORDED: Duration = Duration::from_secs(180);
const EVERY: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "records three minutes for the pictures of the dashboards"]
async fn record() -> Result<()> {
    let Some(scene) = Scene::start().await? else { return Err("there is no Prometheus".into()) };
    let mut next = tokio::time::interval(EVERY);
    for _ in 0..RECORDED.as_secs() / EVERY.as_secs() {
        next.tick().await;
        scene.let_things_happen().await?;
    }
    next.tick().await;

    let mut recorded = Vec::new();
    for dashboard in dashboards()? {
        let mut panels = Vec::new();
        for panel in dashboard.panels() {
            let mut answers = Vec::new();
            let targets = panel["targets"].as_array().into_iter().flatten();
            for (expression, target) in of_panel(panel, "15s", "3m").iter().zip(targets) {
                let series = scene.prometheus.range(expression, RECORDED).await?;
                answers.push(json!({ "legend": target["legendFormat"], "series": series }));
            }
            panels.push(json!({
                "title": panel["title"],
                "type": panel["type"],
                "unit": panel["fieldConfig"]["defaults"]["unit"],
                "stacked": panel["fieldConfig"]["defaults"]["custom"]["stacking"].is_object(),
                "grid": panel["gridPos"],
                "targets": answers,
            }));
        }
        recorded.push(json!({ "name": dashboard.name, "title": dashboard.json["title"], "panels": panels }));
    }
    let to = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dashboards.json");
    Ok(fs::write(to, serde_json::to_vec(&recorded)?)?)
}
