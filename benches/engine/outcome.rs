//! What runs of scenarios found.

use crate::{goal::Goal, latency::Latency, stage::Cpu};

/// What one run of a scenario found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) figures: Vec<(Goal, Figure)>,
    pub(crate) details: Vec<Detail>,
}

/// A number, or why there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Figure {
    Measured(f64),
    Missing(&'static str),
}

/// How a run went, apart from what is to be reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Detail {
    pub(crate) what: String,
    pub(crate) jobs: u64,
    pub(crate) seconds: f64,
    pub(crate) latency: Option<Latency>,
    /// CPU seconds.
    pub(crate) service: f64,
    pub(crate) postgres: f64,
    pub(crate) simulator: f64,
    pub(crate) callers: f64,
}

impl Figure {
    pub(crate) fn text(self, goal: Goal) -> String {
        match self {
            Self::Measured(value) => goal.facts().unit.text(value),
            Self::Missing(why) => why.to_owned(),
        }
    }
}

impl Outcome {
    pub(crate) fn with(mut self, goal: Goal, value: f64) -> Self {
        self.figures.push((goal, Figure::Measured(value)));
        self
    }

    pub(crate) fn without(mut self, goal: Goal, why: &'static str) -> Self {
        self.figures.push((goal, Figure::Missing(why)));
        self
    }

    pub(crate) fn detailed(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }
}

impl Detail {
    pub(crate) fn new(what: &str, jobs: u64, seconds: f64) -> Self {
        Self { what: what.to_owned(), jobs, seconds, ..Self::default() }
    }

    /// With what was used between two readings.
    pub(crate) fn used(mut self, before: Cpu, after: Cpu, callers: f64) -> Self {
        self.service = after.service - before.service;
        self.postgres = after.postgres - before.postgres;
        self.simulator = after.simulator - before.simulator;
        self.callers = callers;
        self
    }

    pub(crate) fn answered(mut self, latency: Latency) -> Self {
        self.latency = Some(latency);
        self
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.jobs as f64 / self.seconds
    }

    /// `cpu` seconds for so many jobs, per 1,000 of them.
    pub(crate) fn per_thousand(&self, cpu: f64) -> f64 {
        cpu * 1_000.0 / self.jobs as f64
    }
}

/// Of the runs of one scenario: the median of each figure, the details of the run in the middle by its first figure.
pub(crate) fn median(mut runs: Vec<Outcome>) -> Outcome {
    let first = |run: &Outcome| match run.figures.first() {
        Some((_, Figure::Measured(value))) => *value,
        _ => f64::NAN,
    };
    runs.sort_by(|a, b| first(a).total_cmp(&first(b)));
    let mut middle = runs.get(runs.len() / 2).cloned().unwrap_or_default();
    for (goal, figure) in &mut middle.figures {
        let of_run = |run: &Outcome| {
            run.figures.iter().find_map(|(of, figure)| match figure {
                Figure::Measured(value) if of == goal => Some(*value),
                _ => None,
            })
        };
        let mut values: Vec<f64> = runs.iter().filter_map(of_run).collect();
        values.sort_by(f64::total_cmp);
        if let Some(value) = values.get(values.len() / 2) {
            *figure = Figure::Measured(*value);
        }
    }
    middle
}
