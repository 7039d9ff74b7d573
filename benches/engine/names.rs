//! The environments, users and devices of the benchmark.

use uuid::Uuid;

/// The environment of that number: the same in every run, so that runs meet the same lanes.
pub(crate) fn environment(number: u64) -> Uuid {
    named(1, number)
}

/// The user of every job, unless a scenario has another.
pub(crate) fn user() -> Uuid {
    named(2, 0)
}

/// The user whose jobs the simulator watches.
pub(crate) fn watched_user() -> Uuid {
    named(2, 1)
}

/// A device like no other: two jobs of one device would share a request.
pub(crate) fn device() -> Uuid {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid()
}

fn named(kind: u128, number: u64) -> Uuid {
    let bytes = 0xbe0c_0000_0000_0000_0000_0000_0000_0000_u128 | (kind << 64) | u128::from(number);
    uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid()
}
