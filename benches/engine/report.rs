//! The tables, for a terminal and for BENCHMARKS.md.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    anchors::Anchors,
    goal::{Goal, Limit, thousands},
    machine::Machine,
    outcome::{Detail, Figure, Outcome},
};

const BEGIN: &str = "<!-- run:begin -->\n";
const END: &str = "<!-- run:end -->";

/// Everything one run of the benchmark found.
pub(crate) struct Report<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) anchors: Option<&'a Anchors>,
    pub(crate) outcomes: &'a [Outcome],
    pub(crate) quick: bool,
}

impl Report<'_> {
    /// Two tables in Markdown, columns aligned, so that a terminal shows them as well.
    pub(crate) fn text(&self) -> Result<String> {
        let mut text = String::new();
        writeln!(text, "{}", self.machine.line())?;
        if self.quick {
            writeln!(text, "A quick run: smaller counts, one run each. Not to be quoted.")?;
        }
        if let Some(anchors) = self.anchors {
            writeln!(
                text,
                "\n{}",
                table(&["anchor: the machine without the service", "measured"], anchors.rows()).trim_end()
            )?;
        }
        let goals = ["what", "best peer", "goal", "measured", "vs peer", "met"];
        writeln!(text, "\n{}", table(&goals, self.goals()).trim_end())?;
        let details = [
            "run",
            "jobs",
            "seconds",
            "jobs/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "service",
            "Postgres",
            "simulator",
            "callers",
        ];
        writeln!(text, "\nCPU seconds per 1,000 jobs in the last four columns:\n")?;
        text.push_str(&table(&details, self.details()));
        Ok(text)
    }

    fn goals(&self) -> Vec<Vec<String>> {
        let figures: Vec<_> = self.outcomes.iter().flat_map(|outcome| &outcome.figures).collect();
        let measured = |goal: Goal| figures.iter().find(|(of, _)| *of == goal).map(|(_, figure)| *figure);
        Goal::ALL.into_iter().filter_map(|goal| Some(self.row(goal, measured(goal)?))).collect()
    }

    fn row(&self, goal: Goal, figure: Figure) -> Vec<String> {
        let facts = goal.facts();
        // Two commits and a millisecond, whatever a commit costs here.
        let limit = match (goal, self.anchors.and_then(|anchors| anchors.commit)) {
            (Goal::LatencyP50, Some(commit)) => Limit::AtMost(2.0 * commit + 1.0),
            _ => facts.limit,
        };
        let (measured, ratio, met) = match figure {
            Figure::Missing(why) => (why.to_owned(), "–".to_owned(), "–"),
            Figure::Measured(value) => {
                let ratio = facts.peer.1.map(|peer| format!("{:.1} ×", limit.ratio(value, peer)));
                let met = if limit.is_met(value) { "yes" } else { "NO" };
                (facts.unit.text(value), ratio.unwrap_or_else(|| "–".to_owned()), met)
            }
        };
        let words = [facts.what.to_owned(), facts.peer.0.to_owned(), limit.text(facts.unit)];
        words.into_iter().chain([measured, ratio, met.to_owned()]).collect()
    }

    fn details(&self) -> Vec<Vec<String>> {
        self.outcomes.iter().flat_map(|outcome| &outcome.details).map(cells).collect()
    }

    /// Puts the tables between the marks of that file.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let text = fs::read_to_string(file)?;
        let from = text.find(BEGIN).context("no mark")? + BEGIN.len();
        let to = text.find(END).context("no end mark")?;
        fs::write(file, format!("{}\n{}\n{}", &text[..from], self.text()?, &text[to..]))?;
        Ok(())
    }
}

fn cells(detail: &Detail) -> Vec<String> {
    let millis = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
    let cpu = |seconds: f64| match seconds {
        0.0 => "–".to_owned(),
        _ => format!("{:.4}", detail.per_thousand(seconds)),
    };
    vec![
        detail.what.clone(),
        thousands(detail.jobs as f64),
        format!("{:.1}", detail.seconds),
        thousands(detail.per_second()),
        millis(detail.latency.map(|latency| latency.p50)),
        millis(detail.latency.map(|latency| latency.p99)),
        millis(detail.latency.map(|latency| latency.max)),
        cpu(detail.service),
        cpu(detail.postgres),
        cpu(detail.simulator),
        cpu(detail.callers),
    ]
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header.iter().copied()).add_rows(rows);
    format!("{table}\n")
}
