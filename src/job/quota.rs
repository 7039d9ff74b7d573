//! How much of what callers may have done is left, and who of a group there is room for. Pure: what was used comes from the store.

use std::{collections::HashMap, fmt, time::Duration};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Caller, Limits, NewJob};
use crate::device::{DeviceId, EnvironmentId, Lane};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// What bounds there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Unblocks of one caller in a clock hour.
    CallerHour,
    /// Unblocks of one caller in a day of UTC.
    CallerDay,
    /// Unblocks of one device.
    Device,
    /// Rows of one batch.
    BatchRows,
    /// Calls of one caller in a second.
    CallRate,
    /// Streams of one caller at once.
    Streams,
}

impl Bound {
    /// Every bound, for tables and tests.
    pub const ALL: [Self; 6] =
        [Self::CallerHour, Self::CallerDay, Self::Device, Self::BatchRows, Self::CallRate, Self::Streams];

    /// Its name in figures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CallerHour => "caller_hour",
            Self::CallerDay => "caller_day",
            Self::Device => "device",
            Self::BatchRows => "batch_rows",
            Self::CallRate => "call_rate",
            Self::Streams => "streams",
        }
    }
}

/// There is no room for an unblock: which bound it meets. Says it in a sentence for whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverQuota {
    /// The caller's of an hour.
    Hour {
        /// So many it may have.
        most: u32,
        /// So many it has had.
        used: u32,
        /// When the next hour begins.
        frees_at: OffsetDateTime,
    },
    /// The caller's of a day.
    Day {
        /// So many it may have.
        most: u32,
        /// So many it has had.
        used: u32,
        /// When the next day begins.
        frees_at: OffsetDateTime,
    },
    /// The device's.
    Device {
        /// So often it may be unblocked,
        most: u32,
        /// in any such stretch of time.
        within: Duration,
        /// When there is room again; nothing where there never is.
        frees_at: Option<OffsetDateTime>,
    },
    /// The rows of a batch.
    Rows {
        /// So many it may have.
        most: u32,
    },
}

impl OverQuota {
    /// Which bound it is.
    #[must_use]
    pub const fn bound(self) -> Bound {
        match self {
            Self::Hour { .. } => Bound::CallerHour,
            Self::Day { .. } => Bound::CallerDay,
            Self::Device { .. } => Bound::Device,
            Self::Rows { .. } => Bound::BatchRows,
        }
    }

    /// The name of such a refusal in the contract.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Device { .. } => "DEVICE_QUOTA_EXCEEDED",
            Self::Hour { .. } | Self::Day { .. } | Self::Rows { .. } => "CALLER_QUOTA_EXCEEDED",
        }
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour { most, used, frees_at } => write!(
                f,
                "this caller may have {most} devices unblocked in an hour and has had {used}: more from {} on",
                instant(*frees_at)
            ),
            Self::Day { most, used, frees_at } => write!(
                f,
                "this caller may have {most} devices unblocked in a day and has had {used}: more from {} on",
                instant(*frees_at)
            ),
            Self::Device { most, within, frees_at } => {
                let within = within.as_secs();
                write!(f, "a device may be unblocked {most} times in {within} s, and this one was")?;
                match frees_at {
                    Some(at) => write!(f, ": again from {} on", instant(*at)),
                    None => f.write_str(": never by this caller"),
                }
            }
            Self::Rows { most } => {
                write!(f, "a batch of this caller may have {most} rows: put the others into another batch")
            }
        }
    }
}

/// Rounded up to a second: then there is room.
fn instant(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    let up = if whole < at { whole + time::Duration::SECOND } else { whole };
    up.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

/// What an unblock is counted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Who has it done.
    pub caller: Caller,
    /// Where.
    pub environment: EnvironmentId,
    /// Which device; nothing where that is not known yet.
    pub device: Option<DeviceId>,
    /// Within which bounds.
    pub limits: Limits,
}

impl Counted {
    /// As which a job is counted; nothing where there is nothing to count.
    #[must_use]
    pub fn of(job: &NewJob) -> Option<Self> {
        // A list of devices unblocks none of them.
        let counted = Self {
            caller: job.actor.caller.clone(),
            environment: job.device.environment,
            device: Some(job.device.device).filter(|_| !job.device.is_every()),
            limits: job.actor.limits,
        };
        Some(counted).filter(|counted| counted.device.is_some() && counted.is_bounded())
    }

    /// Whether there is a bound to hold it to.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.bounds_caller() || self.bounds_device()
    }

    /// Whether its caller has a bound.
    #[must_use]
    pub const fn bounds_caller(&self) -> bool {
        self.limits.per_hour.is_some() || self.limits.per_day.is_some()
    }

    /// Whether its device has a bound.
    #[must_use]
    pub const fn bounds_device(&self) -> bool {
        self.limits.per_device.is_some() && self.device.is_some()
    }

    /// The lane of its device.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.environment.lane()
    }
}

/// What was used, as the store says at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// That instant.
    pub now: OffsetDateTime,
    /// The last hour the caller had something unblocked in, and how much.
    pub hour: Option<(OffsetDateTime, u32)>,
    /// The last such day, and how much.
    pub day: Option<(OffsetDateTime, u32)>,
    /// When the device was had unblocked, the latest first.
    pub device: Vec<OffsetDateTime>,
}

impl Used {
    /// The bound that `counted` meets, where so many others of the same group come before it.
    fn met(&self, counted: &Counted, callers: u32, devices: u32) -> Option<OverQuota> {
        let Limits { per_hour, per_day, per_device, .. } = counted.limits;
        if let Some(limit) = per_device.filter(|_| counted.device.is_some()) {
            let within = limit.within();
            let inside = self.device.iter().filter(|at| **at > self.now - within).count() + devices as usize;
            if inside >= limit.count as usize {
                let most = limit.count;
                // Those of the group are the latest.
                let oldest = (most as usize).checked_sub(1);
                let frees_at = oldest.map(|oldest| match oldest.checked_sub(devices as usize) {
                    Some(stored) => self.device.get(stored).map_or(self.now, |at| *at) + within,
                    None => self.now + within,
                });
                return Some(OverQuota::Device { most, within, frees_at });
            }
        }
        let used = |stored: Option<(OffsetDateTime, u32)>, length: i64| {
            let began = start(self.now, length);
            // An instant of ours before the last one that was counted belongs to that.
            let (began, count) = stored.filter(|(at, _)| *at >= began).unwrap_or((began, 0));
            (count.saturating_add(callers), began + time::Duration::seconds(length))
        };
        let (in_hour, frees_at) = used(self.hour, HOUR);
        if let Some(most) = per_hour.filter(|most| in_hour >= *most) {
            return Some(OverQuota::Hour { most, used: in_hour, frees_at });
        }
        let (in_day, frees_at) = used(self.day, DAY);
        if let Some(most) = per_day.filter(|most| in_day >= *most) {
            return Some(OverQuota::Day { most, used: in_day, frees_at });
        }
        None
    }
}

/// The last multiple of `length` seconds.
fn start(at: OffsetDateTime, length: i64) -> OffsetDateTime {
    let seconds = at.unix_timestamp();
    OffsetDateTime::from_unix_timestamp(seconds - seconds.rem_euclid(length)).unwrap_or(at)
}

/// What a group takes of what is left, one after the other.
#[derive(Debug, Default)]
pub struct Room {
    callers: HashMap<Caller, u32>,
    devices: HashMap<(EnvironmentId, DeviceId), u32>,
}

impl Room {
    /// Takes room for one more.
    ///
    /// # Errors
    /// [`OverQuota`] when there is none: then nothing was taken.
    pub fn take(&mut self, counted: &Counted, used: &Used) -> Result<(), OverQuota> {
        let device = counted.device.map(|device| (counted.environment, device));
        let callers = self.callers.get(&counted.caller).copied().unwrap_or_default();
        let devices = device.and_then(|device| self.devices.get(&device)).copied().unwrap_or_default();
        if let Some(over) = used.met(counted, callers, devices) {
            return Err(over);
        }
        self.callers.insert(counted.caller.clone(), callers + 1);
        device.map(|device| self.devices.insert(device, devices + 1));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
