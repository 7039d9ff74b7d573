//! `Retry-After`: how long PingOne asks to wait. Never less than it said, never more than an hour at a time.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

/// Longer waits are waited for in parts, with a probe after each: a wrong header must not stop an environment for days.
const LONGEST: Duration = Duration::from_secs(3600);

/// The wait asked for, in whole seconds rounded up; nothing where there is none, it is over, or it is not understood.
/// A date counts from the answer's own `Date` where it has one, so that our clock may be wrong.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let said_at = headers.get(DATE).and_then(date).unwrap_or(now);
    let wait = |value| seconds(value).or_else(|| Some(until(date(value)?, said_at)));
    let longest = headers.get_all(RETRY_AFTER).iter().filter_map(wait).max()?;
    (!longest.is_zero()).then_some(longest.min(LONGEST))
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.starts_with(|first: char| first.is_ascii_digit())
        || !text.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        return None;
    }
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds.ceil()).ok().or(Some(LONGEST))
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()
}

fn until(then: SystemTime, now: SystemTime) -> Duration {
    let wait = then.duration_since(now).unwrap_or_default();
    let rounded = if wait.subsec_nanos() > 0 { 1 } else { 0 };
    Duration::from_secs(wait.as_secs().saturating_add(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    const NOON: Duration = Duration::from_secs(1_767_355_200);

    fn asked(value: &str) -> Result<Option<Duration>, Box<dyn Error>> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse()?);
        Ok(retry_after(&headers, SystemTime::UNIX_EPOCH + NOON))
    }

    #[test]
    fn seconds_and_dates_are_read_and_anything_else_is_not() -> Result<(), Box<dyn Error>> {
        for (written, meant) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", None),
            ("1.2", Some(2)),
            ("3601", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("Fri, 02 Jan 2026 12:00:09 GMT", Some(9)),
            ("Fri, 02 Jan 2026 11:59:59 GMT", None),
            ("Sat, 02 Jan 2027 12:00:00 GMT", Some(3600)),
            ("soon", None),
            ("-5", None),
            ("", None),
            ("1e3", None),
            ("NaN", None),
        ] {
            assert_eq!(asked(written)?, meant.map(Duration::from_secs), "{written:?}");
        }
        Ok(())
    }

    #[test]
    fn a_wait_until_a_date_is_rounded_up() -> Result<(), Box<dyn Error>> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "Fri, 02 Jan 2026 12:00:09 GMT".parse()?);
        let just_after_noon = SystemTime::UNIX_EPOCH + NOON + Duration::from_millis(1);
        assert_eq!(retry_after(&headers, just_after_noon), Some(Duration::from_secs(9)));
        Ok(())
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_answer() -> Result<(), Box<dyn Error>> {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Fri, 02 Jan 2026 12:00:00 GMT".parse()?);
        headers.insert(RETRY_AFTER, "Fri, 02 Jan 2026 12:00:09 GMT".parse()?);
        let fast_clock = SystemTime::UNIX_EPOCH + NOON + Duration::from_secs(60);
        assert_eq!(retry_after(&headers, fast_clock), Some(Duration::from_secs(9)));
        Ok(())
    }

    #[test]
    fn of_two_waits_the_longer_counts() -> Result<(), Box<dyn Error>> {
        let mut headers = HeaderMap::new();
        headers.append(RETRY_AFTER, "2".parse()?);
        headers.append(RETRY_AFTER, "5".parse()?);
        assert_eq!(retry_after(&headers, SystemTime::UNIX_EPOCH), Some(Duration::from_secs(5)));
        Ok(())
    }
}
