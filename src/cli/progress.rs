//! The states of a job as they come, on stderr: a line each, of which a terminal sees the last one grow older.

use std::time::{Duration, Instant};

use super::{
    error::printed,
    screen::{Screen, printable},
    table::{hue_of, state_name},
};
use crate::proto::v1::{self, job::State};

pub(super) struct Progress<'a> {
    screen: &'a Screen,
    started: Instant,
    current: Option<v1::Job>,
}

impl<'a> Progress<'a> {
    pub(super) fn start(screen: &'a Screen) -> Self {
        Self { screen, started: Instant::now(), current: None }
    }

    /// The job changed.
    pub(super) fn change(&mut self, job: &v1::Job) {
        if self.screen.live() {
            self.end_line();
            self.current = Some(job.clone());
            self.tick();
        } else {
            let line = self.line(job, usize::MAX);
            self.screen.say(&line);
        }
    }

    /// Time passed.
    pub(super) fn tick(&self) {
        if let Some(job) = &self.current {
            // One column stays free: a terminal that fills its last one begins a new line.
            let room = usize::from(self.screen.width()).saturating_sub(1);
            self.screen.draw(&format!("\r\x1b[K{}", self.line(job, room)));
        }
    }

    /// Something else is about to be said.
    pub(super) fn end_line(&mut self) {
        if self.current.take().is_some() {
            self.screen.draw("\n");
        }
    }

    fn line(&self, job: &v1::Job, room: usize) -> String {
        let state = format!("{:<10}", state_name(job));
        let rest = format!("{:>6.1}s  {}", self.started.elapsed().as_secs_f64(), printable(&detail(job)));
        let rest = shortened(rest.trim_end(), room.saturating_sub(state.chars().count()));
        match hue_of(job) {
            Some(hue) => format!("{}{rest}", self.screen.paint(hue, &state)),
            None => format!("{state}{rest}"),
        }
    }
}

impl Drop for Progress<'_> {
    /// Whatever comes next begins a line of its own, also after an interrupt.
    fn drop(&mut self) {
        self.end_line();
    }
}

/// What there is to say of a state, beside its name.
fn detail(job: &v1::Job) -> String {
    let error = job.error.as_ref().map(|error| error.reason.as_str()).unwrap_or_default();
    match State::try_from(job.state) {
        Ok(State::Running) => "asking PingOne".to_owned(),
        Ok(State::Pending) => {
            let attempt = match (job.attempt_count, error) {
                (_, "") => String::new(),
                (0, error) => error.to_owned(),
                (count, error) => format!("{error} at attempt {count} of {}", job.max_attempts),
            };
            // A narrow terminal cuts the end off: what `job get` shows as well comes last.
            let parts = [until_next(job), job.waiting_for.clone(), attempt];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
        }
        Ok(State::Failed | State::Expired) => error.to_owned(),
        Ok(State::Unspecified | State::Succeeded | State::Cancelled) | Err(_) => String::new(),
    }
}

fn until_next(job: &v1::Job) -> String {
    let next = job.next_attempt_time.and_then(super::table::instant);
    let wait =
        next.map(|at| at - time::OffsetDateTime::now_utc()).and_then(|wait| Duration::try_from(wait).ok());
    match wait {
        Some(wait) if wait >= Duration::from_secs(1) => {
            format!("next attempt in {}", printed(Duration::from_secs(wait.as_secs())))
        }
        _ => String::new(),
    }
}

pub(super) fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_job_says_what_went_wrong_and_what_it_waits_for() {
        let job = v1::Job {
            state: State::Pending.into(),
            attempt_count: 2,
            max_attempts: 10,
            error: Some(v1::JobError {
                reason: "UPSTREAM_UNAVAILABLE".to_owned(),
                ..v1::JobError::default()
            }),
            waiting_for: "its next attempt".to_owned(),
            ..v1::Job::default()
        };
        assert_eq!(detail(&job), "its next attempt; UPSTREAM_UNAVAILABLE at attempt 2 of 10");
    }

    #[test]
    fn long_lines_are_cut_to_the_room_there_is() {
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("abc", 4), "abc");
    }
}
