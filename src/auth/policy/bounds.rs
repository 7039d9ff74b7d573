//! How much of what is allowed.

use std::time::Duration;

/// What one caller may use up. Nothing is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Calls in a second.
    pub calls_per_second: Option<u32>,
    /// Devices in an hour, rows of batches included.
    pub unblocks_per_hour: Option<u32>,
    /// Devices in a day, rows of batches included.
    pub unblocks_per_day: Option<u32>,
    /// Rows in one batch.
    pub batch_rows: Option<u32>,
    /// Streams at the same time.
    pub open_streams: Option<u32>,
}

impl Bounds {
    /// The smaller of each.
    #[must_use]
    pub fn smaller(self, other: Self) -> Self {
        let of = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
        Self {
            calls_per_second: of(self.calls_per_second, other.calls_per_second),
            unblocks_per_hour: of(self.unblocks_per_hour, other.unblocks_per_hour),
            unblocks_per_day: of(self.unblocks_per_day, other.unblocks_per_day),
            batch_rows: of(self.batch_rows, other.batch_rows),
            open_streams: of(self.open_streams, other.open_streams),
        }
    }

    /// Each by its key in the file.
    #[must_use]
    pub const fn by_key(&self) -> [(&'static str, Option<u32>); 5] {
        [
            ("calls_per_second", self.calls_per_second),
            ("unblocks_per_hour", self.unblocks_per_hour),
            ("unblocks_per_day", self.unblocks_per_day),
            ("batch_rows", self.batch_rows),
            ("open_streams", self.open_streams),
        ]
    }
}

/// How often one device may be unblocked: whoever unblocks a device again and again undoes what blocking is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceBound {
    /// So often.
    pub count: u32,
    /// In any time of this length.
    pub within: Duration,
}

impl Default for DeviceBound {
    fn default() -> Self {
        Self { count: 3, within: Duration::from_secs(24 * 3600) }
    }
}
