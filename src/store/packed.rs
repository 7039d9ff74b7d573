//! PingOne's JSON as the store keeps it: compressed against what a device looks like, since most of it is the same for all, and then
//! encrypted, if it is to be.

use serde_json::{Map, Value};

use super::{
    StoreError,
    vault::{Opener, SEALED, Sealer},
};
use crate::{device::DeviceRef, job::JobId};

/// The first byte: JSON as it is.
const PLAIN: u8 = 0;
/// The first byte: LZ4 against [`likeness`] of the job's device, after the length of the JSON (four bytes).
const LIKE_A_DEVICE: u8 = 1;
/// Nothing that was stored is larger: PingOne's answers over 512 KiB are refused. Guards against a damaged length.
const LARGEST: usize = 4 * 1024 * 1024;

/// `raw`, an answer about `device` that `job` got, for the store.
pub(super) fn pack(
    sealer: &Sealer,
    device: &DeviceRef,
    job: JobId,
    raw: &Map<String, Value>,
) -> Result<Vec<u8>, StoreError> {
    let json = serde_json::to_vec(raw).expect("a JSON object has text keys only");
    let mut packed = vec![LIKE_A_DEVICE];
    packed.extend(lz4_flex::block::compress_prepend_size_with_dict(&json, likeness(device).as_bytes()));
    sealer.seal(device, job, packed)
}

/// The inverse of [`pack`].
///
/// # Errors
/// [`StoreError::Corrupt`] for what [`pack`] did not write.
pub(super) fn unpack(
    opener: &Opener,
    device: &DeviceRef,
    job: JobId,
    packed: &[u8],
) -> Result<Map<String, Value>, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("the answer that job {job} got: {what}"));
    let opened = match packed.first() {
        Some(&SEALED) => {
            opener.open(device, job, packed).ok_or_else(|| corrupt("it was changed, or is another's"))?
        }
        _ => packed.to_vec(),
    };
    let json = match opened.split_first() {
        Some((&PLAIN, json)) => json.to_vec(),
        Some((&LIKE_A_DEVICE, [a, b, c, d, compressed @ ..])) => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            if length > LARGEST {
                return Err(corrupt("its length cannot be"));
            }
            lz4_flex::block::decompress_with_dict(compressed, length, likeness(device).as_bytes())
                .map_err(|error| corrupt(&error.to_string()))?
        }
        _ => return Err(corrupt("no known format")),
    };
    serde_json::from_slice(&json).map_err(|error| corrupt(&error.to_string()))
}

/// What PingOne's answer about `device` most likely holds. Never to be changed: what is stored can only be read with it. What
/// PingOne sends differently is only less well compressed.
fn likeness(device: &DeviceRef) -> String {
    let DeviceRef { environment, user, device } = device;
    let base = format!("https://api.pingone.com/v1/environments/{environment}");
    format!(
        concat!(
            r#"EMAIL","VOICE","WHATSAPP","TOTP","MOBILE","FIDO2","nickname":"","blockedAt":"2026-01-01T00:00:00.000Z","#,
            r#""lock":{{"expiresAt":"2026-01-01T00:00:00.000Z","reason":"OTP","status":"LOCKED"}},"email":"@example.com","#,
            r#"{{"_links":{{"environment":{{"href":"{base}"}},"self":{{"href":"{base}/users/{user}/devices/{device}"}},"#,
            r#""user":{{"href":"{base}/users/{user}"}}}},"block":{{"status":"UNBLOCKED"}},"createdAt":"2026-01-01T00:00:00.000Z","#,
            r#""environment":{{"id":"{environment}"}},"id":"{device}","lock":{{"status":"UNLOCKED"}},"phone":"+1","#,
            r#""status":"ACTIVE","testMode":false,"type":"SMS","updatedAt":"2026-01-01T00:00:00.000Z","user":{{"id":"{user}"}}}}"#,
        ),
        base = base,
        environment = environment,
        user = user,
        device = device,
    )
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use serde_json::json;

    use super::*;
    use crate::device::{DeviceId, EnvironmentId, UserId};

    fn device() -> Result<DeviceRef, Box<dyn Error>> {
        Ok(DeviceRef {
            environment: EnvironmentId::parse("abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6")?,
            user: UserId::parse("b30ac647-e33e-464f-a6ea-0275082d4c26")?,
            device: DeviceId::parse("6697f628-7712-4e71-b52b-920ba0635020")?,
        })
    }

    fn job() -> JobId {
        JobId::from(uuid::Uuid::nil())
    }

    fn packed(raw: &Map<String, Value>) -> Result<Vec<u8>, Box<dyn Error>> {
        Ok(pack(&Sealer::default(), &device()?, job(), raw)?)
    }

    fn unpacked(packed: &[u8]) -> Result<Map<String, Value>, Box<dyn Error>> {
        Ok(unpack(&Opener::default(), &device()?, job(), packed)?)
    }

    fn object(value: &Value) -> Result<Map<String, Value>, Box<dyn Error>> {
        Ok(value.as_object().ok_or("not an object")?.clone())
    }

    #[test]
    fn what_pingone_documents_packs_small_and_comes_back_whole() -> Result<(), Box<dyn Error>> {
        let base = "https://api.pingone.eu/v1/environments/abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6";
        let raw = object(&json!({
            "_links": {
                "self": { "href": format!("{base}/users/b30ac647-e33e-464f-a6ea-0275082d4c26/devices/6697f628-7712-4e71-b52b-920ba0635020") },
                "environment": { "href": base },
                "user": { "href": format!("{base}/users/b30ac647-e33e-464f-a6ea-0275082d4c26") },
            },
            "id": "6697f628-7712-4e71-b52b-920ba0635020",
            "environment": { "id": "abfba8f6-49eb-49f5-a5d9-80ad5c98f9f6" },
            "user": { "id": "b30ac647-e33e-464f-a6ea-0275082d4c26" },
            "type": "SMS", "lock": { "status": "UNLOCKED" }, "block": { "status": "UNBLOCKED" }, "status": "ACTIVE",
            "createdAt": "2022-09-22T13:07:15.115Z", "updatedAt": "2022-11-20T15:52:58.519Z", "phone": "+14135550150",
            "testMode": true,
        }))?;
        let packed = packed(&raw)?;
        assert!(packed.len() < 200, "{} bytes", packed.len());
        assert_eq!(unpacked(&packed)?, raw);
        Ok(())
    }

    #[test]
    fn anything_else_comes_back_too() -> Result<(), Box<dyn Error>> {
        for raw in [
            json!({}),
            json!({ "a": "\u{fffd}é\"", "n": [1, 2.5, null] }),
            json!({ "x": "y".repeat(100_000) }),
        ] {
            let raw = object(&raw)?;
            assert_eq!(unpacked(&packed(&raw)?)?, raw);
        }
        assert_eq!(unpacked(b"\0{\"id\": \"1\"}")?, object(&json!({ "id": "1" }))?);
        Ok(())
    }

    #[test]
    fn numbers_come_back_to_the_last_digit() -> Result<(), Box<dyn Error>> {
        let raw =
            serde_json::from_str(r#"{ "n": [104846744073709551615, 0.1, 5e-324, 18446744073709551615] }"#)?;
        assert_eq!(unpacked(&packed(&raw)?)?, raw);
        Ok(())
    }

    #[test]
    fn what_is_damaged_is_an_error() -> Result<(), Box<dyn Error>> {
        for damaged in [
            &b""[..],
            b"\x07{}",
            b"\x01\xff\xff\xff\xff",
            b"\x01\x04\0\0\0abc",
            b"\0[1]",
            b"\0{",
            b"\x02",
            &[2; 60],
        ] {
            assert!(unpacked(damaged).is_err(), "{damaged:?}");
        }
        Ok(())
    }
}
