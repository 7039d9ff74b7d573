//! Fuzzing: what is read back from the store, and the tokens of pages, which come back from callers.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    EnvironmentsToken, JobFilter, PageToken,
    packed::{pack, unpack},
    vault::{Opener, Sealer},
};
use crate::{
    batch::BatchNumber,
    device::{DeviceId, DeviceRef, EnvironmentId, UserId},
    job::JobId,
};

/// Whatever stands in the column is an object or an error, and what is packed comes back as it was.
pub(crate) fn packed(data: &[u8]) {
    let device = device(1);
    if let Ok(raw) = unpack(&Opener::default(), &device, job(), data) {
        comes_back(&device, &raw);
    }
    if let Ok(raw) = serde_json::from_slice(data) {
        comes_back(&device, &raw);
    }
}

fn comes_back(device: &DeviceRef, raw: &Map<String, Value>) {
    let packed = pack(&Sealer::default(), device, job(), raw).expect("nothing is encrypted");
    let again = unpack(&Opener::default(), device, job(), &packed);
    assert!(again.as_ref().is_ok_and(|again| again == raw), "{raw:?} came back as {again:?}");
}

fn job() -> JobId {
    JobId::from(Uuid::nil())
}

/// A token is read only as it was written, and only for the filters it was given out for.
pub(crate) fn page_token(data: &[u8]) {
    let (own, other) = (filter(1), filter(2));
    if let Ok(text) = std::str::from_utf8(data) {
        let token = PageToken::parse(text, &own);
        assert!(token.is_none_or(|token| token.to_string() == text));
        assert!(token.is_none() || PageToken::parse(text, &other).is_none());
        assert!(EnvironmentsToken::parse(text).is_none_or(|token| token.to_string() == text));
    }
    if let Some((id, _)) = data.split_first_chunk::<16>() {
        let token = PageToken::new(Uuid::from_bytes(*id), &own);
        assert_eq!(PageToken::parse(&token.to_string(), &own), Some(token));
        assert_eq!(PageToken::parse(&token.to_string(), &other), None);
    }
}

fn filter(number: u128) -> JobFilter {
    let DeviceRef { environment, user, device } = device(number);
    JobFilter {
        environment,
        user: Some(user),
        device: Some(device),
        states: Vec::new(),
        created_after: None,
        created_before: None,
        caller: None,
        ticket: None,
        batch: Some(BatchNumber::from_stored(2)),
    }
}

fn device(number: u128) -> DeviceRef {
    DeviceRef {
        environment: EnvironmentId::from(Uuid::from_u128(number)),
        user: UserId::from(Uuid::from_u128(2)),
        device: DeviceId::from(Uuid::from_u128(3)),
    }
}
