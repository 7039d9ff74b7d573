//! Values of arguments, read once and checked before anything is sent.

use std::time::Duration;

use clap::{Args, ValueEnum};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    device::{DeviceId, EnvironmentId, UserId},
    proto::v1,
};

/// The three ids that name a device.
#[derive(Debug, Clone, Args)]
pub(super) struct DeviceArgs {
    /// PingOne environment
    #[arg(value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: EnvironmentId,
    /// User of that environment
    #[arg(value_name = "USER", value_parser = UserId::parse)]
    user: UserId,
    /// MFA device of that user
    #[arg(value_name = "DEVICE", value_parser = DeviceId::parse)]
    device: DeviceId,
}

impl DeviceArgs {
    pub(super) fn to_proto(&self) -> v1::DeviceRef {
        v1::DeviceRef {
            environment_id: self.environment.to_string(),
            user_id: self.user.to_string(),
            device_id: self.device.to_string(),
        }
    }
}

/// The two ids that name a user.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct UserArgs {
    /// PingOne environment
    #[arg(value_name = "ENV", value_parser = EnvironmentId::parse)]
    environment: EnvironmentId,
    /// User of that environment
    #[arg(value_name = "USER", value_parser = UserId::parse)]
    user: UserId,
}

impl UserArgs {
    pub(super) fn to_proto(self) -> v1::ListUserDevicesRequest {
        v1::ListUserDevicesRequest {
            environment_id: self.environment.to_string(),
            user_id: self.user.to_string(),
        }
    }

    /// The user's device of that id.
    pub(super) fn device(self, device: DeviceId) -> v1::DeviceRef {
        v1::DeviceRef {
            environment_id: self.environment.to_string(),
            user_id: self.user.to_string(),
            device_id: device.to_string(),
        }
    }
}

/// Whether a person waits for the answer.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum PriorityArg {
    /// A person waits
    Interactive,
    /// Nobody does: interactive jobs go first
    Bulk,
}

impl PriorityArg {
    pub(super) const fn to_proto(self) -> v1::Priority {
        match self {
            Self::Interactive => v1::Priority::Interactive,
            Self::Bulk => v1::Priority::Bulk,
        }
    }
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum StateArg {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

impl StateArg {
    pub(super) const fn to_proto(self) -> v1::job::State {
        match self {
            Self::Pending => v1::job::State::Pending,
            Self::Running => v1::job::State::Running,
            Self::Succeeded => v1::job::State::Succeeded,
            Self::Failed => v1::job::State::Failed,
            Self::Cancelled => v1::job::State::Cancelled,
            Self::Expired => v1::job::State::Expired,
        }
    }
}

/// How far a batch has come.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum BatchStateArg {
    Uploading,
    Running,
    Paused,
    Done,
    Cancelled,
    Cancelling,
}

impl BatchStateArg {
    pub(super) const fn to_proto(self) -> v1::batch::State {
        match self {
            Self::Uploading => v1::batch::State::Uploading,
            Self::Running => v1::batch::State::Running,
            Self::Paused => v1::batch::State::Paused,
            Self::Done => v1::batch::State::Done,
            Self::Cancelled => v1::batch::State::Cancelled,
            Self::Cancelling => v1::batch::State::Cancelling,
        }
    }
}

const LONGEST_BATCH_ID: usize = 128;

/// Reads what a batch can be called.
///
/// # Errors
/// A sentence that says what is understood.
pub(super) fn batch_id(text: &str) -> Result<String, String> {
    let length = text.chars().count();
    if text.chars().any(char::is_control) || !(1..=LONGEST_BATCH_ID).contains(&length) {
        return Err(format!("a batch has an id of 1 to {LONGEST_BATCH_ID} printable characters"));
    }
    Ok(text.to_owned())
}

/// Reads a share: `0.05` or `5%`.
///
/// # Errors
/// A sentence that says what is understood.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, of) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|number| number / of);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a share is a number from 0 to 1, or a percentage: 0.05, 5%".to_owned())
}

const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads `500ms`, `90s`, `15m`, `24h` or `7d`; at most a year.
///
/// # Errors
/// A sentence that says what is understood.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let not_understood = || "a duration is a whole number with its unit: 500ms, 90s, 15m, 24h, 7d".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(not_understood)?;
    let (number, unit) = text.split_at(unit_at);
    let millis_each = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(not_understood()),
    };
    let number: u64 = number.parse().map_err(|_| not_understood())?;
    let duration = number.checked_mul(millis_each).map(Duration::from_millis);
    duration.filter(|duration| *duration <= LONGEST).ok_or_else(|| "longer than a year".to_owned())
}

/// Reads an instant such as `2026-01-02T03:04:05Z`.
///
/// # Errors
/// A sentence that says what is understood.
pub(super) fn instant(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "a time is written as in RFC 3339: 2026-01-02T03:04:05Z".to_owned())
}

/// `at` as the contract carries it.
pub(super) fn to_timestamp(at: OffsetDateTime) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.nanosecond()).expect("below a billion");
    prost_types::Timestamp { seconds: at.unix_timestamp(), nanos }
}

/// `duration` as the contract carries it.
pub(super) fn to_proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).expect("the parser allows a year at most")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_numbers_up_to_one_or_percentages() {
        assert_eq!(share("0.05"), Ok(0.05));
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("100 %"), Ok(1.0));
        for wrong in ["", "%", "5", "-0.1", "101%", "NaN", "half"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        let read = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(read("500ms"), Ok(500));
        assert_eq!(read("90s"), Ok(90_000));
        assert_eq!(read("15m"), Ok(900_000));
        assert_eq!(read("24h"), Ok(86_400_000));
        assert_eq!(read("7d"), Ok(604_800_000));
        for wrong in ["", "5", "s", "1.5s", "-1s", "1 s", "1w", "5S", "99999999999999999999s", "367d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
