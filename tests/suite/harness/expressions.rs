//! The expressions of the dashboards and rules, as they stand in their files.

use std::{fs, path::PathBuf};

use serde_json::Value;

use super::{Result, prometheus};

/// A dashboard: its file's name and what it says.
pub(crate) struct Dashboard {
    pub(crate) name: String,
    pub(crate) json: Value,
}

/// All of them, by name.
pub(crate) fn dashboards() -> Result<Vec<Dashboard>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("observability/grafana/dashboards");
    let mut dashboards = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_stem().ok_or("a file without a name")?.to_string_lossy().into_owned();
        dashboards.push(Dashboard { name, json: serde_json::from_str(&fs::read_to_string(path)?)? });
    }
    dashboards.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(dashboards)
}

impl Dashboard {
    /// Panels that show something.
    pub(crate) fn panels(&self) -> impl Iterator<Item = &Value> {
        let panels = self.json["panels"].as_array().into_iter().flatten();
        panels.filter(|panel| panel["type"] != "row")
    }
}

/// The expressions of a panel, of everything there is, with Grafana's variables filled in.
pub(crate) fn of_panel(panel: &Value, rate_interval: &str, range: &str) -> Vec<String> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    targets
        .filter_map(|target| target["expr"].as_str())
        .map(|expression| {
            let mut expression =
                expression.replace("$__rate_interval", rate_interval).replace("$__range", range);
            for variable in ["$job", "$instance", "$environment"] {
                expression = expression.replace(variable, ".*");
            }
            expression
        })
        .collect()
}

/// A rule: what it records or tells, and its expression.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) is_alert: bool,
    pub(crate) expression: String,
}

/// Every rule. Reads the little of YAML that the rule files use.
pub(crate) fn rules() -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for (_, text) in prometheus::rules()? {
        let mut block = false;
        for line in text.lines() {
            let inner = line.trim();
            if let Some((kind, name)) = inner.strip_prefix("- ").and_then(|rest| rest.split_once(": ")) {
                block = false;
                if matches!(kind, "alert" | "record") {
                    let is_alert = kind == "alert";
                    rules.push(Rule { name: name.to_owned(), is_alert, expression: String::new() });
                }
            } else if let Some(expression) = inner.strip_prefix("expr: ") {
                block = expression == "|";
                if !block {
                    rules.last_mut().ok_or("an expression before every rule")?.expression =
                        expression.to_owned();
                }
            } else if block && line.starts_with("          ") {
                let rule = rules.last_mut().ok_or("an expression before every rule")?;
                rule.expression.push_str(inner);
                rule.expression.push('\n');
            } else {
                block = false;
            }
        }
    }
    Ok(rules)
}

/// Every series that an expression selects by name, with its matchers: `unblock_replicas{job="a"}`.
pub(crate) fn selectors(expression: &str) -> Vec<String> {
    const WORDS: [&str; 11] =
        ["and", "or", "unless", "group_left", "group_right", "bool", "sum", "max", "min", "count", "group"];
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphabetic() || letter == '_') {
        // A number such as 1e3 or a range such as 5m begins with a digit.
        let number = rest[..start].ends_with(|letter: char| letter.is_ascii_digit());
        rest = &rest[start..];
        let end = rest
            .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')))
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if matches!(name, "by" | "on" | "without" | "ignoring" | "group_left") {
            // The labels in brackets are no series.
            if let Some(labels) = after.trim_start().strip_prefix('(') {
                rest = labels.split_once(')').map_or("", |(_, rest)| rest);
            }
        } else if let Some(matchers) = after.strip_prefix('{') {
            let (matchers, after) = matchers.split_once('}').unwrap_or((matchers, ""));
            found.push(format!("{name}{{{matchers}}}"));
            rest = after;
        } else if !number && !WORDS.contains(&name) && !after.trim_start().starts_with('(') {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn selectors_are_found_with_their_matchers() {
    let expression = r#"
        sum by (job) (rate(a_total{x="1",y!="2"}[5m])) / on (job) group_left c > 14.4 * d:e
        unless on (job) max_over_time(f[3d])
    "#;
    assert_eq!(selectors(expression), [r#"a_total{x="1",y!="2"}"#, "c", "d:e", "f"]);
}
