//! What everything was measured on.

use std::{
    fs::{self, File},
    io::{Seek as _, Write as _},
    path::Path,
    time::Instant,
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
}

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
            flush: flush(folder)?,
        })
    }

    pub(crate) fn line(&self) -> String {
        let Self { processor, cores, kernel, postgres, flush } = self;
        format!("{processor}, {cores} cores; Linux {kernel}; PostgreSQL {postgres}; disk flush {flush:.2} ms")
    }
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
