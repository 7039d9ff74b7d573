//! Fuzzing: what callers send beside and in a message.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use tonic::Code;

use super::{
    batch_service, deadline,
    fields::{Fields, ON_BEHALF_OF_AT_MOST, REASON_AT_MOST, TICKET_AT_MOST},
};
use crate::{proto::v1, telemetry::TracePoint};

/// Every value of `grpc-timeout` and `traceparent`, and every token of a page of batches.
pub(crate) fn call_metadata(data: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(data) {
        let mut headers = HeaderMap::new();
        headers.insert(deadline::NAME, value);
        let timeout = deadline::parse(&headers);
        // Eight digits of hours.
        assert!(timeout.is_none_or(|timeout| timeout <= Duration::from_secs(99_999_999 * 3600)));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(point) = TracePoint::parse(text) {
        let written = point.trace_parent();
        assert_eq!(TracePoint::parse(&written), Some(point), "{written}");
    }
    if let Some(number) = batch_service::token(text) {
        let written = format!("batches-{}", number.number());
        assert_eq!(batch_service::token(&written), Some(number));
    }
}

/// Every request is understood within its bounds, or refused with each field that is wrong.
pub(crate) fn unblock_request(data: &[u8]) {
    let Ok(given) = v1::UnblockRequest::decode(data) else { return };
    let mut fields = Fields::default();
    let device = fields.device_ref("device_ref", given.device_ref);
    let request_id = fields.request_id(given.request_id);
    let texts = [
        (fields.text("reason", given.reason, REASON_AT_MOST), REASON_AT_MOST),
        (fields.text("ticket", given.ticket, TICKET_AT_MOST), TICKET_AT_MOST),
        (fields.text("on_behalf_of", given.on_behalf_of, ON_BEHALF_OF_AT_MOST), ON_BEHALF_OF_AT_MOST),
    ];
    fields.priority(given.priority);
    let life = fields.time_to_live("time_to_live", given.time_to_live);
    fields.duration("wait", given.wait);
    match fields.done(device) {
        Ok(device) => {
            let written = device.device.to_string();
            assert!(
                written.len() == 36 && written.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
            );
            assert!(request_id.is_none_or(|id| (1..=128).contains(&id.chars().count())));
            assert!(
                texts
                    .iter()
                    .all(|(text, most)| text.chars().count() <= *most && !text.contains(char::is_control))
            );
            assert!(life.is_none_or(|life| !life.is_zero() && life <= Duration::from_secs(7 * 24 * 3600)));
        }
        Err(status) => {
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.details().len() <= 16 * 1024, "{} bytes of details", status.details().len());
        }
    }
}
