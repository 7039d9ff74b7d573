//! What is said and printed once a job was followed to its end, or as far as time allowed.

use time::OffsetDateTime;

use super::{
    advice,
    error::{Error, printed},
    exit::Exit,
    follow::Followed,
    json,
    screen::{Hue, Screen},
    server::ServerOptions,
    table,
};
use crate::proto::v1::{Device, Job, job::State};

/// Whether nothing more will happen to the job by itself.
pub(super) fn is_final(job: &Job) -> bool {
    match State::try_from(job.state) {
        Ok(State::Succeeded | State::Failed | State::Cancelled | State::Expired) => true,
        Ok(State::Unspecified | State::Pending | State::Running) | Err(_) => false,
    }
}

/// Tells how following the job ended.
pub(super) fn tell(
    screen: &Screen,
    server: &ServerOptions,
    job_id: &str,
    followed: &Followed,
    allowed: Option<std::time::Duration>,
) -> Exit {
    let job = match followed {
        Followed::Final(job) => job,
        Followed::TimeUp(job) => {
            let state = job.as_deref().map_or_else(|| "not seen".to_owned(), table::state_name);
            let within = allowed.map(|allowed| format!(" after {}", printed(allowed))).unwrap_or_default();
            let sentence = format!("still {state}{within}; the job goes on");
            screen.headline(Hue::Attention, "timed out:", &sentence);
            screen.detail("job", job_id);
            screen.detail_command("look again", &server.again(&format!("job watch {job_id}")));
            return Exit::Pending;
        }
    };
    if job.state == i32::from(State::Succeeded) {
        job.device.iter().for_each(|device| note_lock(screen, device));
        return Exit::Done;
    }
    failure(screen, job);
    Exit::Failed
}

/// Says that an unblocked device still refuses its user, where that is so.
pub(super) fn note_lock(screen: &Screen, device: &Device) {
    if device.block_status != "UNBLOCKED" || device.lock_status != "LOCKED" {
        return;
    }
    match device.lock_expire_time {
        Some(at) if table::instant(at).is_some_and(|at| at <= OffsetDateTime::now_utc()) => {}
        Some(at) => {
            let until = table::long_time(at);
            note(screen, &format!("the device is unblocked but still locked until {until}"));
            screen.detail("why", "failed attempts locked it; it refuses its user until then");
        }
        None => note(screen, "the device is unblocked but still locked; that ends by itself"),
    }
}

/// Says what is no error but worth knowing.
pub(super) fn note(screen: &Screen, sentence: &str) {
    screen.headline(Hue::Attention, "note:", sentence);
}

/// Says that the job goes on although this program ends here.
pub(super) fn interrupted(screen: &Screen, server: &ServerOptions, job_id: &str) -> Exit {
    screen.headline(Hue::Attention, "interrupted:", "the job goes on");
    screen.detail_command("look again", &server.again(&format!("job watch {job_id}")));
    Exit::Interrupted
}

/// Prints the job, or in a table what `shown` makes of it. A reader that went away does not change how it ended.
///
/// # Errors
/// [`Error::Output`] when the output can not be written.
pub(super) fn print(screen: &Screen, job: &Job, shown: impl FnOnce(&Job) -> String) -> Result<(), Error> {
    let printed =
        if screen.is_json() { screen.print_json(&json::job(job)) } else { screen.print(&shown(job)) };
    match printed {
        Err(error) if error.is_closed_output() => Ok(()),
        other => other,
    }
}

fn failure(screen: &Screen, job: &Job) {
    let state = table::state_name(job);
    let error = job.error.clone().unwrap_or_default();
    let why = if error.message.is_empty() { String::new() } else { format!(": {}", error.message) };
    screen.headline(Hue::Bad, "error:", &format!("the job ended {state}{why}"));
    let status = if error.http_status == 0 { String::new() } else { error.http_status.to_string() };
    let details = [
        ("job", &job.job_id),
        ("reason", &error.reason),
        ("http", &status),
        ("code", &error.pingone_code),
        ("pingone", &error.pingone_id),
        ("correlation", &error.correlation_id),
    ];
    for (label, text) in details {
        if !text.is_empty() {
            screen.detail(label, text);
        }
    }
    let next = match State::try_from(job.state) {
        Ok(State::Cancelled) => "nothing: somebody took the request back; `job get` shows what is known",
        _ => advice::for_job(&error.reason),
    };
    screen.detail("next", next);
}
