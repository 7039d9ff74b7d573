//! Reads single values: what each may be, and what to write instead.

use std::{net::SocketAddr, ops::RangeInclusive, str::FromStr, time::Duration};

use super::reader::Wrong;
use crate::duration;

/// What was given, cut short: it ends up in logs.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.trim().parse().map_err(|_| {
        let remedy = "write both, such as 127.0.0.1:50051 or [::1]:50051";
        Wrong(format!("{} is not an IP address and port", quoted(text)), remedy.to_owned())
    })
}

pub(super) fn truth(text: &str) -> Result<bool, Wrong> {
    one_of(&[("true", true), ("false", false)])(text)
}

/// One of several words.
pub(super) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, Wrong> {
    move |text| {
        let found = words.iter().find(|(word, _)| *word == text.trim());
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            Wrong(
                format!("{} means nothing here", quoted(text)),
                format!("write one of {}", words.join(", ")),
            )
        })
    }
}

/// A whole number in a range.
pub(super) fn count(range: RangeInclusive<u32>) -> impl Fn(&str) -> Result<u32, Wrong> {
    move |text| {
        number(text).filter(|count| range.contains(count)).ok_or_else(|| {
            let remedy = format!("write a whole number from {} to {}", range.start(), range.end());
            Wrong(format!("{} is out of range", quoted(text)), remedy)
        })
    }
}

/// A rate in requests per second: from 0.01 to 10000, or `unlimited`, which is infinite.
pub(super) fn rate(text: &str) -> Result<f64, Wrong> {
    if text.trim() == "unlimited" {
        return Ok(f64::INFINITY);
    }
    number(text).filter(|rate| (0.01..=10_000.0).contains(rate)).ok_or_else(|| {
        let remedy = "write requests per second from 0.01 to 10000, or unlimited";
        Wrong(format!("{} is out of range", quoted(text)), remedy.to_owned())
    })
}

/// A duration in a range.
pub(super) fn duration_in(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, Wrong> {
    move |text| {
        let (least, most) = (duration::write(*range.start()), duration::write(*range.end()));
        let remedy = format!("write a duration from {least} to {most}, such as {most}");
        match duration::parse(text) {
            Ok(given) if range.contains(&given) => Ok(given),
            Ok(_) => Err(Wrong(format!("{} is out of range", quoted(text)), remedy)),
            Err(_) => Err(Wrong(format!("{} is not a duration with its unit", quoted(text)), remedy)),
        }
    }
}

/// A Postgres URL. Quotes nothing of it: it may carry a password.
pub(super) fn postgres_url(text: &str) -> Result<(), Wrong> {
    let known = ["postgres://", "postgresql://"].iter().any(|scheme| text.trim().starts_with(scheme));
    let remedy = "write postgres://user@host:5432/database";
    if known { Ok(()) } else { Err(Wrong("not a Postgres URL".to_owned(), remedy.to_owned())) }
}

/// Whether a Postgres URL carries a password, before its host or as a parameter.
pub(super) fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let in_user = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters);
    in_user || parameters.split('&').any(|parameter| parameter.starts_with("password="))
}

/// Any text but nothing.
pub(super) fn non_empty(text: &str) -> Result<String, Wrong> {
    let text = text.trim();
    let wrong = || Wrong("empty".to_owned(), "give a value or leave it out".to_owned());
    if text.is_empty() { Err(wrong()) } else { Ok(text.to_owned()) }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_wherever_a_url_carries_them() {
        for url in [
            "postgres://u:p@h/d",
            "postgres://u:p@/d?host=/run",
            "postgres://h/d?sslmode=require&password=p",
            "postgres://u:p%40@h",
        ] {
            assert!(has_password(url), "{url}");
        }
        for url in [
            "postgres://h:5432/d",
            "postgres://u@h:5432/d",
            "postgres:///d?host=/run",
            "postgres://u@h/d?a=b:c@d",
        ] {
            assert!(!has_password(url), "{url}");
        }
    }
}
