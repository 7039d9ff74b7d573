//! What everything was measured on.

use std::{
    fs::{self, File},
    io::{Seek as _, Write as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// As large as one of Postgres's pages.
const PAGE: [u8; 8192] = [7; 8192];
const FLUSHES: usize = 300;

/// The machine, in words and by its disk.
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
    postgres: String,
    /// Milliseconds to write a page and have it on disk, the median.
    flush: f64,
    /// Percent of its time in which it had nothing to do, before anything was started.
    idle: f64,
}

/// What else runs is measured too.
const IDLE_ENOUGH: f64 = 90.0;

impl Machine {
    /// Looks at this machine; `folder` is on the disk that Postgres uses.
    pub(crate) fn look(postgres: &str, folder: &Path) -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            processor: model.map_or("unknown processor", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            postgres: postgres.to_owned(),
            idle: idle()?,
            flush: flush(folder)?,
        })
    }

    pub(crate) fn line(&self) -> String {
        let Self { processor, cores, kernel, postgres, flush, idle } = self;
        let busy = if *idle < IDLE_ENOUGH { ": BUSY, not to be quoted" } else { "" };
        format!(
            "{processor}, {cores} cores; Linux {kernel}; PostgreSQL {postgres}; disk flush {flush:.2} ms; idle before: {idle:.0} %{busy}"
        )
    }
}

fn idle() -> Result<f64> {
    let ticks = || {
        let text = fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("no line for all processors")?;
        let ticks = line.split_whitespace().skip(1).map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        anyhow::Ok((ticks.get(3).copied().context("no idle time")?, ticks.iter().take(8).sum::<f64>()))
    };
    let (idle, all) = ticks()?;
    thread::sleep(Duration::from_secs(2));
    let (idle_then, all_then) = ticks()?;
    Ok(100.0 * (idle_then - idle) / (all_then - all))
}

fn flush(folder: &Path) -> Result<f64> {
    let path = folder.join("flush");
    let mut file = File::create(&path)?;
    let mut took = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        let begun = Instant::now();
        file.rewind()?;
        file.write_all(&PAGE)?;
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    fs::remove_file(path)?;
    took.sort_by(f64::total_cmp);
    took.get(FLUSHES / 2).copied().context("nothing was flushed")
}
