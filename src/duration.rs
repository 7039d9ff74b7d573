//! Lengths of time as people write them: `500ms`, `90s`, `15m`, `24h`, `7d`. Shared by the configuration, policies and the admin
//! port.

use std::time::Duration;

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a duration; write a whole number and a unit, such as 500ms, 90s, 15m, 24h or 7d")]
pub struct InvalidDuration {
    given: String,
}

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];

/// Reads a whole number followed by its unit: `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`InvalidDuration`] for anything else, also for a number without a unit.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let milliseconds = number.parse::<u64>().ok().and_then(|number| {
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        number.checked_mul(factor)
    });
    milliseconds
        .map(Duration::from_millis)
        .ok_or_else(|| InvalidDuration { given: text.chars().take(64).collect() })
}

/// Writes `duration` the way [`parse`] reads it, in the largest unit that leaves a whole number; cuts off less than a
/// millisecond.
#[must_use]
pub fn write(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let (name, factor) = UNITS
        .into_iter()
        .rev()
        .find(|(_, factor)| milliseconds > 0 && milliseconds.is_multiple_of(u128::from(*factor)))
        .unwrap_or(("s", 1_000));
    format!("{}{name}", milliseconds / u128::from(factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        for (text, milliseconds) in
            [("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("24h", 86_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(parse(&format!(" {text}\n")), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn anything_else_is_not() {
        for text in ["", "s", "10", "-1s", "+1s", "1.5s", "1 s", "1S", "1min", "1h30m", "99999999999999999d"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_written_in_the_largest_whole_unit() {
        for text in ["0s", "500ms", "90s", "15m", "36h", "7d"] {
            assert_eq!(parse(text).map(write), Ok(text.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(milliseconds: u32) {
            let duration = Duration::from_millis(u64::from(milliseconds));
            prop_assert_eq!(parse(&write(duration)), Ok(duration));
        }
    }
}
