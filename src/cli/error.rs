//! What can go wrong in a client command: one sentence, one exit code, and what to do next.

use std::{error::Error as _, io, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::config::ConfigError;

use super::{
    advice,
    exit::Exit,
    screen::{Hue, Screen, printable},
    tls,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("can not connect to {server}: {cause}")]
    Connect { server: String, cause: String },
    #[error("no answer within {}", printed(*.0))]
    NoAnswer(Duration),
    #[error("{}", sentence(.0))]
    Refused(Box<Status>),
    #[error("the output can not be written: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// What is configured cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// What is configured does not answer.
    #[error("{0}")]
    Unreachable(String),
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// What went wrong on this side, with its causes.
    pub(super) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self::Failed(format!("{:#}", error.into()))
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Connect { .. } | Self::NoAnswer(_) => Exit::Unreachable,
            Self::Refused(status) if came_from_transport(status) => Exit::Unreachable,
            Self::Refused(status) => of_code(status.code()),
            Self::Output(_) if self.is_closed_output() => Exit::Done,
            Self::Output(_) | Self::Failed(_) => Exit::Failed,
            Self::Configuration(_) | Self::Unusable(_) => Exit::Configuration,
            Self::Unreachable(_) => Exit::Unreachable,
        }
    }

    /// Whether only the reader went away, as `head` does when it has seen enough.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Says on stderr what went wrong, with everything the server gave to understand it, and what to do next.
    pub(crate) fn tell(&self, screen: &Screen) {
        if self.is_closed_output() {
            return;
        }
        let said = self.to_string();
        let mut lines = said.lines();
        screen.headline(Hue::Bad, "error:", lines.next().unwrap_or_default());
        // Only what this side says has more: the mistakes of a configuration, the ways out.
        let own = matches!(self, Self::Configuration(_) | Self::Failed(_) | Self::Unusable(_));
        lines.filter(|_| own).for_each(|line| screen.say(&printable(line)));
        let mut next = None;
        match self {
            Self::Refused(status) => {
                details(status).iter().for_each(|(label, text)| screen.detail(label, text));
                next = advice::for_status(status);
            }
            Self::Connect { .. } => next = Some(advice::FOR_NO_SERVER.to_owned()),
            Self::NoAnswer(_) => next = Some(advice::FOR_NO_ANSWER.to_owned()),
            Self::Usage(_) | Self::Output(_) | Self::Failed(_) => {}
            Self::Configuration(_) | Self::Unusable(_) | Self::Unreachable(_) => {}
        }
        if let Some(next) = next {
            screen.detail("next", &next);
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Whether the connection gave out, rather than the server answer: only a status made on this side carries a source.
pub(super) fn came_from_transport(status: &Status) -> bool {
    status.source().is_some()
}

/// A duration as people write it: `250ms`, `1.5s`, `2m 5s`.
pub(super) fn printed(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 if duration.subsec_millis() >= 50 => format!("{:.1}s", duration.as_secs_f64()),
        1..60 => format!("{seconds}s"),
        60..3600 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ if seconds % 3600 < 60 => format!("{}h", seconds / 3600),
        _ => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

fn of_code(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Done,
        Code::InvalidArgument => Exit::Usage,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unreachable,
        Code::Unauthenticated | Code::PermissionDenied => Exit::NotPermitted,
        Code::Cancelled
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Exit::Failed,
    }
}

fn sentence(status: &Status) -> String {
    if came_from_transport(status) {
        return format!("the connection to the server gave out: {}", innermost(status));
    }
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}

/// What made the connection give out.
pub(super) fn innermost(status: &Status) -> String {
    if let Some(words) = tls::in_words(status) {
        return words;
    }
    let mut cause: &dyn std::error::Error = status;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// What the status carries beside its sentence, as label and text.
fn details(status: &Status) -> Vec<(String, String)> {
    let given = status.get_error_details();
    let mut lines = Vec::new();
    let mut line = |label: &str, text: &str| lines.push((label.to_owned(), text.to_owned()));
    if let Some(info) = given.error_info() {
        line("reason", &info.reason);
    }
    for field in given.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default() {
        line("field", &format!("{}: {}", field.field, field.description));
    }
    if let Some(info) = given.error_info() {
        let mut more: Vec<_> = info.metadata.iter().collect();
        more.sort();
        more.into_iter().for_each(|(key, value)| line(key, value));
    }
    if let Some(request) = given.request_info() {
        line("request", &request.request_id);
    }
    if let Some(trace) = status.metadata().get("traceparent").and_then(|trace| trace.to_str().ok()) {
        line("trace", trace);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let cases = [(250, "250ms"), (1000, "1s"), (1500, "1.5s"), (60_000, "1m"), (125_000, "2m 5s")];
        for (millis, text) in cases {
            assert_eq!(printed(Duration::from_millis(millis)), text);
        }
        assert_eq!(printed(Duration::from_secs(3600)), "1h");
        assert_eq!(printed(Duration::from_secs(9000)), "2h 30m");
    }

    #[test]
    fn every_code_has_its_exit() {
        assert_eq!(of_code(Code::InvalidArgument), Exit::Usage);
        assert_eq!(of_code(Code::Unavailable), Exit::Unreachable);
        assert_eq!(of_code(Code::Unauthenticated), Exit::NotPermitted);
        assert_eq!(of_code(Code::PermissionDenied), Exit::NotPermitted);
        assert_eq!(of_code(Code::NotFound), Exit::Failed);
    }
}
