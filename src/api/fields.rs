//! Reads the fields of a request, once, at the edge: gathers what is wrong and says it all at once.

use std::time::Duration;

use time::OffsetDateTime;
use tonic::Status;
use tonic_types::FieldViolation;

use super::status;
use crate::{
    batch,
    device::{DeviceId, DeviceRef, EnvironmentId, InvalidId, UserId},
    job::{JobId, Priority, State},
    proto::v1,
};

const TIME_TO_LIVE_AT_MOST: Duration = Duration::from_secs(7 * 24 * 3600);
const REQUEST_ID_AT_MOST: usize = 128;
/// The longest reason a caller may give, in characters.
pub(super) const REASON_AT_MOST: usize = 500;
/// The longest ticket, in characters.
pub(super) const TICKET_AT_MOST: usize = 100;
/// The longest name of a person acted for, in characters.
pub(super) const ON_BEHALF_OF_AT_MOST: usize = 200;

/// What is wrong with a request so far.
#[derive(Debug, Default)]
pub(super) struct Fields {
    violations: Vec<FieldViolation>,
}

impl Fields {
    /// The request, if nothing is wrong with it.
    pub(super) fn done<T>(self, value: Option<T>) -> Result<T, Status> {
        match value {
            Some(value) if self.violations.is_empty() => Ok(value),
            _ => Err(status::fields_invalid(self.violations)),
        }
    }

    pub(super) fn wrong(&mut self, field: &str, remedy: impl Into<String>) {
        self.violations.push(FieldViolation::new(field, remedy));
    }

    pub(super) fn device_ref(&mut self, field: &str, given: Option<v1::DeviceRef>) -> Option<DeviceRef> {
        let given = given.unwrap_or_default();
        let environment =
            self.id(&format!("{field}.environment_id"), &given.environment_id, EnvironmentId::parse);
        let user = self.id(&format!("{field}.user_id"), &given.user_id, UserId::parse);
        let device_id = format!("{field}.device_id");
        let device = self.id(&device_id, &given.device_id, DeviceId::parse);
        let device = self.one_device(&device_id, device);
        Some(DeviceRef { environment: environment?, user: user?, device: device? })
    }

    pub(super) fn environment(&mut self, given: &str) -> Option<EnvironmentId> {
        self.id("environment_id", given, EnvironmentId::parse)
    }

    pub(super) fn user(&mut self, given: &str) -> Option<UserId> {
        self.id("user_id", given, UserId::parse)
    }

    /// The device, if it is one: the nil UUID stands for all of a user's inside this service.
    pub(super) fn one_device(&mut self, field: &str, device: Option<DeviceId>) -> Option<DeviceId> {
        if device == Some(DeviceId::EVERY) {
            self.wrong(field, "is the nil UUID: give the id of one device; ListUserDevices lists a user's");
            return None;
        }
        device
    }

    /// An environment in a field of another name.
    pub(super) fn filled_environment(&mut self, field: &str, given: &str) -> Option<EnvironmentId> {
        self.id(field, given, EnvironmentId::parse)
    }

    /// The caller's name for a batch.
    pub(super) fn batch_id(&mut self, field: &str, given: String) -> String {
        let length = given.chars().count();
        if !(1..=REQUEST_ID_AT_MOST).contains(&length) || given.chars().any(char::is_control) {
            self.wrong(field, "give 1 to 128 printable characters, such as the name of the file");
        }
        given
    }

    pub(super) fn batch_states(&mut self, given: &[i32]) -> Vec<batch::State> {
        let known = |number: &i32| i16::try_from(*number).ok().and_then(batch::State::from_number);
        if let Some(unknown) = given.iter().find(|number| known(number).is_none()) {
            self.wrong("states", format!("{unknown} is no state: give 1 to 6"));
        }
        given.iter().filter_map(known).collect()
    }

    pub(super) fn job(&mut self, given: &str) -> Option<JobId> {
        self.id("job_id", given, JobId::parse)
    }

    /// An id that may be left out.
    pub(super) fn filter<T>(
        &mut self,
        field: &str,
        given: &str,
        parse: impl Fn(&str) -> Result<T, InvalidId>,
    ) -> Option<T> {
        if given.is_empty() { None } else { self.id(field, given, parse) }
    }

    fn id<T>(&mut self, field: &str, given: &str, parse: impl Fn(&str) -> Result<T, InvalidId>) -> Option<T> {
        if given.is_empty() {
            self.wrong(field, "is missing: give a UUID such as 6697f628-7712-4e71-b52b-920ba0635020");
            return None;
        }
        parse(given).map_err(|error| self.wrong(field, error.to_string())).ok()
    }

    /// An idempotency key; nothing where none is given.
    pub(super) fn request_id(&mut self, given: String) -> Option<String> {
        if given.is_empty() {
            return None;
        }
        if given.chars().count() > REQUEST_ID_AT_MOST || given.chars().any(char::is_control) {
            self.wrong("request_id", "give 1 to 128 printable characters, such as a UUID");
        }
        Some(given)
    }

    /// A text for the trail. Control characters would forge it.
    pub(super) fn text(&mut self, field: &str, given: String, at_most: usize) -> String {
        let length = given.chars().count();
        if length > at_most {
            self.wrong(field, format!("has {length} characters: give at most {at_most}"));
        }
        if given.chars().any(char::is_control) {
            self.wrong(field, "has control characters such as line ends: leave them out");
        }
        given
    }

    pub(super) fn priority(&mut self, given: i32) -> Priority {
        match v1::Priority::try_from(given) {
            Ok(v1::Priority::Unspecified | v1::Priority::Interactive) => Priority::Interactive,
            Ok(v1::Priority::Bulk) => Priority::Bulk,
            Err(_) => {
                self.wrong("priority", format!("{given} is none: give INTERACTIVE (1) or BULK (2)"));
                Priority::Interactive
            }
        }
    }

    pub(super) fn states(&mut self, given: &[i32]) -> Vec<State> {
        let known = |number: &i32| i16::try_from(*number).ok().and_then(State::from_number);
        if let Some(unknown) = given.iter().find(|number| known(number).is_none()) {
            self.wrong("states", format!("{unknown} is no state: give 1 to 6"));
        }
        given.iter().filter_map(known).collect()
    }

    pub(super) fn time_to_live(
        &mut self,
        field: &str,
        given: Option<prost_types::Duration>,
    ) -> Option<Duration> {
        let given = self.duration(field, given)?;
        if given < Duration::from_millis(1) || given > TIME_TO_LIVE_AT_MOST {
            self.wrong(field, "give more than zero and at most 7 days (604800 s)");
        }
        Some(given)
    }

    pub(super) fn duration(&mut self, field: &str, given: Option<prost_types::Duration>) -> Option<Duration> {
        Duration::try_from(given?)
            .map_err(|_| self.wrong(field, "is no valid duration: give zero or more seconds"))
            .ok()
    }

    pub(super) fn instant(
        &mut self,
        field: &str,
        given: Option<prost_types::Timestamp>,
    ) -> Option<OffsetDateTime> {
        let given = given?;
        let nanos = i128::from(given.seconds) * 1_000_000_000 + i128::from(given.nanos);
        OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .ok()
            // Beyond what Postgres holds nothing was ever recorded.
            .filter(|instant| (1970..=9999).contains(&instant.year()))
            .or_else(|| {
                self.wrong(field, "is no valid instant: give one from 1970 on");
                None
            })
    }

    pub(super) fn page_size(&mut self, given: i32) -> usize {
        match given {
            0 => 50,
            1..=1000 => usize::try_from(given).unwrap_or(50),
            _ => {
                self.wrong("page_size", format!("{given} is out of range: give 1 to 1000, or 0 for 50"));
                50
            }
        }
    }
}
