//! Which device, and what PingOne last said of it. Pure: nothing here reads or writes.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod list;
mod snapshot;

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use list::Devices;
pub use snapshot::Snapshot;

/// A text that should have been a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a UUID such as 6697f628-7712-4e71-b52b-920ba0635020")]
pub struct InvalidId {
    given: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Reads a UUID in its hyphenated form, the only one PingOne uses in paths.
            ///
            /// # Errors
            /// [`InvalidId`] for anything else.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                parse_hyphenated(text).map(Self)
            }

            /// The UUID itself.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A PingOne environment: the tenant, and what limits and credentials belong to.
    EnvironmentId
}
id! {
    /// A user of an environment.
    UserId
}
id! {
    /// An MFA device of a user.
    DeviceId
}

pub(crate) fn parse_hyphenated(text: &str) -> Result<Uuid, InvalidId> {
    let invalid = || InvalidId { given: text.chars().take(64).collect() };
    match text.len() {
        36 => Uuid::try_parse(text).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

/// Names one MFA device of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceRef {
    /// The environment it lives in.
    pub environment: EnvironmentId,
    /// The user it belongs to.
    pub user: UserId,
    /// The device itself.
    pub device: DeviceId,
}

impl DeviceId {
    /// The nil UUID, in place of a device: all devices of a user. Stands in jobs that list them, and nowhere else; neither PingOne
    /// nor a caller names a device so.
    pub const EVERY: Self = Self(Uuid::nil());
}

impl DeviceRef {
    /// All devices of a user.
    #[must_use]
    pub const fn every(environment: EnvironmentId, user: UserId) -> Self {
        Self { environment, user, device: DeviceId::EVERY }
    }

    /// Whether it stands for all devices of its user: a job for it lists them and changes nothing.
    #[must_use]
    pub fn is_every(&self) -> bool {
        self.device == DeviceId::EVERY
    }
}

/// How many lanes there are. Fixed for ever: it is part of every stored key and checked at start.
pub const LANES: i16 = 256;

/// A slice of the environments: the unit that replicas share out between them. Leads every key in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(i16);

impl Lane {
    /// Every lane there is.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..LANES).map(Self)
    }

    /// The lane of what is named so: the lowest byte of its SHA-256.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        Self(i16::from(Sha256::digest(name)[31]))
    }

    /// The lane of a number read from the store, whose constraint keeps it in range.
    #[must_use]
    pub const fn from_stored(number: i16) -> Self {
        Self(number)
    }

    /// Its number, from 0 to 255.
    #[must_use]
    pub const fn number(self) -> i16 {
        self.0
    }
}

impl EnvironmentId {
    /// The lane of this environment: the lowest byte of the SHA-256 of its sixteen bytes.
    #[must_use]
    pub fn lane(self) -> Lane {
        Lane::of(self.0.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVIRONMENT: &str = "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";

    #[test]
    fn only_hyphenated_uuids_are_ids() {
        assert_eq!(EnvironmentId::parse(ENVIRONMENT).map(|id| id.to_string()), Ok(ENVIRONMENT.to_owned()));
        for wrong in [
            "",
            "abfba8f6",
            "abfba8f649eb49f5a5d980ad5c98f9f6",
            "{abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6}",
            "abfba8f6-49eb-49f5-a5d9-80ad5c98f9fx",
            "../../../../etc/passwd-aaaaaaaaaaaaa",
        ] {
            assert!(EnvironmentId::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Stored keys begin with the lane, so its rule may never change.
    #[test]
    fn the_lane_of_an_environment_never_changes() {
        let lane = |text| EnvironmentId::parse(text).map(|id| id.lane().number());
        assert_eq!(lane(ENVIRONMENT), Ok(LANE_OF_EXAMPLE));
        assert_eq!(lane("00000000-0000-0000-0000-000000000000"), Ok(LANE_OF_NIL));
    }

    const LANE_OF_EXAMPLE: i16 = 141;
    const LANE_OF_NIL: i16 = 187;
}
