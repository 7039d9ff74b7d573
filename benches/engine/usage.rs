//! What processes cost, from the kernel's books.

use std::fs;

use anyhow::{Context as _, Result};

/// CPU seconds of a process and of the children it has seen end.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(Stat::of(&pid.to_string())?.seconds())
}

/// CPU seconds of a process and of all its children, those that run and those that have ended.
pub(crate) fn family_cpu_seconds(pid: u32) -> Result<f64> {
    let mut seconds = cpu_seconds(pid)?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        // It may have ended by now: then its parent has its time.
        if let Some(stat) = Stat::of(number).ok().filter(|stat| stat.parent == pid) {
            seconds += stat.seconds();
        }
    }
    Ok(seconds)
}

/// CPU seconds of this process.
pub(crate) fn own_cpu_seconds() -> Result<f64> {
    cpu_seconds(std::process::id())
}

/// The most memory a process ever held, in MiB.
pub(crate) fn peak_memory(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn of(pid: &str) -> Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name before it is in parentheses and may hold any character.
        let (_, rest) = text.rsplit_once(") ").context("no name")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| anyhow::Ok(fields.get(at).context("too short")?.parse::<u64>()?);
        let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
        Ok(Self { parent: u32::try_from(number(1)?)?, ticks })
    }

    fn seconds(&self) -> f64 {
        self.ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }
}
